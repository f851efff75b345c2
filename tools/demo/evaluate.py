"""Held-out loss and task accuracy of a checkpoint read from disk, and the files they rest on."""

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer

from demo.reference import MeaForCausalLM
from demo.text import TASKS, document, prompt
from demo.tokenizer import END, encode

HELD_OUT_SEED = 20260
SHARES = {"story": 0.5, "recall": 0.2, "copy": 0.2, "arithmetic": 0.1}
ROWS = 200


def write_eval_data(directory, held_out_bytes=80_000):
    directory = Path(directory)
    rng = random.Random(HELD_OUT_SEED)
    documents, size = [], 0
    while size < held_out_bytes:
        documents.append("".join(piece for piece, _ in document(rng, SHARES)))
        size += len(documents[-1])
    (directory / "heldout.txt").write_text(END.join(documents) + END)
    for task in TASKS:
        rows = [prompt(rng, task) for _ in range(ROWS)]
        (directory / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


class Evaluator:
    def __init__(self, checkpoint):
        self.model = MeaForCausalLM(checkpoint)
        self.tokenizer = Tokenizer.from_file(str(Path(checkpoint) / "tokenizer.json"))
        self.end = self.tokenizer.token_to_id(END)

    @torch.no_grad()
    def log_probabilities(self, ids):
        return self.model(torch.tensor(ids)).log_softmax(-1)

    def nats(self, ids):
        """Sum of -log p over all ids but the first."""
        scores = self.log_probabilities(ids[:-1])
        return -scores.gather(1, torch.tensor(ids[1:])[:, None]).sum().item()

    def held_out_loss(self, path):
        """(nats per token, nats per byte): each document alone, after END and up to its own END."""
        text = path.read_text()
        nats = tokens = 0
        for doc in filter(None, text.split(END)):
            ids = [self.end, *encode(self.tokenizer, doc), self.end]
            nats += self.nats(ids)
            tokens += len(ids) - 1
        return nats / tokens, nats / len(text.replace(END, "").encode())

    def window_loss(self, path):
        """Nats per token of the file as one text, cut into windows that overlap by one token, as
        `mea eval` does: documents see those before them, and most windows begin in the middle of
        one.
        """
        ids = encode(self.tokenizer, path.read_text())
        window = self.model.config["max_position_embeddings"] - 1
        nats = 0.0
        for first in range(0, len(ids) - 1, window - 1):
            cut = ids[first : first + window]
            nats += self.nats(cut)
        return nats / (len(ids) - 1)

    def accuracy(self, path):
        """Share of rows whose greedy continuation is the answer: so it is if, and only if, each of
        its tokens is the most likely one after the prompt and the answer's earlier tokens; one
        forward tells.
        """
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        hits = 0
        for row in rows:
            before = [self.end, *encode(self.tokenizer, row["prompt"])]
            answer = encode(self.tokenizer, row["answer"])
            best = self.log_probabilities(before + answer[:-1]).argmax(-1)[len(before) - 1 :]
            hits += best.tolist() == answer
        return hits / len(rows)

    @torch.no_grad()
    def generate(self, text, max_tokens=200):
        ids = [self.end, *encode(self.tokenizer, text)]
        for _ in range(max_tokens):
            ids.append(int(self.model(torch.tensor(ids))[-1].argmax()))
            if ids[-1] == self.end:
                break
        return self.tokenizer.decode(ids)


def report(checkpoint, directory):
    """One row of the table in docs/results/cache-memory.md."""
    evaluator, directory = Evaluator(checkpoint), Path(directory)
    per_token, per_byte = evaluator.held_out_loss(directory / "heldout.txt")
    row = {
        "model": Path(checkpoint).name,
        "KV bytes per token": evaluator.model.cache_bytes_per_token(),
    }
    row |= {"nats per token": round(per_token, 4), "nats per byte": round(per_byte, 4)}
    row["nats per token in windows"] = round(evaluator.window_loss(directory / "heldout.txt"), 4)
    return row | {task: evaluator.accuracy(directory / f"{task}.jsonl") for task in TASKS}
