"""`ditexp <command> ...`, and `python -m ditexp <command> ...`: imports and runs the one command that is chosen."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from ditexp import __version__
from ditexp.cli.streams import without_readers
from ditexp.cli.subcommands import SUBCOMMANDS, Subcommand, not_a_subcommand, overview

COMPLETION = {"--shell-completion", "-sc"}
ANSWERED = {"--help", "-h", "--version"}  # flags that the arguments alone answer


def main() -> None:
    word, *arguments = sys.argv[1:] or ["--help"]
    if COMPLETION.intersection([word, *arguments[:1]]):
        from ditexp.cli.completion import complete

        complete(sys.argv[1:] if word in COMPLETION else arguments)
    elif word in SUBCOMMANDS:
        # A program's name of two words, as argparse has it for subcommands; `ditexp.provenance` reads it.
        sys.argv = [f"ditexp {word}", *arguments]
        run(SUBCOMMANDS[word], arguments)
    else:
        with without_readers():
            answer(word)


def answer(word: str) -> None:
    """What ditexp says without a subcommand."""
    if word in ("--help", "-h"):
        print(overview())
    elif word == "--version":
        print(f"ditexp {__version__}")
    else:
        print(f"ditexp: {not_a_subcommand(word)}", file=sys.stderr)
        sys.exit(2)


def run(subcommand: Subcommand, arguments: Sequence[str]) -> None:
    """Run a command. One that is asked only for its help or version need not import torch, which takes seconds."""
    if subcommand.config and not ANSWERED.isdisjoint(arguments):
        from ditexp.cli.command import command

        command(subcommand.config)(lambda cfg: None)()
    else:
        importlib.import_module(f"ditexp.{subcommand.name}.__main__").main()


if __name__ == "__main__":
    main()
