"""The program `mea` inside of this package."""

import os
import pathlib
import sys


def program_path() -> pathlib.Path:
    return pathlib.Path(__file__).resolve().parent / "_installed/bin/mea"


def main() -> None:
    """Becomes that program: signals, exit status and process id are its own."""
    os.execv(program_path(), ["mea", *sys.argv[1:]])
