"""How far small mistakes would move the logits of random_models.jsonl: what the tolerances of the test have to catch.

    sensitivity.py [--every 3]     uses every third model

Each mistake is made in the reference, on the models that have the feature and at least three prompt tokens.
"""

import argparse
import copy
import json
import pathlib

import torch
from make_random_models import tensor_shapes
from mea_reference import Config, forward
from seeded_weights import seeded_tensor


def scaled(field, factor):
    return lambda c: setattr(c, field, getattr(c, field) * factor)


def rope(**changes):
    return lambda c: c.rope.update({k: f(c.rope) for k, f in changes.items()})


# name: (has the feature?, change of the config)
CONFIG_MISTAKES = {
    "rope kind ignored": (lambda c, n: c.rope["rope_type"] != "default", rope(rope_type=lambda r: "default")),
    "rope theta + 1 %": (lambda c, n: True, rope(rope_theta=lambda r: r["rope_theta"] * 1.01)),
    "rope factor + 1 %": (lambda c, n: c.rope["rope_type"] != "default", rope(factor=lambda r: r["factor"] * 1.01)),
    "window + 1": (lambda c, n: 0 < min(w or n for w in c.windows) < n, lambda c: setattr(c, "windows", [w and w + 1 for w in c.windows])),
    "norm eps doubled": (lambda c, n: True, scaled("norm_eps", 2)),
    "head norm left out": (lambda c, n: c.head_norm, lambda c: setattr(c, "head_norm", False)),
    "head norm eps doubled": (lambda c, n: c.head_norm, scaled("head_norm_eps", 2)),
}
# name: (part of the tensor's name, change of the tensor)
TENSOR_MISTAKES = {
    "biases left out": (".bias", torch.zeros_like),
    "k_hlc columns rolled": ("k_hlc", lambda t: t.roll(1, -1)),
    "v_hlc columns rolled": ("v_hlc", lambda t: t.roll(1, -1)),
    "q_norm rolled": ("q_norm", lambda t: t.roll(1, -1)),
    "k_norm rolled": ("k_norm", lambda t: t.roll(1, -1)),
    "head_norm rolled": ("head_norm", lambda t: t.roll(1, -1)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=3)
    root = pathlib.Path(__file__).resolve().parents[2]
    lines = (root / "tests/golden/random_models.jsonl").read_text().splitlines()[:: parser.parse_args().every]
    torch.set_num_threads(1)
    errors = {name: [] for name in (*CONFIG_MISTAKES, *TENSOR_MISTAKES)}
    for line in map(json.loads, lines):
        config, prompt = Config.parse(line["config"]), line["prompt"]
        if len(prompt) < 3:
            continue
        shapes = tensor_shapes(line["config"], line["absent"], line["head_norm_len"])
        tensors = {n: torch.from_numpy(seeded_tensor(line["seed"], n, s)).double() for n, s in shapes.items()}
        truth = forward(config, tensors, prompt)[-1]

        def record(name, wrong_config, wrong_tensors):
            wrong = forward(wrong_config, wrong_tensors, prompt)[-1]
            errors[name].append(((wrong - truth).norm() / truth.norm()).item())

        for name, (applies, change) in CONFIG_MISTAKES.items():
            if applies(config, len(prompt)):
                wrong = copy.deepcopy(config)
                change(wrong)
                record(name, wrong, tensors)
        for name, (part, change) in TENSOR_MISTAKES.items():
            wrong = {n: change(t) if part in n else t for n, t in tensors.items()}
            if any(not torch.equal(wrong[n], tensors[n]) for n in tensors):
                record(name, config, wrong)
    for name, values in errors.items():
        values.sort()
        print(f"{name:22} {len(values):3} models, relative error at least {values[0]:.0e}, median {values[len(values) // 2]:.0e}")


if __name__ == "__main__":
    main()
