#!/usr/bin/env python3
"""Times what PyTorch and Hugging Face transformers make of the shapes that mea is measured on.

    tools/bench_peer_gpu.py tests/bench/shapes/b_llama_3_8b_h4 --batch 1,32 --context 2048 --json peers.json

attention  one query per sequence over a cache of every virtual head: scaled_dot_product_attention with
           its flash, cuDNN, memory-efficient and plain kernels, and compiled FlexAttention
decode     a step of transformers' generate: random weights, static cache, compiled

Peers know no component heads, so they run the uncompressed shape. The JSON is that of `mea bench`
(engine/bench/report.h), written anew after every result; tools/bench_table puts both side by side.
Needs torch and transformers. Runs on the CPU too, which shows that it runs and nothing else.
"""

import argparse
import datetime
import json
import math
import pathlib
import statistics
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

BEYOND_CACHES = 256 << 20  # bytes, several times any L2: so much is read before a byte is read again
MOST_LAYERS = 64
BF16_BYTES = 2


class Clock:
    """Seconds that a device takes."""

    def __init__(self, device):
        self.device = device

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work):
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start


class Report:
    """The results so far, in the file as soon as they are there."""

    def __init__(self, file, device):
        self.file = file
        self.rows = []
        self.machine = {
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        }
        self.write()

    def add(self, row, seconds=None, runs_at_once=1, roofline=None, skipped=None):
        if skipped is not None:
            row["skipped"] = skipped
        else:
            seconds = [s / runs_at_once for s in seconds]
            median = statistics.median(seconds)
            row["seconds"] = {
                "median": median,
                "min": min(seconds),
                "max": max(seconds),
                "rounds": len(seconds),
            }
            row["tokens_per_second"] = row["batch"] * row["tokens"] / median
            row["roofline"] = roofline
            row["floor_seconds"] = max(
                row["bytes"] / roofline["bytes_per_second"], row["flops"] / roofline["flops_per_second"]
            )
            row["share_of_floor"] = row["floor_seconds"] / median
        self.rows.append(row)
        self.write()
        told = skipped or f"{1e3 * median:10.4f} ms  {100 * row['share_of_floor']:5.1f} % of the floor"
        where = f"{row['bench']:9} {row['shape']:26} {row['system']:22}"
        print(f"{where} {row['batch']:4} x {row['context']:6}  {told}", flush=True)

    def write(self):
        if self.file is None:
            return
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        report = {
            "command": "tools/bench_peer_gpu.py",
            "date": now,
            "machine": self.machine,
            "results": self.rows,
        }
        self.file.write_text(json.dumps(report, indent=1) + "\n")


class Roofline:
    """Copy rate (bytes read and written) and rate of a large product, read anew for every result."""

    def __init__(self, clock, device):
        self.clock = clock
        on_gpu = device == "cuda"
        n = 8192 if on_gpu else 512
        self.source = torch.randn((1 << 29) if on_gpu else (1 << 22), device=device).bfloat16()
        self.target = torch.empty_like(self.source)
        self.a = torch.randn(n, n, device=device).bfloat16()
        self.b = torch.randn(n, n, device=device).bfloat16()

    def read(self):
        def median(work):
            work()
            return statistics.median(self.clock.seconds(work) for _ in range(3))

        copying = median(lambda: self.target.copy_(self.source))
        computing = median(lambda: self.a @ self.b)
        return {
            "bytes_per_second": 2 * BF16_BYTES * self.source.numel() / copying,
            "flops_per_second": 2 * self.a.shape[0] ** 3 / computing,
        }


class Shape:
    """A configuration as config.json has it, without its head composition."""

    def __init__(self, directory):
        self.name = directory.resolve().name
        fields = json.loads((directory / "config.json").read_text())
        fields.pop("head_composition", None)
        fields.pop("architectures", None)
        self.family = fields.pop("base_model_type", fields.pop("model_type"))
        fields.pop("model_type", None)
        self.fields = fields
        self.q_heads = fields["num_attention_heads"]
        self.kv_heads = fields["num_key_value_heads"]
        self.head_dim = fields["head_dim"]
        self.layers = fields["num_hidden_layers"]

    def kv_bytes(self):
        """Of one token in one layer, all heads stored."""
        return 2 * self.kv_heads * self.head_dim * BF16_BYTES

    def row(self, bench, system, batch, context):
        """The part of a result that is not measured."""
        return {
            "bench": bench,
            "shape": self.name,
            "system": system,
            "storage": "plain",
            "memory": "",
            "batch": batch,
            "context": context,
            "tokens": 1,
            "cache_bytes": batch * context * self.kv_bytes() * (self.layers if bench == "decode" else 1),
        }

    def attention_cost(self, batch, context):
        """As PagedAttentionCost in kernels/cost.cc: (bytes, flops) of one layer."""
        in_and_out = 2 * self.q_heads * self.head_dim * BF16_BYTES
        flops = 4 * self.q_heads * self.head_dim * context
        return batch * (context * self.kv_bytes() + in_and_out), batch * flops

    def config(self, max_position):
        from transformers import AutoConfig

        fields = dict(self.fields)
        fields["max_position_embeddings"] = max(max_position, fields["max_position_embeddings"])
        return AutoConfig.for_model(self.family, **fields)


def first_line(error):
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:160]


