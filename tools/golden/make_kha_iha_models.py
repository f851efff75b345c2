"""Writes tests/golden/kha_iha_models.jsonl: random tiny models with knocking or interleaved heads, and what
kha_iha_reference.py makes of them. Lines are those of random_models.jsonl (make_random_models.py).

    make_kha_iha_models.py [--out FILE] [--count 60]
"""

import random
from functools import partial

from kha_iha_reference import forward, greedy
from make_random_models import EPS, draw_rope, draw_windows, golden_line, write_models


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


def golden(seed):
    config = draw(seed)
    return golden_line(seed, config, partial(forward, config), partial(greedy, config))


if __name__ == "__main__":
    write_models(__doc__, "kha_iha_models.jsonl", 60, 1001, golden)
