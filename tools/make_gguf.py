#!/usr/bin/env python3
"""Writes a llama checkpoint, or random weights of a config.json's shape, as GGUF: llama.cpp runs what mea runs.

    tools/make_gguf.py tests/bench/shapes/e_cpu_768_h6 peer.gguf --dtype bf16

Weights are those of model.safetensors where the directory has one. Peers know no component heads: the file has every
virtual head. Llama shapes only. The tokenizer is a stub of single bytes and fillers; prompts are to be token ids. Needs
gguf and numpy.
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
    """(GGUF name, name in a checkpoint, rows, columns) of every weight matrix."""
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * head_dim
    keys = config["num_key_value_heads"] * head_dim
    yield "token_embd", "model.embed_tokens", config["vocab_size"], hidden
    if not config.get("tie_word_embeddings", False):
        yield "output", "lm_head", config["vocab_size"], hidden
    for layer in range(config["num_hidden_layers"]):
        ours, theirs = f"model.layers.{layer}.", f"blk.{layer}."
        yield theirs + "attn_q", ours + "self_attn.q_proj", queries, hidden
        yield theirs + "attn_k", ours + "self_attn.k_proj", keys, hidden
        yield theirs + "attn_v", ours + "self_attn.v_proj", keys, hidden
        yield theirs + "attn_output", ours + "self_attn.o_proj", hidden, queries
        yield theirs + "ffn_gate", ours + "mlp.gate_proj", ffn, hidden
        yield theirs + "ffn_up", ours + "mlp.up_proj", ffn, hidden
        yield theirs + "ffn_down", ours + "mlp.down_proj", hidden, ffn


def norms(config):
    yield "output_norm", "model.norm"
    for layer in range(config["num_hidden_layers"]):
        yield f"blk.{layer}.attn_norm", f"model.layers.{layer}.input_layernorm"
        yield f"blk.{layer}.ffn_norm", f"model.layers.{layer}.post_attention_layernorm"


class Checkpoint:
    """Tensors of a safetensors file, F32 or BF16."""

    def __init__(self, path):
        self.data = numpy.memmap(path, dtype=numpy.uint8, mode="r")
        length = int.from_bytes(self.data[:8].tobytes(), "little")
        self.header = json.loads(self.data[8 : 8 + length].tobytes())
        self.start = 8 + length

    def tensor(self, name, *shape):
        entry = self.header[name + ".weight"]
        begin, end = entry["data_offsets"]
        data = self.data[self.start + begin : self.start + end]
        if entry["dtype"] == "F32":
            return data.view(numpy.float32).reshape(shape)
        if entry["dtype"] != "BF16":
            sys.exit(f"make_gguf: {name}: dtype {entry['dtype']}, only F32 and BF16 are read")
        return (data.view(numpy.uint16).astype(numpy.uint32) << 16).view(numpy.float32).reshape(shape)


class Random:
    def __init__(self, seed):
        self.generator = numpy.random.default_rng(seed)

    def tensor(self, name, *shape):
        if len(shape) == 1:
            return numpy.ones(shape, dtype=numpy.float32)
        return self.generator.standard_normal(shape, dtype=numpy.float32) / shape[1] ** 0.5


def pairs_side_by_side(rows, head_dim):
    """llama.cpp rotates neighbours of a head, checkpoints its halves."""
    halves = rows.reshape(-1, 2, head_dim // 2, rows.shape[1])
    return numpy.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def rope_theta(config):
    """Newer checkpoints have it among other parameters of RoPE."""
    return config.get("rope_theta") or config.get("rope_parameters", {}).get("rope_theta", 10000.0)


def write(config, path, dtype, weights):
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
    writer.add_rope_freq_base(rope_theta(config))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(FILE_TYPES[dtype])
    add_tokenizer(writer, config["vocab_size"])

    for theirs, ours, rows, columns in matrices(config, head_dim):
        values = weights.tensor(ours, rows, columns)
        if theirs.endswith(("attn_q", "attn_k")):
            values = pairs_side_by_side(values, head_dim)
        data = gguf.quants.quantize(values, DTYPES[dtype])
        writer.add_tensor(theirs + ".weight", data, raw_dtype=DTYPES[dtype])
    for theirs, ours in norms(config):
        writer.add_tensor(theirs + ".weight", weights.tensor(ours, config["hidden_size"]))
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
    tensors = options.shape / "model.safetensors"
    weights = Checkpoint(tensors) if tensors.exists() else Random(options.seed)
    write(config, options.output, options.dtype, weights)


if __name__ == "__main__":
    main()
