"""Writes tests/golden/family_models.jsonl: tiny models of the families beyond Llama's, and what transformers makes of them.

    make_family_models.py [--out FILE] [--only NAME ...]

Lines are those of random_models.jsonl, but for `name` and `tensors`, the names and shapes that transformers gives a model of
this config (of an MEA one: with component heads in place of virtual ones, and W_lc). Results are in float64 throughout.
Fields that a config leaves out take the family's defaults. --only keeps the other lines as they are.
"""

import argparse
import json
import logging
import pathlib
import random

import torch
import transformers
from family_configs import MODELS
from make_random_models import results
from mea_reference import float64_transformers
from transformers_reference import TransformersModel, build, head_dim, plain_config

NUM_GREEDY = 64
MIN_MARGIN = 5e-3  # best minus second-best logit, at every step
MIN_DISTINCT = 20  # different tokens among the greedy ones
MIN_DISTINCT_OF_REPEATERS = 5  # tied models and OLMo, which has no norm before its blocks, like to repeat themselves


def tensor_shapes(config):
    """Name -> shape of every tensor of a checkpoint, in the order of the weights' checksum."""
    with float64_transformers():
        model = build(plain_config(config))
    shapes = {name: list(t.shape) for name, t in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    if "head_composition" not in config:
        return shapes
    d, h, composition = head_dim(config), config["num_key_value_heads"], config["head_composition"]
    composed = {}
    for name, shape in shapes.items():
        composed[name] = shape
        if ".self_attn." not in name:
            continue
        prefix, _, tensor = name.partition("self_attn.")
        layer = int(prefix.split(".")[2])
        for side, letter in (("key", "k"), ("value", "v")):
            components = composition[f"num_component_{side}_heads"][layer]
            if tensor.startswith((f"{letter}_proj.", "qkv_proj.")):
                shape[0] -= (h - components) * d
            # The identity may stay away where every head is stored: keys of OLMo, of which there is no other way.
            if tensor.startswith("o_proj.weight") and components < h:
                composed[f"{prefix}self_attn.{letter}_hlc.weight"] = [components, h]
    return composed


def golden(name):
    config, prompt_len = MODELS[name]
    shapes = tensor_shapes(config)
    is_repeater = "lm_head.weight" not in shapes or name.startswith("olmo")
    min_distinct = MIN_DISTINCT_OF_REPEATERS if is_repeater else MIN_DISTINCT
    for seed in range(1000):
        rng = random.Random(f"{name} {seed}")
        prompt = [rng.randrange(config["vocab_size"]) for _ in range(prompt_len)]

        def forward(tensors, ids):
            return TransformersModel(config, tensors).forward(ids)

        def greedy(tensors, ids, num_tokens):
            return TransformersModel(config, tensors).greedy(ids, num_tokens)

        line = results(seed, shapes, prompt, rng.randrange(prompt_len), forward, greedy, NUM_GREEDY)
        distinct = len(set(line["greedy"]))
        if line["min_margin"] >= MIN_MARGIN and distinct >= min_distinct:
            print(f"{name:20} seed {seed:3}  margin {line['min_margin']:.4f}  {distinct} distinct tokens", flush=True)
            return dict(name=name, seed=seed, config=config, tensors=list(shapes.items()), **line)
    raise SystemExit(f"{name}: every seed passes too near to a tie")


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/golden/family_models.jsonl")
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS), metavar="NAME")
    args = parser.parse_args()
    transformers.logging.set_verbosity(logging.ERROR)
    torch.set_num_threads(1)
    kept = {}
    if args.out.exists():
        kept = {json.loads(line)["name"]: line for line in args.out.read_text().splitlines()}
    for name in args.only:
        kept[name] = json.dumps(golden(name), separators=(",", ":"))
        args.out.write_text("".join(kept[name] + "\n" for name in MODELS if name in kept))


if __name__ == "__main__":
    main()
