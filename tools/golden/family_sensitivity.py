"""How far each field of the models of family_configs.py moves their logits: a golden that a mistake leaves alone shows nothing.

    family_sensitivity.py [--only NAME ...]

Each field is given the value it would have if a reader overlooked it; the largest relative change of the last logits is
printed, over the positions where the prompt ends and where it is half done.
"""

import argparse
import copy

import torch
import transformers
from family_configs import MODELS
from make_family_models import tensor_shapes
from seeded_weights import seeded_tensor
from transformers_reference import TransformersModel, write_out_heads

HUGE = 4096  # a window that forgets nothing


def head_dim(c):
    return c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]


def without(*names):
    return lambda c: [c.pop(name, None) for name in names]


def put(**fields):
    return lambda c: c.update({name: value(c) if callable(value) else value for name, value in fields.items()})


def rope(**fields):
    """In whichever dict the file has."""

    def change(c):
        r = c.get("rope_scaling") or c["rope_parameters"]
        r.update({name: value(r) if callable(value) else value for name, value in fields.items()})

    return change


# name of the mistake: (has the model what it is about?, change of the config)
MISTAKES = {
    "window forgotten": (lambda c: (c.get("sliding_window") or HUGE) < HUGE, put(sliding_window=HUGE)),
    "window + 1": (lambda c: (c.get("sliding_window") or HUGE) < HUGE, put(sliding_window=lambda c: c["sliding_window"] + 1)),
    "pattern of 6": (lambda c: "sliding_window_pattern" in c, without("sliding_window_pattern")),
    "layer types swapped": (lambda c: c["model_type"] in ("gemma3_text", "olmo3") and "layer_types" in c, put(layer_types=lambda c: c["layer_types"][::-1][1:] + ["full_attention"])),
    "theta ignored": (lambda c: "rope_theta" in c, without("rope_theta")),
    "local theta ignored": (lambda c: "rope_local_base_freq" in c, without("rope_local_base_freq")),
    "rope scaling ignored": (lambda c: c.get("rope_scaling", {}).get("rope_type"), without("rope_scaling")),
    "global rope theta": (lambda c: "full_attention" in c.get("rope_parameters", {}), lambda c: c["rope_parameters"]["full_attention"].update(rope_theta=1000000.0)),
    "local rope scaling": (lambda c: "full_attention" in c.get("rope_parameters", {}), lambda c: c["rope_parameters"]["sliding_attention"].update(factor=1.0)),
    "scale by head_dim": (lambda c: "query_pre_attn_scalar" in c, put(query_pre_attn_scalar=head_dim)),
    "gelu by erf": (lambda c: "hidden_activation" in c, put(hidden_activation="gelu")),
    "all elements rotate": (lambda c: "partial_rotary_factor" in c and "rope_scaling" not in c and "rope_parameters" not in c, put(partial_rotary_factor=1.0)),
    "long for short": (lambda c: "original_max_position_embeddings" in c, rope(short_factor=lambda r: r["long_factor"], long_factor=lambda r: r["short_factor"])),
    "attention factor 1": (lambda c: "original_max_position_embeddings" in c, rope(attention_factor=1.0)),
    "rope everywhere": (lambda c: c["model_type"] == "smollm3", put(no_rope_layers=lambda c: [1] * c["num_hidden_layers"])),
    "eps doubled": (lambda c: True, put(rms_norm_eps=lambda c: 2 * c["rms_norm_eps"])),
    **{f"{name} 1": (lambda c, name=name: name in c, put(**{name: 1.0}))
       for name in ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")},
    "attention by 1 / sqrt(d)": (lambda c: c["model_type"] == "granite", put(attention_multiplier=lambda c: head_dim(c) ** -0.5)),
}  # fmt: skip
# name of the mistake: (part of the tensor's name, change of the tensor)
TENSOR_MISTAKES = {
    "biases left out": (".bias", torch.zeros_like),
    **{f"{name} 1 less": (name, lambda t: t - 1) for name in ("layernorm.weight", "q_norm.weight", "k_norm.weight")},
    **{f"{name} rolled": (name, lambda t: t.roll(1, 0)) for name in ("layernorm.weight", "q_norm.weight", "k_norm.weight")},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS), metavar="NAME")
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    torch.set_num_threads(1)
    for name in parser.parse_args().only:
        raw, prompt_len = MODELS[name]
        prompt = [(7 * i * i + 3 * i + 1) % raw["vocab_size"] for i in range(prompt_len)]
        shapes = tensor_shapes(raw).items()
        config, tensors = write_out_heads(raw, {n: torch.from_numpy(seeded_tensor(0, n, s)).double() for n, s in shapes})

        def logits(config, tensors):
            return TransformersModel(config, tensors).forward(prompt)[[prompt_len // 2, -1]]

        truth = logits(config, tensors)
        for mistake, (applies, change) in MISTAKES.items():
            if applies(config):
                wrong = copy.deepcopy(config)
                change(wrong)
                print(f"{name:20} {mistake:26} {((logits(wrong, tensors) - truth).norm() / truth.norm()).item():.0e}", flush=True)
        for mistake, (part, change) in TENSOR_MISTAKES.items():
            wrong = {n: change(t) if part in n else t for n, t in tensors.items()}
            if any(part in n for n in tensors):
                print(f"{name:20} {mistake:26} {((logits(config, wrong) - truth).norm() / truth.norm()).item():.0e}", flush=True)


if __name__ == "__main__":
    main()
