"""MeaForCausalLM: an MEA checkpoint (multi-head explicit attention, arXiv 2601.19611) in Hugging Face transformers.

    AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)

The decoder is transformers' own of the family (llama, mistral, mixtral, qwen2, qwen3, qwen3_moe); only its attention's keys and
values change: h' component heads are projected and cached, W_lc [h', h] composes them into the h heads that the
attention kernels see. The cache holds what mea's server holds: component heads after RoPE and, where the family
normalises keys, one scalar per token and virtual head.
"""

import inspect
import json
from collections.abc import Callable

import torch
from safetensors import safe_open
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaModel, apply_rotary_pos_emb, eager_attention_forward
from transformers.models.mistral.modeling_mistral import MistralModel
from transformers.models.mixtral.modeling_mixtral import MixtralModel
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from .configuration_mea import MeaConfig

# transformers 5.24 gave the argument another name.
CACHE = "cache" if "cache" in inspect.signature(LlamaModel.forward).parameters else "past_key_values"


class HeadMix(nn.Module):
    """W_lc [h', h] as the paper writes it: composes component heads into virtual heads."""

    def __init__(self, components, heads):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(components, heads))

    def forward(self, component):
        """[batch, h', tokens, d] -> [batch, h, tokens, d]"""
        return torch.einsum("bcnd,ch->bhnd", component, self.weight)


