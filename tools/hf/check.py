"""Checks tools/hf (MEA checkpoints in Hugging Face transformers) on small random models of every family.

    check.py [--models 48] [--mea build/release/server/mea]

- golden: logits and greedy tokens (generated with the cache of component heads) of the models of
  tests/golden/random_models.jsonl against the float64 implementation there, which shares no code with transformers;
- round trip: save_pretrained, then AutoModelForCausalLM with trust_remote_code: same tensors, same logits;
- experts: qwen3_moe with W_lc = 1 against transformers' own, and cached against uncached generation;
- demo (with --mea): held-out losses of models/demo-*: `mea eval`, the same after a round trip, this module.

Takes half a minute to a minute of one core. Exits with 1 where anything disagrees.
"""

import argparse
import base64
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tools/golden")]

import healing.model  # noqa: E402
import healing.text  # noqa: E402
import healing.trainer  # noqa: E402
from hf.configuration_mea import MeaConfig  # noqa: E402
from hf.modeling_mea import MeaForCausalLM  # noqa: E402
from make_random_models import tensor_shapes  # noqa: E402
from mea_reference import float64_transformers, forward, load_checkpoint  # noqa: E402
from seeded_weights import seeded_tensor  # noqa: E402

LOGITS_TOLERANCE = 1e-12  # relative, in float64
HELD_OUT = ROOT / "models/eval/heldout.txt"
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


class Failures:
    def __init__(self):
        self.count = 0

    def expect(self, condition, what):
        if not condition:
            self.count += 1
            print(f"FAILED {what}", flush=True)


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def write_checkpoint(directory, config, tensors):
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def golden_checkpoint(row, directory):
    """A line of random_models.jsonl as a checkpoint; one without head composition becomes MEA of h' = h without mixes."""
    config, absent = dict(row["config"], bos_token_id=None, eos_token_id=None), row["absent"]
    shapes = tensor_shapes(row["config"], absent, row["head_norm_len"])
    if config["model_type"] != "mea":
        h = config["num_key_value_heads"]
        config.update(model_type="mea", base_model_type=config["model_type"])
        config["head_composition"] = dict(kind="mea", num_component_key_heads=h, num_component_value_heads=h)
    write_checkpoint(
        directory, config, {n: torch.from_numpy(seeded_tensor(row["seed"], n, s)) for n, s in shapes.items()}
    )


def load_float64(model_class, directory):
    """A model whose norms, softmax and RoPE angles are float64 too; to be run inside float64_transformers()."""
    loaded = model_class.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    loaded.config._experts_implementation = "eager"  # the grouped one has no float64
    with float64_transformers():
        model = model_class(loaded.config).double()
    model.load_state_dict({name: tensor.double() for name, tensor in loaded.state_dict().items()})
    return model.eval()


def generate(model, prompt, num_tokens, **kwargs):
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=num_tokens, eos_token_id=None,
        pad_token_id=0, **kwargs,
    )  # fmt: skip
    return out[0, len(prompt) :].tolist()


def check_golden(rows, directory, failures):
    worst, seen = 0.0, dict.fromkeys(FAMILIES, 0)
    for row in rows:
        name = f"random model {row['seed']}"
        path = directory / str(row["seed"])
        golden_checkpoint(row, path)
        model = load_float64(MeaForCausalLM, path)
        with float64_transformers():
            with torch.no_grad():
                logits = model(torch.tensor([row["prompt"]]), use_cache=False).logits[0]
            for at, field in ((-1, "logits_f64"), (row["middle"], "middle_logits_f64")):
                expected = torch.from_numpy(np.frombuffer(base64.b64decode(row[field]), "<f8").copy())
                error = relative_error(logits[at], expected)
                worst = max(worst, error)
                failures.expect(error < LOGITS_TOLERANCE, f"{name}: {field}: relative error {error:.1e}")
            # Of a window of one token transformers' cache keeps everything (its slice begins at -0).
            use_cache = row["config"].get("sliding_window") != 1
            tokens = generate(model, row["prompt"], len(row["greedy"]), use_cache=use_cache)
        failures.expect(tokens == row["greedy"], f"{name}: generated {tokens}, expected {row['greedy']}")
        seen[model.config.base_model_type] += 1
    for family, count in seen.items():
        failures.expect(count > 0, f"no random model of {family}")
    print(f"golden      {len(rows)} models {seen}: logits within {worst:.1e}, generated tokens compared", flush=True)


def check_round_trip(rows, directory, failures):
    """One model of each family, in float32 through transformers' own loader of remote code."""
    first = {}
    for row in rows:
        if row["config"]["model_type"] == "mea":
            first.setdefault(row["config"]["base_model_type"], row)
    for family, row in first.items():
        source, saved = directory / f"{family}-source", directory / f"{family}-saved"
        golden_checkpoint(row, source)
        subprocess.run([ROOT / "tools/hf/install", source], check=True)
        automatic = transformers.AutoModelForCausalLM
        model = automatic.from_pretrained(source, trust_remote_code=True, dtype="auto").eval()
        model.save_pretrained(saved)
        again = automatic.from_pretrained(saved, trust_remote_code=True, dtype="auto").eval()
        before, after = load_file(source / "model.safetensors"), load_file(saved / "model.safetensors")
        same = before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
        failures.expect(same, f"{family}: save_pretrained changed tensors")
        failures.expect(isinstance(again.config.component_heads(0)[0], int), f"{family}: component heads")
        ids = torch.tensor([row["prompt"]])
        with torch.no_grad():
            failures.expect(torch.equal(model(ids).logits, again(ids).logits), f"{family}: logits after a round trip")
    failures.expect(set(first) == set(FAMILIES), f"round trip of {sorted(first)} only")
    print(f"round trip  {', '.join(first)}", flush=True)