def record(work, device):
    """`work` as a CUDA graph, which has no launch cost; as it is where that cannot be."""
    if device != "cuda":
        return work
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def attention_systems(device):
    """Name and function of (q, k, v) for every kernel that may be there."""

    def sdpa(backend):
        def run(q, k, v):
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])

        return run

    systems = {
        "torch sdpa flash": sdpa(SDPBackend.FLASH_ATTENTION),
        "torch sdpa plain": sdpa(SDPBackend.MATH),
    }
    if device == "cuda":
        systems["torch sdpa cudnn"] = sdpa(SDPBackend.CUDNN_ATTENTION)
        systems["torch sdpa efficient"] = sdpa(SDPBackend.EFFICIENT_ATTENTION)
        from torch.nn.attention.flex_attention import flex_attention

        compiled = torch.compile(flex_attention, dynamic=False)
        systems["torch flex"] = lambda q, k, v: compiled(q, k, v, enable_gqa=q.shape[1] != k.shape[1])
    return systems


def bench_attention(shape, options, report, clock, roofline):
    systems = attention_systems(options.device)
    for batch in options.batch:
        for context in options.context:
            layer_bytes = batch * context * shape.kv_bytes()
            layers = max(1, min(MOST_LAYERS, options.beyond_caches // layer_bytes))

            def make(heads, tokens):
                size = (layers, batch, heads, tokens, shape.head_dim)
                return torch.randn(size, device=options.device, dtype=torch.bfloat16)

            rows = {name: shape.row("attention", name, batch, context) for name in systems}
            for row in rows.values():
                row["bytes"], row["flops"] = shape.attention_cost(batch, context)
            if layers * layer_bytes > options.max_cache_bytes:
                for row in rows.values():
                    report.add(row, skipped="does not fit")
                continue
            q, k, v = make(shape.q_heads, 1), make(shape.kv_heads, context), make(shape.kv_heads, context)
            for name, system in systems.items():

                def run():
                    for layer in range(layers):
                        system(q[layer], k[layer], v[layer])

                try:
                    with torch.inference_mode():
                        run()
                        once = record(run, options.device)
                        repeats = max(1, int(options.round_seconds / clock.seconds(once)))
                        seconds = []
                        for _ in range(options.rounds):
                            took = clock.seconds(lambda: [once() for _ in range(repeats)])
                            seconds.append(took / repeats)
                except Exception as error:  # a kernel that does not take this shape
                    report.add(rows[name], skipped=first_line(error))
                    continue
                report.add(rows[name], seconds, runs_at_once=layers, roofline=roofline.read())
            del q, k, v


class StepTimes:
    """A logits processor that changes nothing and notes when each step of generate is done."""

    def __init__(self, clock):
        self.clock = clock
        self.times = []

    def __call__(self, input_ids, scores):
        self.clock.wait()
        self.times.append(time.perf_counter())
        return scores


def generate_steps(model, clock, batch, context, steps):
    """Seconds of each decode step of one generate: the prompt leaves half of the steps on either side
    of `context`."""
    from transformers import GenerationConfig, LogitsProcessorList

    prompt = torch.randint(0, model.config.vocab_size, (batch, context - steps // 2), device=model.device)
    times = StepTimes(clock)
    model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        logits_processor=LogitsProcessorList([times]),
        generation_config=GenerationConfig(
            max_new_tokens=steps,
            min_new_tokens=steps,
            do_sample=False,
            cache_implementation="static",
            pad_token_id=0,
        ),
    )
    return [b - a for a, b in zip(times.times, times.times[1:])]


def bench_generate(shape, options, report, clock, roofline):
    from transformers import AutoModelForCausalLM

    steps = options.steps
    config = shape.config(max(options.context) + steps)
    started = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(options.device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    torch.set_default_dtype(started)
    model.eval()
    weights = sum(p.numel() for p in model.parameters())
    looked_up = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    for context in options.context:
        for batch in options.batch:
            row = shape.row("decode", "hf generate", batch, context)
            attention_bytes, attention_flops = shape.attention_cost(batch, context)
            row["bytes"] = (weights - looked_up) * BF16_BYTES + shape.layers * attention_bytes
            row["flops"] = 2 * batch * (weights - looked_up) + shape.layers * attention_flops
            if row["cache_bytes"] > options.max_cache_bytes:
                report.add(row, skipped="does not fit")
                continue
            try:
                with torch.inference_mode():
                    generate_steps(model, clock, batch, context, steps)  # compiles
                    seconds = []
                    for _ in range(options.rounds):
                        seconds.append(statistics.median(generate_steps(model, clock, batch, context, steps)))
            except Exception as error:
                report.add(row, skipped=first_line(error))
                continue
            report.add(row, seconds, roofline=roofline.read())
    del model


def numbers(text):
    return [int(part) for part in text.split(",")]


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shapes", nargs="+", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--what", default="attention,decode", help="attention, decode, or both")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--batch", type=numbers, default=[1, 32])
    parser.add_argument("--context", type=numbers, default=[2048])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-seconds", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=32, help="tokens of each generate")
    parser.add_argument("--max-cache-bytes", type=float, default=0, help="default: half of what is free")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    options.what = options.what.split(",")
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.beyond_caches = BEYOND_CACHES if options.device == "cuda" else 1
    if options.max_cache_bytes == 0:
        free = torch.cuda.mem_get_info()[0] if options.device == "cuda" else 2 << 30
        options.max_cache_bytes = free / 2
    for shape in options.shapes:
        if not (shape / "config.json").is_file():
            sys.exit(f"bench_peer_gpu: no config.json in {shape}")
    return options


def main():
    options = parse_options()
    clock = Clock(options.device)
    report = Report(options.json, options.device)
    roofline = Roofline(clock, options.device)
    for directory in options.shapes:
        shape = Shape(directory)
        if "attention" in options.what:
            bench_attention(shape, options, report, clock, roofline)
        if "decode" in options.what:
            bench_generate(shape, options, report, clock, roofline)
        if options.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