class HeadRMSNorm(nn.Module):
    """RMSNorm over head_dim of each head's output; the gain is shared by the heads [d] or each head's own [H * d]."""

    def __init__(self, size, head_dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.head_dim, self.eps = head_dim, eps

    def forward(self, heads):
        """[batch, tokens, H, d]"""
        wide = heads.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight.view(-1, self.head_dim) * wide.to(heads.dtype)


class MeaAttention(nn.Module):
    """Takes the place of the family's attention, and its queries, output projection, biases and norms with it."""

    def __init__(self, config, layer_idx, plain):
        super().__init__()
        self.config, self.layer_idx, self.head_dim = config, layer_idx, plain.head_dim
        self.num_key_value_groups, self.scaling, self.is_causal = plain.num_key_value_groups, plain.scaling, True
        self.attention_dropout = config.attention_dropout
        self.sliding_window = _window(config, layer_idx)

        d, (keys, values) = self.head_dim, config.component_heads(layer_idx)
        bias = plain.k_proj.bias is not None
        self.q_proj = plain.q_proj
        self.k_proj = nn.Linear(config.hidden_size, keys * d, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, values * d, bias=bias)
        self.o_proj = plain.o_proj
        self.q_norm, self.k_norm = getattr(plain, "q_norm", None), getattr(plain, "k_norm", None)
        self.k_hlc, self.v_hlc = self._mix("k_hlc", keys), self._mix("v_hlc", values)
        composition = config.head_composition or {}
        self.head_norm = None
        if composition.get("head_norm", "none") == "rms":
            eps = composition.get("head_norm_eps", 1e-5)
            self.head_norm = HeadRMSNorm(config.head_norm_size or d, d, eps)

    def _mix(self, name, components):
        """None is the identity: every head is a component head."""
        absent = f"model.layers.{self.layer_idx}.self_attn.{name}.weight" in self.config.absent_mixes
        if self.config.head_composition is None or absent:
            return None
        return HeadMix(components, self.config.num_key_value_heads)

    def forward(
        self, hidden_states, position_embeddings, attention_mask=None, past_key_values=None, cache=None, **kwargs
    ):
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        queries = self.q_proj(hidden_states).view(shape)
        if self.q_norm is not None:
            queries = self.q_norm(queries)
        queries = queries.transpose(1, 2)
        keys = self.k_proj(hidden_states).view(shape).transpose(1, 2)  # [batch, h'_K, tokens, d]
        values = self.v_proj(hidden_states).view(shape).transpose(1, 2)

        scales = self._key_scales(keys)
        if scales is not None:
            keys = self.k_norm.weight * keys
        # RoPE commutes with HLC: all heads rotate alike.
        queries, keys = apply_rotary_pos_emb(queries, keys, *position_embeddings)
        if cache is None:
            cache = past_key_values
        if cache is not None:
            keys, values = cache.update(_pack(keys, scales), values, self.layer_idx)
            keys, scales = _unpack(keys, scales, self.head_dim)

        keys = keys if self.k_hlc is None else self.k_hlc(keys)
        values = values if self.v_hlc is None else self.v_hlc(values)
        if scales is not None:
            keys = keys * scales
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        heads, weights = attention(
            self, queries, keys, values, attention_mask, scaling=self.scaling, sliding_window=self.sliding_window,
            dropout=self.attention_dropout if self.training else 0.0, **kwargs,
        )  # fmt: skip
        if self.head_norm is not None:
            heads = self.head_norm(heads)
        return self.o_proj(heads.reshape(*hidden_states.shape[:-1], -1)), weights

    def _key_scales(self, keys):
        """1 / rms over d of each virtual key before RoPE, [batch, h, tokens, 1]; the gain of k_norm is the same for
        all heads, so it goes into the components and this alone is left of the norm."""
        if self.k_norm is None:
            return None
        virtual = (keys if self.k_hlc is None else self.k_hlc(keys)).to(torch.float32)
        mean_square = virtual.pow(2).mean(-1, keepdim=True)
        return torch.rsqrt(mean_square + self.k_norm.variance_epsilon).to(keys.dtype)


def _window(config, layer):
    """In tokens, None: none. Llama has none, Qwen2 and Qwen3 say it layer by layer, the others for all."""
    if config.base_model_type == "llama":
        return None
    if config.base_model_type in ("qwen2", "qwen3") and config.layer_types[layer] != "sliding_attention":
        return None
    return config.sliding_window


def _pack(keys, scales):
    """Component keys with the scalars of the virtual heads in columns behind d, so that any Cache carries them."""
    if scales is None:
        return keys
    batch, components, tokens, _ = keys.shape
    heads = scales.shape[1]
    columns = -(-heads // components)
    scales = nn.functional.pad(scales.squeeze(-1), (0, 0, 0, components * columns - heads))
    scales = scales.view(batch, components, columns, tokens).transpose(2, 3)
    return torch.cat([keys, scales], -1)


def _unpack(packed, scales, head_dim):
    """What `_pack` packed, for all tokens of the cache; `scales` of the new ones tell how many heads there are."""
    if scales is None:
        return packed, None
    batch, _, tokens, _ = packed.shape
    columns = packed[..., head_dim:].transpose(2, 3).reshape(batch, -1, tokens, 1)
    return packed[..., :head_dim], columns[:, : scales.shape[1]]


class _Composed:
    """Puts MeaAttention into a decoder of transformers."""

    def __init__(self, config):
        super().__init__(config)
        for i, layer in enumerate(self.layers):
            layer.self_attn = MeaAttention(config, i, layer.self_attn)
        self.post_init()

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, HeadMix):  # head j starts as component j mod h'
            components, heads = module.weight.shape
            init.copy_(module.weight, torch.eye(components).repeat(1, -(-heads // components))[:, :heads])


class MeaLlamaModel(_Composed, LlamaModel):
    pass


class MeaMistralModel(_Composed, MistralModel):
    pass


class MeaMixtralModel(_Composed, MixtralModel):
    pass


class MeaQwen2Model(_Composed, Qwen2Model):
    pass


class MeaQwen3Model(_Composed, Qwen3Model):
    pass


class MeaQwen3MoeModel(_Composed, Qwen3MoeModel):
    pass


DECODERS = {
    "llama": MeaLlamaModel,
    "mistral": MeaMistralModel,
    "mixtral": MeaMixtralModel,
    "qwen2": MeaQwen2Model,
    "qwen3": MeaQwen3Model,
    "qwen3_moe": MeaQwen3MoeModel,
}
# transformers keeps the experts of a layer as one tensor; files hold one each.
for family in ("mixtral", "qwen3_moe"):
    register_checkpoint_conversion_mapping(
        DECODERS[family].__name__, get_checkpoint_conversion_mapping(family), overwrite=True
    )


class MeaForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = MeaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _skip_keys_device_placement = ["past_key_values", "cache"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config):
        super().__init__(config)
        self.model = DECODERS[config.base_model_type](config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_pretrained(cls, directory, *args, config=None, **kwargs):
        """As every from_pretrained; what the format leaves to the tensors is read from their headers first."""
        hub = {
            name: kwargs[name]
            for name in ("cache_dir", "local_files_only", "revision", "subfolder", "token")
            if name in kwargs
        }
        if config is None:
            config = cls.config_class.from_pretrained(directory, **hub)
        shapes = _stored_shapes(directory, hub)
        config.absent_mixes = [
            name
            for layer in range(config.num_hidden_layers)
            for mix, components in zip(("k_hlc", "v_hlc"), config.component_heads(layer))
            if components == config.num_key_value_heads
            and (name := f"model.layers.{layer}.self_attn.{mix}.weight") not in shapes
        ]
        sizes = {shape[0] for name, shape in shapes.items() if name.endswith("self_attn.head_norm.weight")}
        if len(sizes) > 1:
            raise ValueError(f"head_norm.weight: expected one size in all layers, found {sorted(sizes)}")
        config.head_norm_size = sizes.pop() if sizes else None
        return super().from_pretrained(directory, *args, config=config, **kwargs)

    def forward(
        self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None,
        labels=None, use_cache=None, logits_to_keep=0, cache=None, **kwargs,
    ):  # fmt: skip
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids,
            inputs_embeds=inputs_embeds, use_cache=use_cache,
            **{CACHE: past_key_values if cache is None else cache}, **kwargs,
        )  # fmt: skip
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept, :])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions,
            **{CACHE: getattr(outputs, CACHE)},
        )  # fmt: skip


def _stored_shapes(directory, hub):
    """Name -> shape of every tensor of a checkpoint, from the headers of its files."""
    single = cached_file(directory, SAFE_WEIGHTS_NAME, _raise_exceptions_for_missing_entries=False, **hub)
    if single is not None:
        files = [single]
    else:
        with open(cached_file(directory, SAFE_WEIGHTS_INDEX_NAME, **hub)) as index:
            names = sorted(set(json.load(index)["weight_map"].values()))
        files = [cached_file(directory, name, **hub) for name in names]
    shapes = {}
    for file in files:
        with safe_open(file, "pt") as tensors:
            shapes |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}
    return shapes