def check_experts(directory, failures):
    config = transformers.Qwen3MoeConfig(
        vocab_size=80, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=3, head_dim=16,
        num_attention_heads=8, num_key_value_heads=4, num_experts=6, num_experts_per_tok=2, norm_topk_prob=True,
        mlp_only_layers=[1], bos_token_id=None, eos_token_id=None, initializer_range=0.3, rms_norm_eps=1e-6,
    )  # fmt: skip
    plain_dir, mea_dir, prompt = (
        directory / "moe",
        directory / "moe-mea",
        [random.Random(3).randrange(80) for _ in range(21)],
    )
    torch.manual_seed(5)
    transformers.Qwen3MoeForCausalLM(config).save_pretrained(plain_dir)
    tensors = load_file(plain_dir / "model.safetensors")
    raw = json.loads((plain_dir / "config.json").read_text())
    raw.update(model_type="mea", base_model_type="qwen3_moe")
    raw["head_composition"] = dict(kind="mea", num_component_key_heads=4, num_component_value_heads=[4, 4, 4])
    write_checkpoint(mea_dir, raw, tensors)
    plain, ours = load_float64(transformers.Qwen3MoeForCausalLM, plain_dir), load_float64(MeaForCausalLM, mea_dir)
    with float64_transformers(), torch.no_grad():
        error = relative_error(ours(torch.tensor([prompt])).logits, plain(torch.tensor([prompt])).logits)
    failures.expect(error < LOGITS_TOLERANCE, f"qwen3_moe without mixes: relative error {error:.1e}")

    saved = directory / "moe-saved"
    ours.save_pretrained(saved)
    failures.expect(
        load_file(saved / "model.safetensors").keys() == tensors.keys(), "qwen3_moe: names of saved tensors"
    )
    raw["head_composition"].update(num_component_key_heads=[3, 1, 2], num_component_value_heads=2, head_norm="rms")
    torch.manual_seed(6)
    mixed = MeaForCausalLM(MeaConfig(**raw)).eval()
    cached, uncached = (generate(mixed, prompt, 24, use_cache=use_cache) for use_cache in (True, False))
    failures.expect(cached == uncached, f"qwen3_moe: cached {cached}, uncached {uncached}")
    check_mixed_experts(directory, failures)
    print(f"experts     qwen3_moe: logits within {error:.1e} of transformers' own; cached = uncached", flush=True)


def check_mixed_experts(directory, failures):
    """The MEA checkpoints with experts of tests/golden/mea against the float64 implementation, and their round trips."""
    for source in sorted((ROOT / "tests/golden/mea").glob("mea_*")):
        config, tensors = load_checkpoint(source)
        ids = [(7 * i * i + 3 * i + 1) % config.vocab for i in range(23)]
        model = load_float64(MeaForCausalLM, source)
        with float64_transformers(), torch.no_grad():
            error = relative_error(model(torch.tensor([ids])).logits[0], forward(config, tensors, ids))
        failures.expect(error < LOGITS_TOLERANCE, f"{source.name}: relative error {error:.1e}")
        saved = directory / source.name
        MeaForCausalLM.from_pretrained(source, dtype="auto").save_pretrained(saved)
        after = load_checkpoint(saved)[1]
        same = after.keys() == tensors.keys() and all(torch.equal(after[name], tensors[name]) for name in tensors)
        failures.expect(same, f"{source.name}: save_pretrained changed tensors")
        print(f"experts     {source.name}: logits within {error:.1e}, round trip", flush=True)


def check_demo(mea, directory, failures):
    """Held-out losses: `mea eval` in float32, before and after save_pretrained, and this module's."""
    for name in ("demo-mha", "demo-mea", "demo-mea-full"):
        source, saved = ROOT / "models" / name, directory / name
        model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype="auto")
        model.save_pretrained(saved)
        (saved / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
        losses = []
        for path in (source, saved):
            command = [
                mea,
                "eval",
                path,
                "--text",
                HELD_OUT,
                "--weight-dtype",
                "f32",
                "--kv-dtype",
                "f32",
                "--threads",
                "1",
                "--json",
            ]
            out = subprocess.run(command, capture_output=True, text=True)
            failures.expect(out.returncode == 0, f"{name}: {out.stderr.strip()}")
            losses.append(json.loads(out.stdout)["texts"][0]["nats_per_token"] if out.returncode == 0 else -1.0)
        documents = healing.text.read_documents(healing.model.load_tokenizer(source), [HELD_OUT])
        losses.append(healing.trainer.held_out_losses(model.float(), None, documents, "cpu", False).loss)
        failures.expect(losses[0] == losses[1], f"{name}: losses before and after a round trip {losses[:2]}")
        failures.expect(abs(losses[2] - losses[0]) < 2e-4, f"{name}: loss of mea and of this module {losses[::2]}")
        print(
            f"demo        {name}: nats per token {losses[0]:.4f}, after a round trip {losses[1]:.4f}, this module {losses[2]:.4f}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=48, help="of the 240 golden models, spread evenly")
    parser.add_argument("--mea", help="the mea program; with it, `mea eval` reads what save_pretrained wrote")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    lines = (ROOT / "tests/golden/random_models.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[:: max(1, len(lines) // args.models)]]
    failures = Failures()
    healing.model.register()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        check_golden(rows, directory / "golden", failures)
        check_round_trip(rows, directory / "round-trip", failures)
        check_experts(directory / "experts", failures)
        if args.mea:
            check_demo(args.mea, directory / "demo", failures)
    if failures.count:
        sys.exit(f"{failures.count} failures")


if __name__ == "__main__":
    main()
