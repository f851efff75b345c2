"""MeaConfig: config.json of an MEA checkpoint, for Hugging Face transformers.

The fields of the family that the layers are of (`base_model_type`) mean what they mean there, defaults included;
`head_composition` is described in engine/checkpoint/README.md of mea.
"""

import dataclasses

from transformers import CONFIG_MAPPING, PreTrainedConfig

BASE_MODELS = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")
HEAD_COMPOSITION_FIELDS = {
    "kind", "num_component_key_heads", "num_component_value_heads", "head_norm", "head_norm_eps"
}  # fmt: skip
# Arguments that PreTrainedConfig takes for itself; everything else belongs to the family.
GENERIC_ARGUMENTS = ("name_or_path", "attn_implementation", "experts_implementation", "output_attentions")


class MeaConfig(PreTrainedConfig):
    model_type = "mea"
    keys_to_ignore_at_inference = ["past_key_values"]

    base_model_type: str = "llama"
    head_composition: dict | None = None

    def __post_init__(self, **kwargs):
        if self.base_model_type not in BASE_MODELS:
            raise ValueError(
                f"base_model_type: expected one of {', '.join(BASE_MODELS)}, found {self.base_model_type!r}"
            )
        for name, value in self._family_fields(kwargs).items():
            setattr(self, name, value)
        # What the tensors of a checkpoint decide, not its config.json: `MeaForCausalLM.from_pretrained` fills these in.
        self.absent_mixes = []  # names of W_lc tensors that are left out, the identity
        self.head_norm_size = None  # elements of head_norm.weight; None: head_dim, shared by the heads
        self._check_head_composition()
        super().__post_init__(**{name: kwargs[name] for name in GENERIC_ARGUMENTS if name in kwargs})

    def _family_fields(self, kwargs):
        """What transformers' own configuration of the family makes of the same file."""
        family = CONFIG_MAPPING[self.base_model_type]
        arguments = {name: value for name, value in kwargs.items() if name != "model_type"}
        # A subclass, as transformers validates its own classes alone: Llama's insists that num_attention_heads divides
        # hidden_size, which head_dim makes needless.
        base = type(family.__name__, (family,), {"__module__": __name__})(**arguments)
        if self.dtype is None:
            self.dtype = base.dtype
        ours = {field.name for field in dataclasses.fields(PreTrainedConfig)}
        fields = {name: value for name, value in vars(base).items() if name not in ours and not name.startswith("_")}
        for public, stored in base.attribute_map.items():  # qwen3_moe: num_experts is kept as num_local_experts
            fields[public] = getattr(base, stored)
        if getattr(base, "head_dim", None) is None:
            fields["head_dim"] = base.hidden_size // base.num_attention_heads
        return fields

    def _check_head_composition(self):
        composition = self.head_composition
        if composition is None:
            return

        def refuse(field, expected, found):
            raise ValueError(f"head_composition.{field}: expected {expected}, found {found!r}")

        if composition.get("kind") != "mea":
            refuse("kind", '"mea"', composition.get("kind"))
        for field in sorted(set(composition) - HEAD_COMPOSITION_FIELDS):
            refuse(field, "no such field", composition[field])
        if composition.get("head_norm", "none") not in ("rms", "none"):
            refuse("head_norm", '"rms" or "none"', composition["head_norm"])
        for field in ("num_component_key_heads", "num_component_value_heads"):
            counts = composition.get(field)
            per_layer = counts if isinstance(counts, list) else [counts] * self.num_hidden_layers
            if len(per_layer) != self.num_hidden_layers:
                refuse(field, f"one entry per layer ({self.num_hidden_layers})", counts)
            if not all(isinstance(n, int) and 1 <= n <= self.num_key_value_heads for n in per_layer):
                refuse(field, f"integers in 1..{self.num_key_value_heads}", counts)

    def component_heads(self, layer):
        """(h'_K, h'_V) of a layer: the heads that are projected and cached."""
        if self.head_composition is None:
            return self.num_key_value_heads, self.num_key_value_heads
        fields = (self.head_composition[f"num_component_{which}_heads"] for which in ("key", "value"))
        return tuple(field[layer] if isinstance(field, list) else field for field in fields)

    def to_dict(self):
        fields = super().to_dict()
        for name in ("absent_mixes", "head_norm_size"):
            fields.pop(name, None)
        return fields
