"""Trains one model: the same tokens for each, in stages of growing length and difficulty,
resumable.
"""

import math
import random
import time
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from demo.checkpoint import export
from demo.data import Stream
from demo.model import MODELS, Decoder, Shape
from demo.optimizer import optimizers
from demo.text import ANSWER, Difficulty
from demo.tokenizer import END, train_tokenizer

MUON_LR, ADAM_LR = 0.02, 3e-3
WARMUP, DECAY = (
    30,
    0.5,
)  # steps; the last share of the first cycle, over which the rate falls to a twentieth
SAVE_EVERY = 50
STREAM_TOKENS = 1_228_800  # of text generated for a stage


@dataclass(frozen=True)
class Stage:
    """`steps` batches of `rows` sequences of `tokens`, cut from documents mixed by `shares` of
    documents.
    """

    steps: int
    rows: int
    tokens: int
    shares: dict
    difficulty: Difficulty = field(default_factory=Difficulty)
    documents_apart: bool = True  # a document sees itself alone


STORIES_AND_TASKS = {"story": 0.35, "recall": 0.25, "copy": 0.25, "arithmetic": 0.15}
STAGES = [
    Stage(
        400,
        32,
        64,
        {"story": 0.1, "recall": 0.5, "copy": 0.2, "arithmetic": 0.2},
        Difficulty(3, 2, 5, 0.6),
    ),
    Stage(
        300,
        16,
        128,
        {"story": 0.25, "recall": 0.4, "copy": 0.2, "arithmetic": 0.15},
        Difficulty(4, 3, 7, 0.6),
    ),
    Stage(350, 8, 256, STORIES_AND_TASKS),
    Stage(70, 4, 512, STORIES_AND_TASKS, documents_apart=False),
    Stage(480, 8, 256, STORIES_AND_TASKS),  # a second cycle of the learning rate
]


def learning_rate(step):
    """Factor on both rates: warm-up, constant, linear decay; then a lower second cycle over the
    last stage.
    """
    second = STAGES[-1].steps
    first = sum(stage.steps for stage in STAGES) - second
    if step >= first:
        return 0.6 * (1 - (step - first) / second)
    return min(1.0, (step + 1) / WARMUP, 0.05 + 0.95 * (first - step) / (DECAY * first))


class Answers:
    """Share of answer tokens predicted since the last line of the log, by task; a task is told by
    its weight.
    """

    def __init__(self):
        self.hits, self.seen = dict.fromkeys(ANSWER, 0), dict.fromkeys(ANSWER, 0)

    def count(self, logits, targets, weights):
        right = logits.argmax(-1) == targets
        for task, weight in ANSWER.items():
            at = weights == weight
            self.hits[task] += right[at].sum().item()
            self.seen[task] += at.sum().item()

    def __str__(self):
        return " ".join(
            f"{task} {self.hits[task] / max(1, self.seen[task]):.3f}" for task in ANSWER
        )


def new_model(name, vocabulary, seed):
    torch.manual_seed(seed)
    component_heads, composed = MODELS[name]
    return Decoder(Shape(vocabulary, component_heads=component_heads, composed=composed))


class Trainer:
    def __init__(self, name, state_path, stages=None, seed=1):
        self.stages, self.seed, self.state_path = stages or STAGES, seed, state_path
        self.tokenizer = train_tokenizer()
        self.end = self.tokenizer.token_to_id(END)
        self.model = new_model(name, self.tokenizer.get_vocab_size(), seed)
        self.optimizers = optimizers(self.model, MUON_LR, ADAM_LR)
        self.base_rates = [MUON_LR, ADAM_LR]
        self.step, self.seconds = 0, 0.0
        self.steps = sum(stage.steps for stage in self.stages)
        if state_path.exists():
            self._restore()

    def run(self):
        first = 0
        for index, stage in enumerate(self.stages):
            if self.step < first + stage.steps:
                self._run_stage(index, stage, first)
            first += stage.steps

    def _run_stage(self, index, stage, first):
        stream = Stream(
            self.tokenizer, self.seed * 100 + index, STREAM_TOKENS, stage.shares, stage.difficulty
        )
        answers = Answers()
        started = time.time()
        while self.step < first + stage.steps:
            rng = random.Random(
                f"{self.seed} {self.step}"
            )  # batches depend on the step, so a resumed run is the same
            loss = self._train_step(
                *stream.batch(rng, stage.rows, stage.tokens), answers, stage.documents_apart
            )
            self.step += 1
            if self.step % SAVE_EVERY == 0 or self.step == self.steps:
                self.seconds += time.time() - started
                started = time.time()
                print(
                    f"step {self.step}/{self.steps} stage {index} loss {loss:.4f}"
                    f" {answers} {self.seconds:.0f} s",
                    flush=True,
                )
                answers = Answers()
                self._save()

    def _train_step(self, inputs, targets, weights, answers, documents_apart):
        factor = learning_rate(self.step)
        for optimizer, rate in zip(self.optimizers, self.base_rates):
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        logits = self.model(inputs, self.end if documents_apart else None).flatten(0, 1)
        targets, weights = targets.flatten(), weights.flatten()
        loss = (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        answers.count(logits.detach(), targets, weights)
        return loss.item()

    def _save(self):
        state = {"step": self.step, "seconds": self.seconds, "model": self.model.state_dict()}
        state["optimizers"] = [optimizer.state_dict() for optimizer in self.optimizers]
        temporary = self.state_path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.state_path)

    def _restore(self):
        state = torch.load(self.state_path)
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)

    def export(self, directory):
        export(self.model, self.tokenizer, directory)
