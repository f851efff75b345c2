"""Writes tests/golden/kha_iha_models.jsonl: random tiny models with knocking or interleaved heads, and what
kha_iha_reference.py makes of them. Lines are those of random_models.jsonl (make_random_models.py).

    make_kha_iha_models.py [--out FILE] [--count 60]
"""

import argparse
import json
import pathlib
import random

import torch
from kha_iha_reference import forward, greedy
from make_random_models import EPS, NUM_GREEDY, draw_rope, draw_windows, encode
from seeded_weights import checksum, seeded_tensor

FIRST_SEED = 1001


def draw(seed):
    """config.json: a third each of linear knocks, knocks by MLP, and interleaved heads."""
    rng = random.Random(f"config {seed}")
    kind = ("linear", "mlp", "iha")[seed % 3]
    base = rng.choice(["llama", "qwen2"] if kind == "iha" else ["llama", "mistral", "qwen2", "qwen3", "qwen3"])
    h, group, num_layers = rng.randint(1, 5), rng.randint(1, 3), rng.randint(1, 3)
    config = dict(
        model_type="mea", base_model_type=base, vocab_size=rng.randint(32, 64), hidden_size=rng.choice([16, 24, 32]),
        intermediate_size=rng.choice([16, 24, 40]), num_hidden_layers=num_layers, num_attention_heads=h * (1 if kind == "iha" else group),
        num_key_value_heads=h, head_dim=rng.choice([8, 16, 24, 64]), max_position_embeddings=512, rms_norm_eps=rng.choice(EPS),
        tie_word_embeddings=rng.random() < 0.3, hidden_act="silu",
    )  # fmt: skip
    if base in ("llama", "qwen3"):
        config["attention_bias"] = rng.random() < 0.5
    draw_rope(rng, config)
    if kind == "iha":
        windows = [rng.choice([0, 1, 3, 8, 20, 512]) for _ in range(rng.randint(1, num_layers))]
        config["head_composition"] = dict(kind="iha", num_pseudo_heads=rng.randint(1, 4), layer_windows=windows)
    else:
        draw_windows(rng, config, base)
        config["head_composition"] = dict(kind="kha", knock=kind)
    return config


def tensor_shapes(config):
    """Name -> shape of every tensor of the checkpoint, in the order of the weights' checksum."""
    hidden, inner, d = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    H, h = config["num_attention_heads"], config["num_key_value_heads"]
    hlc, base = config["head_composition"], config["base_model_type"]
    o_bias = config.get("attention_bias", False)
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}

    def linear(name, rows, columns, bias):
        shapes[f"{name}.weight"] = [rows, columns]
        if bias:
            shapes[f"{name}.bias"] = [rows]

    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        a = p + "self_attn."
        shapes[p + "input_layernorm.weight"] = [hidden]
        for name, heads in (("q", H), ("k", h), ("v", h)):
            linear(f"{a}{name}_proj", heads * d, hidden, o_bias or base == "qwen2")
        linear(a + "o_proj", hidden, H * d, o_bias)
        knocks = {"linear": ("q", "k", "v"), "mlp": ("v_up", "v_gate", "v_down"), None: ()}[hlc.get("knock")]
        for name in knocks:
            shapes[f"{a}knock_{name}.weight"] = [d, d]
        windows = hlc.get("layer_windows", [0])
        if windows[i % len(windows)]:
            P = hlc["num_pseudo_heads"]
            for name in ("q", "k", "v"):
                shapes[f"{a}iha_{name}"] = [h, h, P]
            shapes[a + "iha_collapse.weight"] = [h, h * P]
        if base == "qwen3":
            shapes[a + "q_norm.weight"] = shapes[a + "k_norm.weight"] = [d]
        shapes[p + "post_attention_layernorm.weight"] = [hidden]
        for name, rows, columns in (("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)):
            linear(f"{p}mlp.{name}_proj", rows, columns, False)
    shapes["model.norm.weight"] = [hidden]
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = [config["vocab_size"], hidden]
    return shapes


def golden(seed):
    config = draw(seed)
    rng = random.Random(f"prompt {seed}")
    prompt = [rng.randrange(config["vocab_size"]) for _ in range(rng.choice([1, 2, rng.randint(3, 16), rng.randint(17, 64)]))]
    middle = rng.randrange(len(prompt))

    weights = {n: seeded_tensor(seed, n, s) for n, s in tensor_shapes(config).items()}
    exact = {n: torch.from_numpy(a).double() for n, a in weights.items()}
    rounded = {n: torch.from_numpy(a).bfloat16().double() for n, a in weights.items()}

    logits = forward(config, exact, prompt)
    tokens, margin = greedy(config, exact, prompt, NUM_GREEDY)
    return dict(
        seed=seed, config=config, absent=[], head_norm_len=0, weights_checksum=f"{checksum(weights.values()):016x}", prompt=prompt,
        logits_f64=encode(logits[-1], "<f8"), middle=middle, middle_logits_f64=encode(logits[middle], "<f8"),
        bf16_logits_f32=encode(forward(config, rounded, prompt)[-1], "<f4"), greedy=tokens, min_margin=float(f"{margin:.3e}"),
    )  # fmt: skip


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/golden/kha_iha_models.jsonl")
    parser.add_argument("--count", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [json.dumps(golden(seed), separators=(",", ":")) for seed in range(FIRST_SEED, FIRST_SEED + args.count)]
    args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
