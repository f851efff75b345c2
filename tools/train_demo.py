"""Trains, exports and evaluates the demo models.

train NAME DIR      NAME: mha, mea-full, mea-half; continues from DIR.pt, writes DIR
eval-data DIR       heldout.txt and {recall,copy,arithmetic}.jsonl
eval DIR...         loss and accuracies of checkpoints read back from disk, on models/eval
check DIR...        logits and tokens against the training model and transformers
generate DIR TEXT   greedy continuation
"""

import argparse
import json
from pathlib import Path

from demo.evaluate import Evaluator, report, write_eval_data
from demo.model import MODELS
from demo.train import Trainer

EVAL_DIRECTORY = Path(__file__).resolve().parent.parent / "models" / "eval"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train")
    train.add_argument("name", choices=MODELS)
    train.add_argument("directory", type=Path)
    train.add_argument(
        "--export-only", action="store_true", help="export what the saved state has reached"
    )
    commands.add_parser("eval-data").add_argument("directory", type=Path)
    for command in ("eval", "check"):
        commands.add_parser(command).add_argument("directories", type=Path, nargs="+")
    generate = commands.add_parser("generate")
    generate.add_argument("directory", type=Path)
    generate.add_argument("text")
    args = parser.parse_args()

    if args.command == "train":
        trainer = Trainer(args.name, args.directory.with_suffix(".pt"))
        if not args.export_only:
            trainer.run()
        trainer.export(args.directory)
    elif args.command == "eval-data":
        write_eval_data(args.directory)
    elif args.command == "eval":
        for directory in args.directories:
            print(json.dumps(report(directory, EVAL_DIRECTORY)), flush=True)
    elif args.command == "check":
        from demo.check import check  # transformers, needed only here

        for directory in args.directories:
            print(directory, check(directory, (EVAL_DIRECTORY / "copy.jsonl").read_text()[:1000]))
    else:
        print(Evaluator(args.directory).generate(args.text))


if __name__ == "__main__":
    main()
