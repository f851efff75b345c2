"""One model in every format that tools/bench_peer measures. Random weights of a shape: mea's checkpoint with every head
stored and with half of them, and the first of these as GGUF, through tools/make_gguf.py. A real checkpoint: as it is,
and as GGUF."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy

TOOLS = Path(__file__).resolve().parent.parent
SHAPES = TOOLS.parent / "tests" / "bench" / "shapes"
SEED = 1


@dataclass
class Shape:
    name: str
    directory: str  # of tests/bench/shapes: the shape with half of the heads; None: a checkpoint is to be given
    depths: list  # cached tokens of decode
    batches: list
    prompt_depths: list  # cached tokens before a prompt's chunk
    weights: list  # names of types
    changes: dict = field(default_factory=dict)  # to its config.json
    checkpoint: Path = None  # a Hugging Face directory of a llama

    @property
    def max_position(self):
        if self.checkpoint is not None:
            return json.loads((self.checkpoint / "config.json").read_text())["max_position_embeddings"]
        return max(self.depths + self.prompt_depths + [8192]) + 1024

    def config(self):
        config = json.loads((SHAPES / self.directory / "config.json").read_text())
        config.update(self.changes, max_position_embeddings=self.max_position)
        return {name: value for name, value in config.items() if value is not None}


@dataclass
class Weights:
    name: str
    checkpoint: str  # dtype of mea's matrices
    gguf: str  # dtype of the peer's
    mea_flags: list = field(default_factory=list)


def plain(config):
    """The uncompressed twin."""
    config = {**config, "model_type": config["base_model_type"]}
    del config["base_model_type"], config["head_composition"]
    return config


def tensors(config):
    """(name, shape) of all tensors of a llama or of its compressed twin."""
    hidden, ffn, d = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, heads = config["num_attention_heads"] * d, config["num_key_value_heads"]
    composition = config.get("head_composition", {})
    key_heads = composition.get("num_component_key_heads", heads)
    value_heads = composition.get("num_component_value_heads", heads)
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "self_attn.q_proj.weight", (queries, hidden)
        yield prefix + "self_attn.k_proj.weight", (key_heads * d, hidden)
        yield prefix + "self_attn.v_proj.weight", (value_heads * d, hidden)
        yield prefix + "self_attn.o_proj.weight", (hidden, queries)
        if composition:
            yield prefix + "self_attn.k_hlc.weight", (key_heads, heads)
            yield prefix + "self_attn.v_hlc.weight", (value_heads, heads)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        yield prefix + "mlp.gate_proj.weight", (ffn, hidden)
        yield prefix + "mlp.up_proj.weight", (ffn, hidden)
        yield prefix + "mlp.down_proj.weight", (hidden, ffn)
    yield "model.norm.weight", (hidden,)
    if not config.get("tie_word_embeddings", False):
        yield "lm_head.weight", (config["vocab_size"], hidden)


def values(generator, name, shape):
    if len(shape) == 1:
        return numpy.ones(shape, dtype=numpy.float32)
    if name.endswith("_hlc.weight"):
        return pivot_mix(generator, *shape)
    return generator.standard_normal(shape, dtype=numpy.float32) / numpy.float32(shape[1] ** 0.5)


def pivot_mix(generator, components, heads):
    """As mea convert writes mixes: any `components` of the heads are components, no entry exceeds 1."""
    mix = generator.uniform(-1, 1, (components, heads)).astype(numpy.float32)
    mix[:, numpy.sort(generator.permutation(heads)[:components])] = numpy.eye(components)
    return mix


def to_bytes(array, dtype):
    if dtype == "F32":
        return array.tobytes()
    bits = array.view(numpy.uint32)  # to BF16, to the nearest even
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16).tobytes()


def write_checkpoint(directory, config, dtype):
    """config.json and model.safetensors; matrices of `dtype` ("F32", "BF16"), seeded."""
    if (directory / "model.safetensors").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    header, end = {}, 0
    for name, shape in tensors(config):
        begin, end = end, end + int(numpy.prod(shape)) * (4 if dtype == "F32" else 2)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = numpy.random.default_rng(SEED)
    unfinished = directory / "model.safetensors.part"
    with open(unfinished, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors(config):
            file.write(to_bytes(values(generator, name, shape), dtype))
    unfinished.rename(directory / "model.safetensors")


def write_gguf(path, checkpoint, dtype, gguf_py):
    if path.exists():
        return
    unfinished = path.with_suffix(".part")
    environment = {**os.environ, "PYTHONPATH": str(gguf_py)}
    command = [sys.executable, TOOLS / "make_gguf.py", checkpoint, unfinished, "--dtype", dtype]
    subprocess.run(command, check=True, env=environment)
    unfinished.rename(path)


def write_all(directory, shape, weights, gguf_py):
    """Paths of all: {"plain": checkpoint, "mea": checkpoint, "gguf": file}; no "mea" of a real checkpoint."""
    stem = directory / f"{shape.name}-{weights.name}"
    paths = {"plain": shape.checkpoint or stem / "plain", "gguf": stem / "peer.gguf"}
    stem.mkdir(parents=True, exist_ok=True)
    if shape.checkpoint is None:
        config = shape.config()
        paths["mea"] = stem / "mea-pivot"
        write_checkpoint(paths["plain"], plain(config), weights.checkpoint)
        write_checkpoint(paths["mea"], config, weights.checkpoint)
    write_gguf(paths["gguf"], paths["plain"], weights.gguf, gguf_py)
    return paths
