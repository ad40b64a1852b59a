"""The flags of a command, and its help."""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import textwrap
from typing import NoReturn

from ditexp.checks import ConfigError
from ditexp.cli.packaged import known_keys, options_of, packaged


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help lists the choices")


def parser() -> Parser:
    """Hydra's flags, as far as they make sense here: without those that replace ditexp's own configurations."""
    parser = Parser(prog="", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    add = parser.add_argument
    add("--multirun", "-m", action="store_true", help="sweep: a cell for each combination of values, as steps=20,50")
    add("--run", "-r", action="store_true", help="run one cell, even if the configuration asks for a sweep")
    add("--cfg", "-c", choices=["job", "hydra", "all"], help="print the composed configuration and run nothing")
    add("--resolve", action="store_true", help="with --cfg: fill in all values")
    add("--package", "-p", metavar="KEY", help="with --cfg: print only what is below a key, as solver")
    topics = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    add("--info", "-i", nargs="?", const="all", choices=topics, help="print how the configuration is composed")
    add("--config-dir", "-cd", metavar="FOLDER", help="a folder of your own configurations, beside ditexp's")
    add("--config-name", "-cn", metavar="NAME", help="a configuration there, in place of the command's own")
    add("--shell-completion", "-sc", action="store_true", help="install=bash|fish|zsh prints what the shell is to run")
    add("--hydra-help", action="store_true", help="print Hydra's own help")
    add("--version", action="store_true", help="print the version of ditexp")
    add("--help", "-h", action="store_true", help="print this text")
    return parser


def not_a_flag(flag: str, config_name: str) -> str:
    """The mistake that an unknown flag is."""
    name, sign, value = flag.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if key.partition(".")[0] in known_keys(config_name):
        return f"{flag} is not a flag, and settings have no dashes: write {key}={value if sign else '...'}"
    known = [name for action in parser()._actions for name in action.option_strings if name.startswith("--")]
    close = difflib.get_close_matches(f"--{name}", known, n=1)
    return f"{flag} is not a flag{f'; did you mean {close[0]}?' if close else ''}; choices: {', '.join(known)}"


def help_of(config_name: str, about: str) -> str:
    """What the command does, its groups with their options, its settings and flags."""
    width = min(shutil.get_terminal_size().columns, 120)

    def wrapped(text: str) -> str:
        return textwrap.fill(text, width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)

    text = (packaged("conf") / f"{config_name}.yaml").read_text()
    defaults, _, rest = text.partition("\n\n")
    groups = re.findall(r"^  - (\w+): (\[.*\]|\S+)", defaults, re.MULTILINE)
    settings = re.findall(r"^(\w+: +.*|\w+:\S.*)$", rest, re.MULTILINE)
    lines = [about.strip(), ""]
    if groups:
        lines += ["Groups, each with its default option and all others; <group>=<option> chooses:"]
        for group, default in groups:
            shown = {"null": "", "???": " (required)"}.get(default, f" ({default})")
            lines.append(wrapped(f"{group}{shown}: {', '.join(choices(group))}"))
        lines += ["", "A setting of an option has the group's name in front: solver=dopri5 solver.rtol=1e-3", ""]
    lines += ["Settings, with their defaults; <key>=<value> changes one:", *(f"  {line}" for line in settings), ""]
    lines += [parser().format_help().replace("options:", "Flags:").strip(), ""]
    lines.append("Every option and setting: docs/reference.md")
    return "\n".join(lines)


def choices(group: str) -> list[str]:
    if group == "experiment":
        return sorted(file.parent.name for file in packaged("experiments").glob("*/sweep.yaml"))
    return options_of(group)
