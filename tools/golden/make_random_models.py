"""Writes tests/golden/random_models.jsonl: random tiny models and what mea_reference.py makes of them.

    make_random_models.py [--out FILE] [--count 240]

One line per model: its config.json, what the config leaves open (the tensors that stand absent, the length of the head
norm), a prompt, and float64 results. The weights are not stored: seeded_weights.py draws them from the line's seed.
"""

import argparse
import base64
import json
import pathlib
import random
from functools import partial

import torch
from mea_reference import Config, forward, greedy
from seeded_weights import checksum, seeded_tensor

NUM_GREEDY = 12
HEAD_DIMS = (8, 16, 24, 32, 64, 80, 128)
EPS = (2.0**-17, 2.0**-20)  # near 1e-5 and 1e-6, and the same in float: the engine's ops take eps as a float


def draw_rope(rng, config):
    """In the spelling of transformers 4 (rope_theta, rope_scaling) or 5 (rope_parameters)."""
    theta, context = rng.choice([100.0, 10000.0, 500000.0]), rng.choice([16, 32, 64])
    kind = rng.choice(["default", "default", "linear", "llama3", "yarn"])
    r = dict(rope_type=kind)
    if kind != "default":
        r["factor"] = rng.choice([2.0, 4.0, 8.0])
    if kind == "llama3":
        r.update(low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=context)
    if kind == "yarn":
        r.update(original_max_position_embeddings=context)
        r.update(rng.choice([{}, {}, dict(beta_fast=16.0, beta_slow=2.0), dict(attention_factor=1.1)]))
    if rng.random() < 0.5:
        config["rope_parameters"] = dict(rope_theta=theta, **r)
    else:
        config["rope_theta"] = theta
        if kind != "default":
            config["rope_scaling"] = r


def draw_windows(rng, config, base):
    if base == "llama" or rng.random() < 0.5:
        return
    config["sliding_window"] = rng.randint(1, 24)
    if base != "mistral":
        config.update(use_sliding_window=True, max_window_layers=rng.randint(0, config["num_hidden_layers"] - 1))


def draw_component_heads(rng, h, num_layers):
    """One number for all layers, or (a mixed model) one for each."""
    if rng.random() < 0.5:
        return rng.randint(1, h)
    return [rng.randint(1, h) for _ in range(num_layers)]


def draw(seed):
    """(config.json, names of absent tensors, length of the head norm or 0)"""
    rng = random.Random(f"config {seed}")
    base = rng.choice(["llama", "llama", "mistral", "qwen2", "qwen3", "qwen3"])
    h, group, num_layers = rng.randint(1, 8), rng.randint(1, 4), rng.randint(1, 3)
    config = dict(
        model_type="mea", base_model_type=base, vocab_size=rng.randint(32, 96), hidden_size=rng.choice([16, 24, 32, 40, 48, 64]),
        intermediate_size=rng.choice([16, 24, 40, 64]), num_hidden_layers=num_layers, num_attention_heads=h * group,
        num_key_value_heads=h, head_dim=rng.choice(HEAD_DIMS), max_position_embeddings=512, rms_norm_eps=rng.choice(EPS),
        tie_word_embeddings=rng.random() < 0.3, hidden_act="silu",
    )  # fmt: skip
    if base in ("llama", "qwen3"):
        config["attention_bias"] = rng.random() < 0.3
    if base == "llama":
        config["mlp_bias"] = rng.random() < 0.3
    draw_rope(rng, config)
    draw_windows(rng, config, base)
    if rng.random() < 0.15:  # a plain checkpoint, no head composition
        config["model_type"] = config.pop("base_model_type")
        return config, [], 0

    keys, values = draw_component_heads(rng, h, num_layers), draw_component_heads(rng, h, num_layers)
    head_norm = rng.choice(["none", "rms"])
    hlc = dict(kind="mea", num_component_key_heads=keys, num_component_value_heads=values, head_norm=head_norm)
    head_norm_len = 0
    if head_norm == "rms":
        hlc["head_norm_eps"] = rng.choice(EPS)
        head_norm_len = rng.choice([1, h * group]) * config["head_dim"]
    config["head_composition"] = hlc
    absent = []
    parsed = Config.parse(config)
    for layer in range(num_layers):
        for which, heads in (("k", parsed.component_keys), ("v", parsed.component_values)):
            if heads[layer] == h and rng.random() < 0.5:
                absent.append(f"model.layers.{layer}.self_attn.{which}_hlc.weight")
    return config, absent, head_norm_len


