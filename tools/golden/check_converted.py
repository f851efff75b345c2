"""Checks `mea convert` and what it writes, for every family of make_family_models.py, against transformers in float64.

    check_converted.py --mea build/release/server/mea [--only FAMILY ...]

- exact: a model whose heads are mixes of fewer heads (a composed model of family_models.jsonl, its heads written out) is
  converted to as many: the 64 greedy tokens stay those of the golden;
- halved: a model of independent heads is converted to half of the KV bytes by a text (OLMo: of the values' bytes). The
  64 greedy tokens that mea draws are those of transformers on the converted checkpoint with its heads written out.

mea serves in F32. Takes a minute or two of one core; exits with 1 where anything disagrees.
"""

import argparse
import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import torch
from family_configs import MODELS
from make_family_models import MIN_MARGIN, NUM_GREEDY, tensor_shapes
from safetensors.torch import save_file
from seeded_weights import seeded_tensor
from transformers_reference import TransformersModel, load, write_out_heads

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = ROOT / "models/eval/heldout.txt"
TOKENIZER = ROOT / "models/demo-mha/tokenizer.json"
VOCABULARY = 1009  # the tokenizer's
PROMPT = [(7 * i * i + 3 * i + 1) % 500 for i in range(40)]
FAMILIES = ("gemma3", "phi3", "smollm3", "olmo2", "olmo3", "granite")


def write_checkpoint(directory, config, tensors):
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file({n: t.float().contiguous() for n, t in tensors.items()}, directory / "model.safetensors")
    shutil.copy(TOKENIZER, directory)


def seeded_tensors(seed, shapes):
    return {n: torch.from_numpy(seeded_tensor(seed, n, s)) for n, s in shapes}


@contextlib.contextmanager
def serving(mea, directory):
    """The address of OpenAI's API of a server of the checkpoint."""
    flags = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "off", "--weight-dtype", "f32", "--kv-dtype", "f32"]
    flags += ["--kv-cache-bytes", "64MiB", "--threads", "1", "--log-level", "error"]
    server = subprocess.Popen([mea, "serve", directory, *flags], stdout=subprocess.PIPE, text=True)
    try:
        for line in server.stdout:
            address = re.search(r"http://[^ /,]+", line)
            if address:
                yield address[0]
                return
        raise SystemExit(f"mea serve {directory} ended with status {server.wait()}")
    finally:
        server.terminate()
        server.wait()


def greedy(mea, directory, prompt):
    with serving(mea, directory) as address:
        body = dict(prompt=prompt, max_tokens=NUM_GREEDY, temperature=0, ignore_eos=True, return_token_ids=True)
        request = urllib.request.Request(f"{address}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["choices"][0]["token_ids"]


def convert(mea, directory, out, *options):
    command = [mea, "convert", directory, out, "--threads", "1", *options, "--accept-loss"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"mea convert {directory}: {done.stderr}")


def heads(counts):
    return ",".join(map(str, counts))


def check_exact(mea, directory, row):
    composition = row["config"]["head_composition"]
    config, tensors = write_out_heads(row["config"], seeded_tensors(row["seed"], row["tensors"]))
    write_checkpoint(directory / "in", config, tensors)
    sides = []
    for side in ("key", "value"):
        counts = composition[f"num_component_{side}_heads"]
        if min(counts) < config["num_key_value_heads"]:
            sides += [f"--{side}-heads", heads(counts)]
    convert(mea, directory / "in", directory / "out", "--method", "svd", *sides)
    found = greedy(mea, directory / "out", row["prompt"])
    return found == row["greedy"], found, row["greedy"]


def check_halved(mea, directory, family):
    composed, _ = MODELS[f"{family}_mea"]
    config = {**composed, "model_type": composed["base_model_type"], "vocab_size": VOCABULARY}
    del config["base_model_type"], config["head_composition"]
    h = config["num_key_value_heads"]
    budget = ["--value-heads", str(h // 2)] if family.startswith("olmo") else ["--ratio", "0.5"]
    for seed in range(20):
        here = directory / str(seed)
        write_checkpoint(here / "in", config, seeded_tensors(seed, tensor_shapes(config).items()))
        text = ["--calibration", str(TEXT), "--calibration-tokens", "2048", "--measure-tokens", "256"]
        convert(mea, here / "in", here / "out", *text, *budget)
        oracle = TransformersModel(*load(here / "out"))
        expected, margin = oracle.greedy(PROMPT, NUM_GREEDY)
        if margin < MIN_MARGIN / 5:
            continue  # a tie is too near for the tokens to say anything
        found = greedy(mea, here / "out", PROMPT)
        return found == expected, found, expected
    raise SystemExit(f"{family}: every seed passes too near to a tie")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mea", type=pathlib.Path, required=True)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=FAMILIES, metavar="FAMILY")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = (ROOT / "tests/golden/family_models.jsonl").read_text().splitlines()
    rows = {row["name"]: row for row in map(json.loads, lines)}
    failures = 0
    for family in args.only:
        for name in ("exact", "halved"):
            with tempfile.TemporaryDirectory() as directory:
                path = pathlib.Path(directory)
                if name == "exact":
                    equal, found, expected = check_exact(args.mea, path, rows[f"{family}_mea"])
                else:
                    equal, found, expected = check_halved(args.mea, path, family)
            print(f"{family:8} {name:7} {'equal' if equal else f'FAILED: {found}, expected {expected}'}", flush=True)
            failures += not equal
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
