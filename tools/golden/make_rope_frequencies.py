"""Writes tests/engine/checkpoint/data/rope_frequencies.json: rotary frequencies of real and contrived configurations
as Hugging Face transformers computes them, but in float64.

transformers asks for torch.float and torch.float32 by name; giving those names to float64 makes the very same code
compute in double precision. The float32 results are checked to agree with it.

usage: python tools/golden/make_rope_frequencies.py
"""

import contextlib
import json
import pathlib

import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

OUT = pathlib.Path(__file__).parents[2] / "tests/engine/checkpoint/data/rope_frequencies.json"

LLAMA31 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
LLAMA32 = dict(LLAMA31, factor=32.0)
CASES = {
    "llama-2": dict(head_dim=128, max_position_embeddings=4096),
    "qwen3": dict(head_dim=128, max_position_embeddings=40960, rope_theta=1000000),
    "linear": dict(head_dim=64, max_position_embeddings=8192, rope_scaling=dict(type="linear", factor=4.0)),
    "llama-3.1": dict(head_dim=128, max_position_embeddings=131072, rope_theta=500000.0, rope_scaling=LLAMA31),
    "llama-3.2-1b": dict(head_dim=64, max_position_embeddings=131072, rope_theta=500000.0, rope_scaling=LLAMA32),
    "llama3, new spelling": dict(head_dim=64, max_position_embeddings=131072, rope_parameters=dict(LLAMA32, rope_theta=500000.0)),
    "llama3, context not given": dict(head_dim=16, max_position_embeddings=64, rope_scaling={k: v for k, v in LLAMA31.items() if k != "original_max_position_embeddings"}),
    "qwen yarn": dict(head_dim=128, max_position_embeddings=131072, rope_theta=1000000.0, rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32768)),
    "yarn, betas": dict(head_dim=64, max_position_embeddings=4096, rope_scaling=dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=512, beta_fast=16.0, beta_slow=2)),
    "yarn, mscale": dict(head_dim=64, max_position_embeddings=163840, rope_scaling=dict(rope_type="yarn", factor=40.0, original_max_position_embeddings=4096, mscale=1.0, mscale_all_dim=0.707)),
    "yarn, one mscale": dict(head_dim=64, max_position_embeddings=163840, rope_scaling=dict(rope_type="yarn", factor=40.0, original_max_position_embeddings=4096, mscale=0.707)),
    "yarn, attention factor": dict(head_dim=64, max_position_embeddings=4096, rope_scaling=dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=2048, attention_factor=0.75)),
    "yarn, not truncated": dict(head_dim=64, max_position_embeddings=131072, rope_theta=150000.0, rope_scaling=dict(rope_type="yarn", factor=32.0, original_max_position_embeddings=4096, truncate=False)),
    "yarn, factor 1": dict(head_dim=64, max_position_embeddings=4096, rope_scaling=dict(rope_type="yarn", factor=1.0, original_max_position_embeddings=4096)),
    "yarn, tiny context": dict(head_dim=16, max_position_embeddings=8, rope_scaling=dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=4)),
    "yarn, outer context": dict(head_dim=64, max_position_embeddings=4096, original_max_position_embeddings=1024, rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=512)),
}


@contextlib.contextmanager
def double_precision():
    single = torch.float, torch.float32
    torch.float = torch.float32 = torch.float64
    try:
        yield
    finally:
        torch.float, torch.float32 = single


def frequencies(fields):
    config = transformers.LlamaConfig(hidden_size=4 * fields["head_dim"], num_attention_heads=4, **json.loads(json.dumps(fields)))
    kind = config.rope_parameters["rope_type"]
    init = LlamaRotaryEmbedding.compute_default_rope_parameters if kind == "default" else ROPE_INIT_FUNCTIONS[kind]
    return init(config)


def main():
    lines = []
    for name, fields in CASES.items():
        with double_precision():
            inv_freq, attention_factor = frequencies(fields)
        assert inv_freq.dtype == torch.float64, name
        torch.testing.assert_close(frequencies(fields)[0].double(), inv_freq, rtol=5e-6, atol=0)
        lines.append(json.dumps(dict(name=name, config=fields, attention_factor=float(attention_factor), inv_freq=inv_freq.tolist())))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{OUT}: {len(lines)} cases, transformers {transformers.__version__}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
