#!/usr/bin/env python3
"""Short continued training of a converted checkpoint: what compression took away, a few hundred steps bring back.

    finetune.py CHECKPOINT OUT --text FILE [--teacher DIR] [--train all|attention] [--steps N]

CHECKPOINT is an MEA checkpoint or a plain one, OUT becomes a new checkpoint of the same format and dtype, complete or
not at all. --teacher is the model that was converted: the student then learns its whole distribution (KL of the
logits) instead of the text's next token alone, --distill says in what share. Interrupted, the same command goes on
where OUT.state.pt stands. Works on the CPU (float32) and on a GPU (bf16 autocast over float32 weights).

Texts are split into documents at the tokenizer's end token; a document sees itself alone and starts at position 0.
"""

import argparse
import json
import math
import random
import re
import shutil
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from hf.configuration_mea import MeaConfig
from hf.modeling_mea import MeaForCausalLM
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

IGNORED = -100  # label of a position that no loss is taken at
ATTENTION = re.compile(r"\.self_attn\.(k_proj|v_proj|o_proj|k_hlc|v_hlc|k_norm|head_norm)\.")
# Files that save_pretrained does not write; the tokenizer is copied as it is.
COMPANIONS = (
    "generation_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def fail(message):
    sys.exit(f"finetune: {str(message).strip().splitlines()[0]}")


def register():
    """MEA checkpoints load without the code beside them, and are saved with it."""
    AutoConfig.register("mea", MeaConfig)
    AutoModelForCausalLM.register(MeaConfig, MeaForCausalLM)
    MeaConfig.register_for_auto_class()
    MeaForCausalLM.register_for_auto_class("AutoModelForCausalLM")


def load_model(directory, device, dtype):
    """A checkpoint of ours or of transformers with every tensor in its place, or one line that says what is not."""
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype, output_loading_info=True, local_files_only=True, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        fail(f"{directory}: {error}")
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[what]:
            fail(f"{directory}: {what.replace('_', ' ')}: {', '.join(str(key) for key in sorted(info[what])[:3])}")
    return model.to(device)


def load_tokenizer(directory):
    try:
        return PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        fail(f"{directory}: tokenizer: {error}")


def read_documents(tokenizer, paths):
    """Lists of token ids: what the tokenizer puts before a text, the document, the end token."""
    end, documents = tokenizer.eos_token_id, []
    if end is None:
        fail("the tokenizer names no eos_token to end documents with")
    opening = tokenizer("").input_ids
    for path in paths:
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            fail(f"{path}: {error}")
        for document in filter(None, text.split(tokenizer.eos_token)):
            documents.append([*opening, *tokenizer(document, add_special_tokens=False).input_ids, end])
    if not documents:
        fail(f"{', '.join(map(str, paths))}: no documents")
    return documents


def pack(documents, row_tokens):
    """Yields rows, each a list of documents that fit into it together. A document longer than a row is cut into
    pieces that overlap by one token, so that each of its tokens is predicted once."""
    row, room = [], row_tokens
    for document in documents:
        for first in range(0, len(document) - 1, row_tokens - 1):
            piece = document[first : first + row_tokens]
            if len(piece) > room:
                yield row
                row, room = [], row_tokens
            row.append(piece)
            room -= len(piece)
    if row:
        yield row


def to_batch(rows, row_tokens, device):
    """(ids, positions, labels), [rows, row_tokens] each. Positions start anew with each document, by which transformers
    tells them apart; labels[i] is the token to predict at i, IGNORED at the end of a document and behind all."""
    batch = torch.zeros(3, len(rows), row_tokens, dtype=torch.long)
    batch[2] = IGNORED
    for i, row in enumerate(rows):
        at = 0
        for document in row:
            end = at + len(document)
            batch[0, i, at:end] = torch.tensor(document)
            batch[1, i, at:end] = torch.arange(len(document))
            batch[2, i, at : end - 1] = torch.tensor(document[1:])
            at = end
        batch[1, i, at:] = torch.arange(row_tokens - at)
    return batch.to(device)


class Batches:
    """Rows of all documents in an order drawn anew for each pass; batch n is the same in every run of a seed."""

    def __init__(self, documents, args):
        self.documents, self.args, self.passes = documents, args, 0
        self.rows = iter(())

    def __next__(self):
        rows = []
        while len(rows) < self.args.rows:
            row = next(self.rows, None)
            if row is None:
                order = list(self.documents)
                random.Random(f"{self.args.seed} {self.passes}").shuffle(order)
                self.rows, self.passes = pack(order, self.args.row_tokens), self.passes + 1
            else:
                rows.append(row)
        return rows


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


@torch.no_grad()
def held_out_loss(model, documents, device, autocast):
    """Nats per token, each document alone and, where the context allows, whole: what `mea eval` prints."""
    longest = max(map(len, documents))
    row_tokens = min(longest, model.config.max_position_embeddings - 1)
    nats = tokens = 0
    model.eval()
    for row in pack(documents, row_tokens):
        ids, positions, labels = to_batch([row], row_tokens, device)
        predicted = labels != IGNORED
        logits = forward(model, ids, positions, autocast)[predicted].float()
        nats += F.cross_entropy(logits, labels[predicted], reduction="sum").item()
        tokens += predicted.sum().item()
    model.train()
    return nats / tokens


def trained_parameters(model, which):
    """Freezes the others. A mix that is the identity to the bit stays so: its projection can do all it could."""
    chosen = []
    for name, parameter in model.named_parameters():
        identity = name.endswith("_hlc.weight") and _is_identity(parameter)
        parameter.requires_grad_(not identity and (which == "all" or ATTENTION.search(name) is not None))
        if parameter.requires_grad:
            chosen.append(parameter)
    return chosen


def _is_identity(mix):
    return mix.shape[0] == mix.shape[1] and torch.equal(mix, torch.eye(len(mix), device=mix.device, dtype=mix.dtype))


class Trainer:
    def __init__(self, student, teacher, documents, args):
        self.student, self.teacher, self.args = student, teacher, args
        self.parameters = trained_parameters(student, args.train)
        matrices = [p for p in self.parameters if p.dim() > 1]
        vectors = [p for p in self.parameters if p.dim() <= 1]
        groups = [dict(params=matrices, weight_decay=args.weight_decay), dict(params=vectors, weight_decay=0.0)]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=args.lr, betas=(0.9, 0.95))
        self.batches, self.step = Batches(documents, args), 0
        self.state_path = args.out.with_name(args.out.name + ".state.pt")
        self.settings = {
            name: str(getattr(args, name))
            for name in (
                "checkpoint",
                "text",
                "teacher",
                "distill",
                "train",
                "steps",
                "rows",
                "row_tokens",
                "lr",
                "seed",
                "weight_decay",
                "warmup",
            )
        }
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
        started, tokens = time.time(), 0
        while self.step < self.args.steps:
            rows = next(self.batches)
            cross_entropy, kl, norm = self._train_step(to_batch(rows, self.args.row_tokens, self.args.device))
            tokens += sum(len(document) for row in rows for document in row)
            self.step += 1
            if not math.isfinite(cross_entropy + kl + norm):
                fail(f"step {self.step}: the loss or its gradient is not finite; a smaller --lr may help")
            last = self.step == self.args.steps
            if last or self.step % self.args.log_every == 0:
                seconds = time.time() - started
                distilled = f" KL {kl:.4f}" if self.teacher is not None else ""
                print(
                    f"step {self.step}/{self.args.steps} loss {cross_entropy:.4f}{distilled} gradient {norm:.2f}"
                    f" rate {self.rate():.1e} {tokens / seconds:.0f} tokens/s {seconds:.0f} s",
                    flush=True,
                )
            if last or self.step % self.args.save_every == 0:
                self._save()

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
        state = dict(step=self.step, settings=self.settings, optimizer=self.optimizer.state_dict())
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
        print(f"goes on from step {self.step} of {self.state_path}", flush=True)


