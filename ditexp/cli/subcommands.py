"""The subcommands of `ditexp`, and what it prints by itself."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

SUBCOMMANDS: Mapping[str, str] = {
    "run": "sample and score: one cell, or a sweep with -m",
    "report": "make tables, pictures and a page of what was run",
    "evaluate": "score images without a model",
    "samples": "list, verify, export and free sample sets",
    "train": "train a network",
    "optimize": "find good schedules for a model",
    "reference": "prepare the features of reference images once",
    "inspect": "say what a file is: a checkpoint, a VAE, a reference",
}

BEGIN: Mapping[str, str] = {
    "ditexp run": "one cell: 512 digits of the bundled model",
    "ditexp run -m solver=euler,heun steps=10,20": "a sweep of four cells, with a report",
    "ditexp run --help": "all that can be set and swept",
}


def overview() -> str:
    """What `ditexp --help` prints."""
    lines = ["Samples from trained DiT and rectified-flow models, and scores the samples.", "", "Commands:"]
    lines += [f"  {name:11}{about}" for name, about in SUBCOMMANDS.items()]
    lines += ["", "To begin with:"]
    lines += [f"  {command:45}{about}" for command, about in BEGIN.items()]
    lines += ["", "`ditexp <command> --help` explains one. `python -m ditexp` is the same as `ditexp`."]
    return "\n".join(lines)


def not_a_subcommand(word: str) -> str:
    """The mistake of a first word that names no subcommand, with the remedy."""
    if "=" in word:
        return f"{word}: the command comes first, as in `ditexp run {word}`"
    if word.startswith("-"):
        return f"{word}: the command comes before its flags, as in `ditexp run {word}`; `ditexp --help` lists commands"
    close = difflib.get_close_matches(word, SUBCOMMANDS, n=1)
    hint = f"did you mean `ditexp {close[0]}`?; " if close else ""
    return f"unknown command '{word}'; {hint}choose from {', '.join(SUBCOMMANDS)}"
