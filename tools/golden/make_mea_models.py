"""Writes tests/golden/mea: MEA checkpoints with experts, and what the float64 oracle makes of them.

    make_mea_models.py [--out tests/golden/mea]

Each is a checkpoint of tests/golden/hf whose keys and values are composed of fewer heads, by random W_lc, with a head
norm; golden.json has what make_hf_models.py's has, from mea_reference.py.
"""

import argparse
import base64
import json
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file

import mea_reference

NUM_GREEDY = 64
EPS = 2.0**-17  # exact as a float, which the engine's ops take
MODELS = {
    # name: (the checkpoint of tests/golden/hf, h'_K and h'_V of each layer)
    "mea_qwen3_moe": ("qwen3_moe", [1, 2], [1, 1]),
    "mea_mixtral": ("mixtral", [1, 1], [2, 1]),
}


def compose(config, tensors, keys, values):
    """Turns a plain model into an MEA one, in place: the first component heads stay."""
    config.update(
        base_model_type=config["model_type"], model_type="mea", rms_norm_eps=EPS,
        head_composition=dict(
            kind="mea", num_component_key_heads=keys, num_component_value_heads=values, head_norm="rms", head_norm_eps=EPS,
        ),
    )  # fmt: skip
    d = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    for layer, heads in enumerate(zip(keys, values)):
        attention = f"model.layers.{layer}.self_attn."
        for side, components in zip("kv", heads):
            tensors[f"{attention}{side}_proj.weight"] = tensors[f"{attention}{side}_proj.weight"][: components * d].clone()
            tensors[f"{attention}{side}_hlc.weight"] = torch.randn(components, config["num_key_value_heads"])
        tensors[attention + "head_norm.weight"] = torch.rand(d) + 0.5


def main():
    golden = pathlib.Path(__file__).resolve().parents[2] / "tests/golden"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=golden / "mea")
    out = parser.parse_args().out
    lines = []
    for name, (base, keys, values) in MODELS.items():
        torch.manual_seed(3)
        config = json.loads((golden / "hf" / base / "config.json").read_text())
        tensors = load_file(golden / "hf" / base / "model.safetensors")
        compose(config, tensors, keys, values)
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)
        (out / name / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        save_file(tensors, out / name / "model.safetensors")

        model = mea_reference.load_checkpoint(out / name)
        prompt = [(7 * i * i + 3 * i + 1) % config["vocab_size"] for i in range(20)]
        logits = mea_reference.forward(*model, prompt)[-1].float().numpy().astype("<f4")
        tokens, margin = mea_reference.greedy(*model, prompt, NUM_GREEDY)
        print(f"{name:20} margin {margin:.4f}  {len(set(tokens))} distinct tokens")
        logits_f32 = base64.b64encode(logits.tobytes()).decode()
        lines.append(json.dumps(dict(name=name, prompt=prompt, greedy=tokens, min_margin=round(margin, 5), logits_f32=logits_f32)))
    (out / "golden.json").write_text('{"models": [\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