def export(model, source, out, dtype):
    """OUT appears when all of it is written."""
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.to(dtype).save_pretrained(temporary)
    for name in COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, temporary / name)
    temporary.rename(out)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="directory to write; must not exist")
    parser.add_argument("--text", action="append", required=True, help="to train on; may be repeated")
    parser.add_argument("--teacher", type=Path, help="the model that was converted")
    parser.add_argument("--distill", type=float, default=1.0, help="share of the KL in the loss, with --teacher (1.0)")
    parser.add_argument(
        "--train",
        choices=("all", "attention"),
        default="all",
        help="attention: W_lc, K, V, O and the norms of keys and heads",
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rows", type=int, default=8, help="of a batch (8)")
    parser.add_argument("--row-tokens", type=int, default=512)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--warmup", type=int, default=20, help="steps (20)")
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--clip", type=float, default=1.0, help="norm of the gradient (1.0)")
    parser.add_argument("--eval-text", help="held-out loss before and after")
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--save-every", type=int, default=200, help="steps between OUT.state.pt (200)")
    parser.add_argument("--keep-state", action="store_true", help="leave OUT.state.pt when done")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: one per core")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.out.exists():
        fail(f"{args.out}: exists already")
    needed = [directory / "config.json" for directory in (args.checkpoint, args.teacher) if directory]
    for file in [*needed, args.checkpoint / "tokenizer.json", *map(Path, args.text), *filter(None, [args.eval_text])]:
        if not Path(file).is_file():
            fail(f"{file}: no such file")
    if not 0 <= args.distill <= 1:
        fail(f"--distill {args.distill}: expected a share in 0..1")
    for name in ("steps", "rows", "row_tokens", "log_every", "save_every"):
        if getattr(args, name) < (2 if name == "row_tokens" else 1):
            fail(f"--{name.replace('_', '-')} {getattr(args, name)}: too small")
    return args


def main():
    args = parse_arguments()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    register()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.device = torch.device(args.device)
    args.autocast = args.device.type == "cuda"

    tokenizer = load_tokenizer(args.checkpoint)
    documents = read_documents(tokenizer, args.text)
    held_out = read_documents(tokenizer, [args.eval_text]) if args.eval_text else None
    student = load_model(args.checkpoint, args.device, torch.float32)
    stored = json.loads((args.checkpoint / "config.json").read_text())
    dtype = getattr(torch, stored.get("dtype") or stored.get("torch_dtype") or "float32")
    teacher = None
    if args.teacher:
        teacher = load_model(args.teacher, args.device, torch.bfloat16 if args.autocast else torch.float32).eval()
        if teacher.config.vocab_size != student.config.vocab_size:
            fail(
                f"--teacher {args.teacher}: vocab_size {teacher.config.vocab_size}, of {args.checkpoint} {student.config.vocab_size}"
            )
    if args.row_tokens > student.config.max_position_embeddings:
        fail(
            f"--row-tokens {args.row_tokens}: exceeds max_position_embeddings {student.config.max_position_embeddings}"
        )

    trainer = Trainer(student, teacher, documents, args)
    if held_out:
        print(f"held-out loss before {held_out_loss(student, held_out, args.device, args.autocast):.4f}", flush=True)
    trainer.run()
    if held_out:
        print(f"held-out loss after {held_out_loss(student, held_out, args.device, args.autocast):.4f}", flush=True)
    export(student, args.checkpoint, args.out, dtype)
    if not args.keep_state:
        trainer.state_path.unlink(missing_ok=True)
    print(f"wrote {args.out}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("finetune: interrupted; the same command goes on from the last saved state")
