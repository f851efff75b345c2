#!/usr/bin/env python3
"""Short training of a converted checkpoint: what compression took away, a few hundred steps bring back.

    heal.py CHECKPOINT OUT --text FILE [--teacher DIR] [--train all|attention] [--steps N]

CHECKPOINT is an MEA checkpoint or a plain one, OUT becomes a new checkpoint of the same format and dtype, complete or
not at all. --teacher is the model that was converted: the student then learns its whole distribution (KL of the
logits) instead of the text's next token alone, --distill says in what share. Interrupted, the same command goes on
where OUT.state.pt stands. With --eval-text, OUT.curve.jsonl says what held-out text loses, by tokens learned from.
Weights are float32; products are bf16 on a GPU and on CPUs that multiply it.

Texts are split into documents at the tokenizer's end token; a document sees itself alone and starts at position 0.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from healing.model import export, fail, load_model, load_tokenizer, register
from healing.text import first_tokens, read_documents
from healing.trainer import Trainer, held_out_losses


def multiplies_bf16(device):
    """Elsewhere bf16 is emulated, which is slower than float32."""
    if device.type == "cuda":
        return True
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and any(flag in cpuinfo.read_text() for flag in ("avx512_bf16", "amx_bf16"))


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
    parser.add_argument("--eval-every", type=int, default=0, help="steps between points of the curve; 0: the ends alone")
    parser.add_argument("--eval-tokens", type=int, default=0, help="of --eval-text, whole documents; 0: all")
    parser.add_argument("--products", choices=("auto", "bf16", "f32"), default="auto")
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
    for name in ("eval_every", "eval_tokens"):
        if getattr(args, name) < 0:
            fail(f"--{name.replace('_', '-')} {getattr(args, name)}: must not be negative")
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
    args.autocast = multiplies_bf16(args.device) if args.products == "auto" else args.products == "bf16"

    tokenizer = load_tokenizer(args.checkpoint)
    documents = read_documents(tokenizer, args.text)
    held_out = read_documents(tokenizer, [args.eval_text]) if args.eval_text else []
    if args.eval_tokens:
        held_out = first_tokens(held_out, args.eval_tokens)
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

    if held_out and teacher is not None:
        loss = held_out_losses(teacher, None, held_out, args.device, args.autocast).loss
        print(f"held-out loss of the teacher {loss:.4f}", flush=True)
    trainer = Trainer(student, teacher, documents, held_out, args)
    trainer.run()
    export(student, args.checkpoint, args.out, dtype)
    if not args.keep_state:
        trainer.state_path.unlink(missing_ok=True)
    print(f"wrote {args.out}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("heal: interrupted; the same command goes on from the last saved state")
