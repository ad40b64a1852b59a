"""`ditexp <command> ...`, and `python -m ditexp <command> ...`: imports and runs the one command that is chosen."""

from __future__ import annotations

import importlib
import sys

from ditexp import __version__
from ditexp.cli.streams import without_readers
from ditexp.cli.subcommands import SUBCOMMANDS, not_a_subcommand, overview


def main() -> None:
    word, *arguments = sys.argv[1:] or ["--help"]
    if word in SUBCOMMANDS:
        # A program's name of two words, as argparse has it for subcommands; `ditexp.provenance` reads it.
        sys.argv = [f"ditexp {word}", *arguments]
        importlib.import_module(f"ditexp.{word}.__main__").main()
        return
    with without_readers():
        if word in ("--help", "-h"):
            print(overview())
        elif word == "--version":
            print(f"ditexp {__version__}")
        else:
            print(f"ditexp: {not_a_subcommand(word)}", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
