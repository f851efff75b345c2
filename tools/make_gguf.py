#!/usr/bin/env python3
"""Writes random weights of a config.json's shape as GGUF, so that llama.cpp runs what mea runs.

    tools/make_gguf.py tests/bench/shapes/e_cpu_768_h6 peer.gguf --dtype bf16

Peers know no component heads: the file has every virtual head. Llama shapes only. The tokenizer is a
stub of single bytes and fillers; prompts are to be token ids. Needs gguf and numpy.
"""

import argparse
import json
import pathlib
import sys

import gguf
import numpy

DTYPES = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "bf16": gguf.GGMLQuantizationType.BF16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}
FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]


def add_tokenizer(writer, vocab_size):
    """Tokens that llama.cpp accepts: specials, the 256 bytes, then fillers nobody writes."""
    tokens = SPECIAL_TOKENS + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.BYTE] * 256
    fillers = vocab_size - len(tokens)
    tokens += [f"<filler {i}>" for i in range(fillers)]
    kinds += [gguf.TokenType.NORMAL] * fillers
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def matrices(config, head_dim):
    """(GGUF name, rows, columns) of every weight matrix."""
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * head_dim
    keys = config["num_key_value_heads"] * head_dim
    yield "token_embd.weight", config["vocab_size"], hidden
    if not config.get("tie_word_embeddings", False):
        yield "output.weight", config["vocab_size"], hidden
    for layer in range(config["num_hidden_layers"]):
        prefix = f"blk.{layer}."
        yield prefix + "attn_q.weight", queries, hidden
        yield prefix + "attn_k.weight", keys, hidden
        yield prefix + "attn_v.weight", keys, hidden
        yield prefix + "attn_output.weight", hidden, queries
        yield prefix + "ffn_gate.weight", ffn, hidden
        yield prefix + "ffn_up.weight", ffn, hidden
        yield prefix + "ffn_down.weight", hidden, ffn


def norms(config):
    yield "output_norm.weight"
    for layer in range(config["num_hidden_layers"]):
        yield f"blk.{layer}.attn_norm.weight"
        yield f"blk.{layer}.ffn_norm.weight"


def write(config, path, dtype, seed):
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config.get("rope_theta", 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(FILE_TYPES[dtype])
    add_tokenizer(writer, config["vocab_size"])

    random = numpy.random.default_rng(seed)
    for name, rows, columns in matrices(config, head_dim):
        values = random.standard_normal((rows, columns), dtype=numpy.float32) / columns**0.5
        writer.add_tensor(name, gguf.quants.quantize(values, DTYPES[dtype]), raw_dtype=DTYPES[dtype])
    for name in norms(config):
        writer.add_tensor(name, numpy.ones(config["hidden_size"], dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", type=pathlib.Path, help="directory with a config.json")
    parser.add_argument("output", type=pathlib.Path, help="GGUF file")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    config = json.loads((options.shape / "config.json").read_text())
    family = config.get("base_model_type", config["model_type"])
    if family != "llama":
        sys.exit(f"make_gguf: {options.shape}: model type {family}, only llama shapes are written")
    write(config, options.output, options.dtype, options.seed)


if __name__ == "__main__":
    main()
