"""Writes tests/golden/mea: checkpoints with experts whose heads are composed, and what the float64 oracles make of them.

    make_mea_models.py [--out tests/golden/mea]

Each is a checkpoint of tests/golden/hf with random matrices of one of the compositions: MEA with a head norm, KHA's MLP,
IHA. golden.json has what make_hf_models.py's has, from mea_reference.py and kha_iha_reference.py.
"""

import argparse
import base64
import json
import pathlib
import shutil
from functools import partial

import kha_iha_reference
import mea_reference
import torch
from safetensors.torch import load_file, save_file

NUM_GREEDY = 64
EPS = 2.0**-17  # exact as a float, which the engine's ops take


def head_dim(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def attentions(config):
    return [f"model.layers.{layer}.self_attn." for layer in range(config["num_hidden_layers"])]


def mea(config, tensors, keys, values):
    """Component heads of each layer: the first of the plain model's."""
    d = head_dim(config)
    for attention, heads in zip(attentions(config), zip(keys, values)):
        for side, components in zip("kv", heads):
            tensors[f"{attention}{side}_proj.weight"] = tensors[f"{attention}{side}_proj.weight"][: components * d].clone()
            tensors[f"{attention}{side}_hlc.weight"] = torch.randn(components, config["num_key_value_heads"])
        tensors[attention + "head_norm.weight"] = torch.rand(d) + 0.5
    return dict(kind="mea", num_component_key_heads=keys, num_component_value_heads=values, head_norm="rms", head_norm_eps=EPS)


def kha(config, tensors):
    d = head_dim(config)
    for attention in attentions(config):
        for name in ("v_up", "v_gate", "v_down"):
            tensors[f"{attention}knock_{name}.weight"] = torch.randn(d, d) / d**0.5
    return dict(kind="kha", knock="mlp")


def iha(config, tensors, P, windows):
    """Every query head gets a KV head of its own, a copy; the windows are the composition's."""
    h, d = config["num_attention_heads"], head_dim(config)
    copies = h // config["num_key_value_heads"]
    config.update(num_key_value_heads=h, sliding_window=None)
    for attention, window in zip(attentions(config), windows):
        for side in "kv":
            heads = tensors[f"{attention}{side}_proj.weight"].view(-1, d, config["hidden_size"])
            tensors[f"{attention}{side}_proj.weight"] = heads.repeat_interleave(copies, dim=0).flatten(0, 1)
        if not window:
            continue
        for name in "qkv":
            tensors[f"{attention}iha_{name}"] = torch.randn(h, h, P) / h**0.5
        tensors[attention + "iha_collapse.weight"] = torch.randn(h, h * P) / (h * P) ** 0.5
    return dict(kind="iha", num_pseudo_heads=P, layer_windows=windows)


MODELS = {
    # name: (the checkpoint of tests/golden/hf, what composes its heads, a seed that passes no tie nearer than 3e-3)
    "mea_qwen3_moe": ("qwen3_moe", partial(mea, keys=[1, 2], values=[1, 1]), 3),
    "mea_mixtral": ("mixtral", partial(mea, keys=[1, 1], values=[2, 1]), 3),
    "kha_qwen3_moe": ("qwen3_moe_mixed", kha, 2),
    "iha_mixtral": ("mixtral", partial(iha, P=2, windows=[12, 0]), 1),
}


def write_checkpoint(directory, base, compose, seed):
    """config.json and the tensors, as they were written."""
    torch.manual_seed(seed)
    config = json.loads((base / "config.json").read_text())
    tensors = load_file(base / "model.safetensors")
    composition = compose(config, tensors)
    config.update(base_model_type=config["model_type"], model_type="mea", rms_norm_eps=EPS, head_composition=composition)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors, directory / "model.safetensors")
    return config, tensors


def main():
    golden = pathlib.Path(__file__).resolve().parents[2] / "tests/golden"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=golden / "mea")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    lines = []
    for name, (base, compose, seed) in MODELS.items():
        config, tensors = write_checkpoint(out / name, golden / "hf" / base, compose, seed)
        is_mea = config["head_composition"]["kind"] == "mea"
        oracle = mea_reference if is_mea else kha_iha_reference
        model = mea_reference.Config.parse(config) if is_mea else config, {n: t.double() for n, t in tensors.items()}
        prompt = [(7 * i * i + 3 * i + 1) % config["vocab_size"] for i in range(20)]
        logits = oracle.forward(*model, prompt)[-1].float().numpy().astype("<f4")
        tokens, margin = oracle.greedy(*model, prompt, NUM_GREEDY)
        print(f"{name:20} margin {margin:.4f}  {len(set(tokens))} distinct tokens")
        logits_f32 = base64.b64encode(logits.tobytes()).decode()
        lines.append(json.dumps(dict(name=name, prompt=prompt, greedy=tokens, min_margin=round(margin, 5), logits_f32=logits_f32)))
    (out / "golden.json").write_text('{"models": [\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
