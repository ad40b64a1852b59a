"""The flags of a command."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Sequence
from typing import NoReturn

from ditexp.checks import ConfigError
from ditexp.cli.packaged import known_keys
from ditexp.cli.subcommands import Subcommand


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help lists the choices")


def own_parser(command: Subcommand) -> Parser:
    """The parser of a command without Hydra, with its help."""
    return Parser(
        prog=f"ditexp {command.name}",
        description=command.about,
        epilog=command.shown_examples(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def with_outputs(arguments: Sequence[str]) -> list[str]:
    """The arguments of such a command with its outputs=<folder>, as all commands have it, as the flag --outputs."""
    given = [text for text in arguments if text.startswith("outputs=")]
    rest = [text for text in arguments if not text.startswith("outputs=")]
    flags = [word for text in given for word in ("--outputs", os.path.expanduser(text.partition("=")[2]))]
    return [*rest[:1], *flags, *rest[1:]]  # behind the verb that a command may have, and before any --


def parser() -> Parser:
    """Hydra's flags, as far as they make sense here: without those that replace ditexp's own configurations."""
    parser = Parser(prog="", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    add = parser.add_argument
    add("--multirun", "-m", action="store_true", help="sweep: a cell for each combination of values, as steps=20,50")
    add("--run", "-r", action="store_true", help="run one cell, even if the configuration asks for a sweep")
    parts = ["job", "hydra", "all"]
    add("--cfg", "-c", choices=parts, metavar="job", help="print the composed configuration and run nothing")
    add("--resolve", action="store_true", help="with --cfg: fill in all values")
    add("--package", "-p", metavar="KEY", help="with --cfg: print only what is below a key, as solver")
    topics = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    about_info = f"print how the configuration is composed: {' | '.join(topics)}"
    add("--info", "-i", nargs="?", const="all", choices=topics, metavar="WHAT", help=about_info)
    add("--config-dir", "-cd", metavar="FOLDER", help="a folder of your own configurations, beside ditexp's")
    add("--config-name", "-cn", metavar="NAME", help="a configuration there, in place of the command's own")
    add("--shell-completion", "-sc", action="store_true", help="install=bash|fish|zsh prints what the shell is to run")
    add("--hydra-help", action="store_true", help="print Hydra's own help")
    add("--version", action="store_true", help="print the version of ditexp")
    add("--help", "-h", action="store_true", help="print this text")
    return parser


def described() -> list[tuple[str, str]]:
    """Each flag with what it does."""
    return [
        (" ".join([", ".join(reversed(action.option_strings)), action.metavar or ""]).strip(), action.help or "")
        for action in parser()._actions
        if action.option_strings and isinstance(action.metavar, str | None)
    ]


def not_a_flag(flag: str, config_name: str) -> str:
    """The mistake that an unknown flag is."""
    name, sign, value = flag.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if key.partition(".")[0] in known_keys(config_name):
        return f"{flag} is not a flag, and settings have no dashes: write {key}={value if sign else '...'}"
    known = [name for action in parser()._actions for name in action.option_strings if name.startswith("--")]
    close = difflib.get_close_matches(f"--{name}", known, n=1)
    return f"{flag} is not a flag{f'; did you mean {close[0]}?' if close else ''}; choices: {', '.join(known)}"
