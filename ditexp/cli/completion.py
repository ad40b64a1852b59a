"""Completion in the shell: Hydra's script calls `ditexp -sc query=bash` with the line so far, subcommand and all."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ditexp.cli.command import command
from ditexp.cli.subcommands import SUBCOMMANDS


def complete(arguments: Sequence[str]) -> None:
    """Print the script that a shell evaluates (install=bash), or what the line in COMP_LINE may go on with."""
    name = "run"
    if any(argument.startswith("query=") for argument in arguments):
        program, *typed = os.environ.get("COMP_LINE", "").split(" ")
        words = [word for word in typed if word]
        if not words or (len(words) == 1 and typed[-1]):
            print("\n".join(name for name in SUBCOMMANDS if name.startswith("".join(words))))
            return
        name = words[0]
        os.environ["COMP_LINE"] = " ".join([program, *typed[typed.index(name) + 1 :]])
    if name in SUBCOMMANDS and (config := SUBCOMMANDS[name].config):  # for others the shell itself completes files
        sys.argv = ["ditexp", *arguments]
        command(config)(lambda cfg: None)()
