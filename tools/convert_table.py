#!/usr/bin/env python3
"""What each way of converting keeps of a model, and what short training brings back: the table of docs/results/conversion.md.

    convert_table.py MODEL --mea build/release/server/mea [--methods svd,activation,aligned] [--heal STEPS]

For every budget of key and value heads and every method it runs `mea convert`, `mea eval` and, with --heal,
tools/heal.py (distilled from MODEL) and `mea eval` again. The table goes to standard output as Markdown, all
figures with the commands that made them to WORK/table.json. What is in WORK already is not computed again.

Calibration and training texts are drawn by tools/demo from the demo models' own distribution, of seeds of their own.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from demo.evaluate import SHARES
from demo.text import TASKS, document
from demo.tokenizer import END

TOOLS = Path(__file__).resolve().parent
EVAL = TOOLS.parent / "models" / "eval"
CALIBRATION, TRAINING = ("calibration", 31337, 150_000), ("training", 4711, 3_000_000)  # name, seed, bytes
# Key and value heads of 8, equal and apart, and the same bytes spent layer by layer as `mea convert --ratio` sees fit.
BUDGETS = "6+6,75%,4+4,6+2,5+3,50%,3+3,4+2,5+1,37.5%,2+2,3+1,25%"
RECOVERED = "6+6,75%,4+4,6+2,50%,37.5%,25%"


def write_text(path, seed, num_bytes):
    """Documents of the training distribution, ended by END."""
    if path.exists():
        return
    rng, documents, size = random.Random(seed), [], 0
    while size < num_bytes:
        documents.append("".join(piece for piece, _ in document(rng, SHARES)))
        size += len(documents[-1])
    path.write_text(END.join(documents) + END)


def run(command, log):
    """Runs a program with its output in a file; the program's last line is the error."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.time()
    with open(log, "w") as out:
        code = subprocess.run(list(map(str, command)), stdout=out, stderr=subprocess.STDOUT).returncode
    if code:
        lines = log.read_text().strip().splitlines() or ["no output"]
        sys.exit(f"convert_table: {' '.join(map(str, command))}\nconvert_table: exit status {code}: {lines[-1]}")
    return time.time() - started


class Table:
    def __init__(self, args):
        self.args, self.work, self.rows = args, args.work, []
        self.work.mkdir(parents=True, exist_ok=True)
        self.texts = {}
        for name, seed, num_bytes in (CALIBRATION, TRAINING):
            self.texts[name] = self.work / f"{name}.txt"
            write_text(self.texts[name], seed, num_bytes)

    def evaluate(self, directory, name):
        """KV bytes per token, held-out loss and accuracies of a checkpoint."""
        command = [
            self.args.mea,
            "eval",
            directory,
            "--text",
            EVAL / "heldout.txt",
            "--json",
            "--threads",
            self.args.threads,
        ]
        for task in TASKS:
            command += ["--task", EVAL / f"{task}.jsonl"]
        report = self.work / f"{name}.eval.json"
        if not report.exists():
            temporary = report.with_suffix(".tmp")
            run(command, temporary)
            temporary.replace(report)
        figures = json.loads(report.read_text())
        found = {"kv_bytes_per_token": figures["kv_bytes_per_token"], "loss": figures["texts"][0]["nats_per_token"]}
        return found | {task: row["accuracy"] for task, row in zip(TASKS, figures["tasks"])}

    def convert(self, method, budget):
        """`budget` is key+value heads or a percentage of the bytes."""
        name = f"{method}-{budget.replace('+', '-').replace('%', '-percent')}"
        out = self.work / name
        command = [self.args.mea, "convert", self.args.model, out, "--method", method]
        if budget.endswith("%"):
            command += ["--ratio", float(budget[:-1]) / 100]
        else:
            keys, values = map(int, budget.split("+"))
            command += ["--key-heads", keys, "--value-heads", values]
        if method != "svd" or budget.endswith("%"):
            command += ["--calibration", self.texts["calibration"]]
        if not out.exists():
            run(command + self.args.convert_args.split() + ["--accept-loss"], self.work / f"{name}.convert.log")
        return name, out

    def recover(self, name, checkpoint):
        out = self.work / f"{name}-recovered"
        command = [sys.executable, TOOLS / "heal.py", checkpoint, out, "--text", self.texts["training"]]
        command += ["--teacher", self.args.model, "--steps", self.args.heal, "--threads", max(1, self.args.threads)]
        if not out.exists():
            run(command + self.args.heal_args.split(), self.work / f"{name}.heal.log")
        return out

    def add(self, **row):
        self.rows.append(row)
        temporary = self.work / "table.json.tmp"
        temporary.write_text(json.dumps(self.rows, indent=1) + "\n")
        temporary.replace(self.work / "table.json")
        print(f"# {json.dumps(row)}", file=sys.stderr, flush=True)

    def run(self):
        self.add(budget="all", method="original", steps=0, **self.evaluate(self.args.model, "original"))
        for budget in self.args.budgets.split(","):
            for method in self.args.methods.split(","):
                name, out = self.convert(method, budget)
                self.add(budget=budget, method=method, steps=0, **self.evaluate(out, name))
                if self.args.heal and method == "aligned" and budget in self.args.heal_budgets.split(","):
                    figures = self.evaluate(self.recover(name, out), f"{name}-recovered")
                    self.add(budget=budget, method=method, steps=self.args.heal, **figures)

    def print(self):
        """One line per budget, a column per way of converting: what the loss rises by, and the accuracies left."""
        base, columns, budgets = self.rows[0], {}, {}
        for row in self.rows:
            column = f"{row['method']}, {row['steps']} steps" if row["steps"] else row["method"]
            columns[column] = None
            budgets.setdefault(row["budget"], {})[column] = row
        columns.pop(base["method"])

        def accuracies(row):
            return ", ".join(f"{100 * row[task]:.1f}" for task in TASKS)

        print(f"{base['kv_bytes_per_token']} KV bytes per token: {base['loss']:.4f}; {accuracies(base)}\n")
        print(f"| KV bytes per token | key + value heads | {' | '.join(columns)} |")
        print("|---" * (2 + len(columns)) + "|")
        budgets.pop(base["budget"])
        for budget, row in budgets.items():
            num_bytes = max(found["kv_bytes_per_token"] for found in row.values())
            share = f"{num_bytes} ({100 * num_bytes / base['kv_bytes_per_token']:.1f} %)"
            heads = f"`--ratio {float(budget[:-1]) / 100:g}`" if budget.endswith("%") else budget
            cells = [
                f"{found['loss'] - base['loss']:+.4f}; {accuracies(found)}" if (found := row.get(column)) else ""
                for column in columns
            ]
            print(f"| {share} | {heads} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--mea", default="build/release/server/mea", help="the program (build/release/server/mea)")
    parser.add_argument(
        "--work", type=Path, default=Path("/tmp/convert_table"), help="checkpoints and logs (/tmp/convert_table)"
    )
    parser.add_argument("--budgets", default=BUDGETS, help="key+value heads, or a share of the bytes")
    parser.add_argument("--methods", default="svd,activation,aligned")
    parser.add_argument("--convert-args", default="", help="more arguments of mea convert")
    parser.add_argument("--heal", type=int, default=0, metavar="STEPS", help="recovery; 0: none")
    parser.add_argument("--heal-budgets", default=RECOVERED, help="of these, method aligned is recovered")
    parser.add_argument("--heal-args", default="", help="more arguments of tools/heal.py")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    table = Table(parser.parse_args())
    table.run()
    table.print()


if __name__ == "__main__":
    main()
