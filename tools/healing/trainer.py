"""The student follows the teacher: losses, steps, saved state, and a curve of what held-out text loses."""

import json
import math
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from healing.model import fail, trained_parameters
from healing.text import IGNORED, Batches, pack, to_batch

SETTINGS = (
    "checkpoint", "text", "teacher", "distill", "train", "steps", "rows", "row_tokens", "lr", "seed", "weight_decay",
    "warmup",
)  # fmt: skip  # a saved state goes on only with the same


def forward(model, ids, positions, autocast):
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=autocast):
        return model(input_ids=ids, position_ids=positions, use_cache=False).logits


def losses(student, teacher, batch, args):
    """(cross entropy, KL to the teacher or 0) in nats per predicted token."""
    ids, positions, labels = batch
    predicted = labels != IGNORED
    log_q = forward(student, ids, positions, args.autocast)[predicted].float().log_softmax(-1)
    cross_entropy = F.nll_loss(log_q, labels[predicted])
    if teacher is None:
        return cross_entropy, torch.zeros(())
    with torch.no_grad():
        log_p = forward(teacher, ids, positions, args.autocast)[predicted].float().log_softmax(-1)
    return cross_entropy, F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


@dataclass(frozen=True)
class HeldOut:
    """Nats per token: what a model loses, how far its predictions are from the teacher's (0 without one)."""

    loss: float
    kl: float


@torch.no_grad()
def held_out_losses(model, teacher, documents, device, autocast):
    """Each document alone and, where the context allows, whole: what `mea eval`
    prints, but for the rounding of bf16 products."""
    longest = max(map(len, documents))
    row_tokens = min(longest, model.config.max_position_embeddings - 1)
    nats = divergence = tokens = 0
    model.eval()
    for row in pack(documents, row_tokens):
        ids, positions, labels = to_batch([row], row_tokens, device)
        predicted = labels != IGNORED
        log_q = forward(model, ids, positions, autocast)[predicted].float().log_softmax(-1)
        nats += F.nll_loss(log_q, labels[predicted], reduction="sum").item()
        if teacher is not None:
            log_p = forward(teacher, ids, positions, autocast)[predicted].float().log_softmax(-1)
            divergence += F.kl_div(log_q, log_p, log_target=True, reduction="sum").item()
        tokens += predicted.sum().item()
    model.train()
    return HeldOut(nats / tokens, divergence / tokens)


class Trainer:
    def __init__(self, student, teacher, documents, held_out, args):
        self.student, self.teacher, self.args = student, teacher, args
        self.parameters = trained_parameters(student, args.train)
        matrices = [p for p in self.parameters if p.dim() > 1]
        vectors = [p for p in self.parameters if p.dim() <= 1]
        groups = [dict(params=matrices, weight_decay=args.weight_decay), dict(params=vectors, weight_decay=0.0)]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=args.lr, betas=(0.9, 0.95))
        self.batches, self.step = Batches(documents, args), 0
        self.state_path = args.out.with_name(args.out.name + ".state.pt")
        self.settings = {name: str(getattr(args, name)) for name in SETTINGS}
        self.tokens, self.seconds, self.held_out = 0, 0.0, held_out  # of all runs
        self.curve_path = args.out.with_name(args.out.name + ".curve.jsonl")
        if self.state_path.exists():
            self._restore()

    def rate(self):
        """Linear warm-up, then a cosine to a tenth."""
        done = (self.step - self.args.warmup) / max(1, self.args.steps - self.args.warmup)
        cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * max(0.0, done)))
        return self.args.lr * min(1.0, (self.step + 1) / max(1, self.args.warmup)) * cosine

    def run(self):
        count = sum(p.numel() for p in self.parameters)
        total = sum(p.numel() for p in self.student.parameters())
        print(
            f"training {count / 1e6:.2f}M of {total / 1e6:.2f}M parameters on {self.args.device}, seed {self.args.seed}",
            flush=True,
        )
        self.student.train()
        if self.step == 0:
            self.curve_path.unlink(missing_ok=True)
            self._measure()
        while self.step < self.args.steps:
            started = time.monotonic()
            rows = next(self.batches)
            cross_entropy, kl, norm = self._train_step(to_batch(rows, self.args.row_tokens, self.args.device))
            self.tokens += sum(len(document) for row in rows for document in row)
            self.seconds += time.monotonic() - started
            self.step += 1
            if not math.isfinite(cross_entropy + kl + norm):
                fail(f"step {self.step}: the loss or its gradient is not finite; a smaller --lr may help")
            last = self.step == self.args.steps
            if last or self.step % self.args.log_every == 0:
                distilled = f" KL {kl:.4f}" if self.teacher is not None else ""
                left = self.seconds / self.step * (self.args.steps - self.step)
                print(
                    f"step {self.step}/{self.args.steps} loss {cross_entropy:.4f}{distilled} gradient {norm:.2f}"
                    f" rate {self.rate():.1e} {self.tokens / self.seconds:.0f} tokens/s, {left / 60:.0f} min left",
                    flush=True,
                )
            if last or (self.args.eval_every and self.step % self.args.eval_every == 0):
                self._measure()
            if last or self.step % self.args.save_every == 0:
                self._save()

    def _forget_points_after(self, step):
        """They were measured, but the steps before them are taken again."""
        if self.curve_path.exists():
            points = self.curve_path.read_text().splitlines()
            kept = [point for point in points if json.loads(point)["step"] <= step]
            self.curve_path.write_text("".join(point + "\n" for point in kept))

    def _measure(self):
        """One more line of OUT.curve.jsonl."""
        if not self.held_out:
            return
        found = held_out_losses(self.student, self.teacher, self.held_out, self.args.device, self.args.autocast)
        point = dict(step=self.step, tokens=self.tokens, seconds=round(self.seconds), loss=found.loss, kl=found.kl)
        with self.curve_path.open("a") as curve:
            curve.write(json.dumps(point) + "\n")
        distilled = f", KL {found.kl:.4f}" if self.teacher is not None else ""
        print(f"held-out loss {found.loss:.4f}{distilled} after {self.tokens} tokens", flush=True)

    def _train_step(self, batch):
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.zero_grad(set_to_none=True)
        cross_entropy, kl = losses(self.student, self.teacher, batch, self.args)
        share = self.args.distill if self.teacher is not None else 0.0
        ((1 - share) * cross_entropy + share * kl).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.args.clip)
        self.optimizer.step()
        return cross_entropy.item(), kl.item(), norm.item()

    def _save(self):
        state = dict(step=self.step, tokens=self.tokens, seconds=self.seconds, settings=self.settings, optimizer=self.optimizer.state_dict())
        state["model"] = self.student.state_dict()
        temporary = self.state_path.with_name(self.state_path.name + ".tmp")
        torch.save(state, temporary)
        temporary.replace(self.state_path)

    def _restore(self):
        try:
            state = torch.load(self.state_path, map_location="cpu")
        except Exception as error:  # a torn or foreign file: whatever torch makes of it
            fail(f"{self.state_path}: {error}")
        for name, value in self.settings.items():
            if state["settings"].get(name) != value:
                flag, then = name.replace("_", "-"), state["settings"].get(name)
                fail(f"{self.state_path}: was made with --{flag} {then}, now {value}; remove it to begin anew")
        self.student.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        while self.step < state["step"]:
            next(self.batches)
            self.step += 1
        self.tokens, self.seconds = state["tokens"], state["seconds"]
        self._forget_points_after(self.step)
        print(f"goes on from step {self.step} of {self.state_path}", flush=True)
