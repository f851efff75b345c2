"""Hugging Face transformers in float64 as an oracle: any checkpoint of a plain family, or an MEA one with its heads written out.

    transformers_reference.py IN OUT    writes the MEA checkpoint IN as a plain one of its family, every virtual head stored
    transformers_reference.py --check   compares with mea_reference.py on those models of random_models.jsonl that it can run

Virtual head g is sum_c W_lc[c, g] of the component heads' rows, of projections and of their biases. What the family does
with a key afterwards (norms, RoPE) it does to virtual heads, so nothing else changes.
"""

import argparse
import base64
import copy
import json
import math
import pathlib

import numpy
import torch
import transformers
from make_random_models import tensor_shapes
from mea_reference import float64_transformers
from safetensors.torch import load_file, save_file
from seeded_weights import seeded_tensor

FUSED = "qkv_proj"  # phi3: the heads of q, k and v in one matrix


def head_dim(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def compose(heads, mix, d):
    """[h' * d, ...] -> [h * d, ...]"""
    rows = heads.double().view(mix.shape[0], d, *heads.shape[1:])
    return torch.einsum("cd...,cg->gd...", rows, mix.double()).flatten(0, 1)


def split_qkv(config, tensors):
    """The tensors with q_proj, k_proj and v_proj in place of qkv_proj."""
    if not any(FUSED in name for name in tensors):
        return dict(tensors)
    composition, d, H = config["head_composition"], head_dim(config), config["num_attention_heads"]
    split = {}
    for name, t in tensors.items():
        if FUSED not in name:
            split[name] = t
            continue
        layer = int(name.split(".")[2])
        rows = [d * H]
        for side in ("key", "value"):
            heads = composition[f"num_component_{side}_heads"]
            rows.append(d * (heads[layer] if isinstance(heads, list) else heads))
        for side, part in zip("qkv", t.split(rows)):
            split[name.replace(FUSED, f"{side}_proj")] = part
    return split


def fuse_qkv(tensors):
    fused = {}
    for name, t in tensors.items():
        if ".q_proj." in name:
            parts = [tensors[name.replace("q_proj", f"{side}_proj")] for side in "qkv"]
            fused[name.replace("q_proj", FUSED)] = torch.cat([part.double() for part in parts])
        elif ".k_proj." not in name and ".v_proj." not in name:
            fused[name] = t
    return fused


def plain_config(config):
    """The config.json of the family that an MEA checkpoint's layers are of."""
    plain = copy.deepcopy(config)
    if "head_composition" in plain:
        assert plain.pop("head_composition")["kind"] == "mea"
        plain["model_type"] = plain.pop("base_model_type")
    return plain


def write_out_heads(config, tensors):
    """(config, tensors) of the plain checkpoint that is the same model. What is composed becomes float64."""
    if "head_composition" not in config:
        return plain_config(config), dict(tensors)
    split = split_qkv(config, tensors)
    assert not any("head_norm" in name for name in split), "no family of transformers has a head norm"
    for name in [name for name in split if name.endswith("_hlc.weight")]:
        mix, projection = split.pop(name), name.replace("_hlc.weight", "_proj")
        for part in (f"{projection}.weight", f"{projection}.bias"):
            if part in split:
                split[part] = compose(split[part], mix, head_dim(config))
    is_fused = any(FUSED in name for name in tensors)
    return plain_config(config), fuse_qkv(split) if is_fused else split


def build(config):
    """A model of transformers with config.json's fields, float64 throughout; call it under float64_transformers."""
    fields = {"pad_token_id": None, **copy.deepcopy(config)}  # the families' own are beyond a tiny vocabulary
    hf_config = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of scalars that a model keeps as tensors
    try:
        return transformers.AutoModelForCausalLM.from_config(hf_config, attn_implementation="eager").double().eval()
    finally:
        torch.set_default_dtype(default)


def float32_gains(config, tensors):
    """Gemma's gains are 1 + w; the sum is a float32 in transformers and in the engine, whatever else is float64."""
    if not config["model_type"].startswith("gemma"):
        return tensors
    return {n: (1 + t.double()).float().double() - 1 if n.endswith("norm.weight") else t for n, t in tensors.items()}


class TransformersModel:
    """The oracle of one checkpoint, plain or MEA. No cache: everything is computed anew for each token."""

    def __init__(self, config, tensors):
        config, tensors = write_out_heads(config, tensors)
        tensors = float32_gains(config, tensors)
        with float64_transformers():
            self.model = build(config)
            missing, unexpected = self.model.load_state_dict({n: t.double() for n, t in tensors.items()}, strict=False)
        tied = ["lm_head.weight"] if self.model.config.tie_word_embeddings else []
        assert missing == tied and not unexpected, (missing, unexpected)
        self.model.tie_weights()

    @torch.no_grad()
    def forward(self, ids):
        """Logits [N, vocab] at every position of ids."""
        with float64_transformers():
            return self.model(torch.tensor([ids]), use_cache=False).logits[0]

    def greedy(self, ids, num_tokens):
        """(tokens, the smallest gap between best and second-best logit on the way)"""
        ids, first, margin = list(ids), len(ids), math.inf
        for _ in range(num_tokens):
            best = self.forward(ids)[-1].topk(2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            ids.append(best.indices[0].item())
        return ids[first:], margin


def load(directory):
    """(config.json, tensors by name) of a checkpoint."""
    directory = pathlib.Path(directory)
    tensors = {}
    for shard in sorted(directory.glob("*.safetensors")):
        tensors.update(load_file(shard))
    return json.loads((directory / "config.json").read_text()), tensors


def check():
    """The largest relative error of the last logits, by family, where there is no head norm and transformers takes the shape."""
    errors = {}
    models = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/random_models.jsonl"
    for row in map(json.loads, models.read_text().splitlines()):
        config = row["config"]
        if row["head_norm_len"] or config["hidden_size"] % config["num_attention_heads"]:
            continue
        shapes = tensor_shapes(config, row["absent"])
        tensors = {n: torch.from_numpy(seeded_tensor(row["seed"], n, shape)) for n, shape in shapes.items()}
        ours = TransformersModel(config, tensors).forward(row["prompt"])[-1]
        theirs = torch.from_numpy(numpy.frombuffer(base64.b64decode(row["logits_f64"]), "<f8").copy())
        errors.setdefault(plain_config(config)["model_type"], []).append(((ours - theirs).norm() / theirs.norm()).item())
    for family, found in errors.items():
        print(f"{family:8} {len(found)} models, relative error at most {max(found):.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path, nargs="?")
    parser.add_argument("out", type=pathlib.Path, nargs="?")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        return check()
    if not args.out:
        parser.error("a checkpoint and where to write it, or --check")
    config, tensors = write_out_heads(*load(args.checkpoint))
    args.out.mkdir(parents=True)
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: t.float().contiguous() for name, t in tensors.items()}, args.out / "model.safetensors")


if __name__ == "__main__":
    main()