def tensor_shapes(raw, absent=(), head_norm_len=0):
    """Name -> shape of every tensor of a checkpoint, in the order of the weights' checksum, whatever composes its heads."""
    base, hlc = raw.get("base_model_type", raw["model_type"]), raw.get("head_composition", {"kind": "none"})
    hidden, inner, d = raw["hidden_size"], raw["intermediate_size"], raw["head_dim"]
    H, h, num_layers = raw["num_attention_heads"], raw["num_key_value_heads"], raw["num_hidden_layers"]
    attention_bias, mlp_bias = raw.get("attention_bias", False), raw.get("mlp_bias", False)
    shapes = {"model.embed_tokens.weight": [raw["vocab_size"], hidden]}

    def linear(name, rows, columns, bias=False):
        shapes[f"{name}.weight"] = [rows, columns]
        if bias:
            shapes[f"{name}.bias"] = [rows]

    def component_heads(side, layer):
        heads = hlc.get(f"num_component_{side}_heads", h)
        return heads[layer] if isinstance(heads, list) else heads

    for i in range(num_layers):
        p = f"model.layers.{i}."
        a = p + "self_attn."
        hk, hv = component_heads("key", i), component_heads("value", i)
        shapes[p + "input_layernorm.weight"] = [hidden]
        for name, heads in (("q", H), ("k", hk), ("v", hv)):
            linear(f"{a}{name}_proj", heads * d, hidden, attention_bias or base == "qwen2")
        linear(a + "o_proj", hidden, H * d, attention_bias)
        if hlc["kind"] == "mea":
            linear(a + "k_hlc", hk, h)
            linear(a + "v_hlc", hv, h)
        for name in {"linear": ("q", "k", "v"), "mlp": ("v_up", "v_gate", "v_down")}.get(hlc.get("knock"), ()):
            linear(f"{a}knock_{name}", d, d)
        windows = hlc.get("layer_windows", [0])
        if windows[i % len(windows)]:
            P = hlc["num_pseudo_heads"]
            for name in ("q", "k", "v"):
                shapes[f"{a}iha_{name}"] = [h, h, P]
            linear(a + "iha_collapse", h, h * P)
        if base == "qwen3":
            shapes[a + "q_norm.weight"] = shapes[a + "k_norm.weight"] = [d]
        if head_norm_len:
            shapes[a + "head_norm.weight"] = [head_norm_len]
        shapes[p + "post_attention_layernorm.weight"] = [hidden]
        linear(p + "mlp.gate_proj", inner, hidden, mlp_bias)
        linear(p + "mlp.up_proj", inner, hidden, mlp_bias)
        linear(p + "mlp.down_proj", hidden, inner, mlp_bias)
    shapes["model.norm.weight"] = [hidden]
    if not raw["tie_word_embeddings"]:
        linear("lm_head", raw["vocab_size"], hidden)
    return {name: shape for name, shape in shapes.items() if name not in absent}


def encode(logits, dtype):
    return base64.b64encode(logits.numpy().astype(dtype).tobytes()).decode()


def results(seed, shapes, prompt, middle, forward, greedy, num_greedy):
    """What the oracle forward(tensors, ids), greedy(tensors, ids, num_tokens) makes of the weights of this seed."""
    weights = {n: seeded_tensor(seed, n, s) for n, s in shapes.items()}
    exact = {n: torch.from_numpy(a).double() for n, a in weights.items()}
    rounded = {n: torch.from_numpy(a).bfloat16().double() for n, a in weights.items()}

    logits = forward(exact, prompt)
    tokens, margin = greedy(exact, prompt, num_greedy)
    return dict(
        weights_checksum=f"{checksum(weights.values()):016x}", prompt=prompt,
        logits_f64=encode(logits[-1], "<f8"), middle=middle, middle_logits_f64=encode(logits[middle], "<f8"),
        bf16_logits_f32=encode(forward(rounded, prompt)[-1], "<f4"), greedy=tokens, min_margin=float(f"{margin:.3e}"),
    )  # fmt: skip


def golden_line(seed, config, forward, greedy, absent=(), head_norm_len=0):
    """A line of a model and a prompt of this seed."""
    rng = random.Random(f"prompt {seed}")
    prompt = [rng.randrange(config["vocab_size"]) for _ in range(rng.choice([1, 2, rng.randint(3, 16), rng.randint(17, 64)]))]
    middle = rng.randrange(len(prompt))
    shapes = tensor_shapes(config, absent, head_norm_len)
    oracle = results(seed, shapes, prompt, middle, forward, greedy, NUM_GREEDY)
    return dict(seed=seed, config=config, absent=list(absent), head_norm_len=head_norm_len, **oracle)


def golden(seed):
    config, absent, head_norm_len = draw(seed)
    parsed = Config.parse(config)
    return golden_line(seed, config, partial(forward, parsed), partial(greedy, parsed), absent, head_norm_len)


def write_models(doc, file, count, first_seed, golden):
    """The program: golden(seed) of `count` seeds, a line each."""
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/golden" / file)
    parser.add_argument("--count", type=int, default=count)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [json.dumps(golden(seed), separators=(",", ":")) for seed in range(first_seed, first_seed + args.count)]
    args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_models(__doc__, "random_models.jsonl", 240, 1, golden)
