"""How a command says what went wrong: one line for each mistake, with what to do about it."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ditexp.checks import ConfigError
from ditexp.cli.environment import dangling
from ditexp.cli.keys import unknown_key
from ditexp.cli.packaged import options_of, packaged
from ditexp.cli.shortage import shortage
from ditexp.terminal.notices import in_line


class CellsFailed(RuntimeError):
    """Some cells failed; each has been reported already."""


def is_wrong_input(error: Exception) -> bool:
    """Whether an error is of what the user gave; if not, a run has failed."""
    return isinstance(error, ValueError | HydraException | OmegaConfBaseException) and not shortage(error)


def describe(error: Exception | str) -> list[str]:
    """What to print for an error: one line for each mistake, without control characters."""
    return [in_line(line) for line in lines_of(error)]


def lines_of(error: Exception | str) -> list[str]:
    if isinstance(error, ConfigError):
        return str(error).split("\n")
    return [line_of(error, str(error))]


def line_of(error: Exception | str, text: str) -> str:
    """One line for an error. text: its message."""
    if match := re.search(r"Could not override '([^']+)'", text):
        return not_overridden(match[1], error)
    for pattern, line in OF_HYDRA:
        if match := re.search(pattern, text, re.DOTALL):
            return line(match)
    if isinstance(error, KeyError) and "env_copy" in str(sys.argv):
        return f"hydra.job.env_copy: the environment has no {text}: export it, or leave it out"
    if match := re.search(r"Error merging override (.+)", text):
        cause = error.__cause__ if isinstance(error, Exception) else None
        return f"{match[1]}: {str(cause or error).splitlines()[0]}"
    if match := re.search(r"full_key: (\S+)", text):
        first, second, *_ = text.splitlines()
        return f"{match[1]}: {second if first.endswith(':') else first}"
    if isinstance(error, YAMLError):
        return f"{' '.join(text.split())}: correct this file"
    if isinstance(error, Exception) and (short := shortage(error)):
        return short
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; choose another path{by_setting(str(error.filename))}"
    line = " ".join(text.split())
    is_ours = isinstance(error, ValueError | RuntimeError | OSError | HydraException | str) and line
    return line if is_ours else f"{type(error).__name__}: {in_line(line, 150)}"


def no_such_option(match: re.Match[str]) -> str:
    file = re.match(r"In '([^']+/[^']+)': ", match.string)
    where = f" in {file[1]}.yaml" if file else ""
    group = match[1].rpartition("/")[0]
    known = options_of(group) or options_of(group.partition("/")[0]) or match[2].split()
    return unknown_option(match[1], known, where)


# Hydra's messages, each with the line that is printed in its place.
OF_HYDRA: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (
        r"(\S+) appears more than once in the final defaults list",
        lambda match: f"{match[1]} has an option already: leave the plus out to choose another",
    ),
    (r"Could not find '([^']+)'\s*Available options in '[^']+':\n(.*?)\n(?:Config search|$)", no_such_option),
    (  # one of a list of options
        r"Could not load '([^']+)'",
        lambda match: unknown_option(match[1], options_of(str(Path(match[1]).parent))),
    ),
    (
        r"You must specify '(\S+)'.*Available options:\n(.*)",
        lambda match: f"{match[1]} has no default: choose {match[1]}={', '.join(match[2].split())}",
    ),
    (r"Missing mandatory value: (\S+)", lambda match: f"{match[1]} has no default: give {match[1]}=..."),
    (
        r"Could not delete (?:from config\. )?'([^']+)'",
        lambda match: f"~{match[1]}: there is no such setting to remove: leave it out",
    ),
    (
        r"An item is already at '([^']+)'",
        lambda match: f"+{match[1]}: {match[1]} exists already: leave the plus out to change it",
    ),
    (
        r"Multiple values for (\S+)\. To override [^\n]*: (\S+)'",
        lambda match: f"+{match[1]}={match[2]}: {match[1]} has an option already: leave the plus out to choose another",
    ),
    (
        r"^Config group override must be a string or a list",
        lambda _: "a group needs the name of an option, not null: leave it out, or choose one; metric=[] is none",
    ),
    (r"Interpolation key '(\S+)' not found\s*full_key: (\S+)", lambda match: dangling(match[2], match[1])),
)


def not_overridden(key: str, error: Exception | str) -> str:
    groups = [path.name for path in packaged("conf").iterdir() if path.is_dir()]
    if key in groups:
        return f"{key} is not a setting of this command: leave it out"
    return unknown_key(key, keys_beside(error) or ([] if "." in key else sorted(groups)))


def keys_beside(error: BaseException | str | None) -> list[str]:
    """The keys that a mistyped one could be, read from the node that OmegaConf's error refers to."""
    while isinstance(error, BaseException):
        if isinstance(error, OmegaConfBaseException) and error.parent_node is not None:
            return [str(key) for key in error.parent_node if key not in ("_target_", "hydra")]
        error = error.__cause__
    return []


def unknown_option(path: str, options: list[str], where: str = "") -> str:
    """where: " in <file>", or nothing."""
    group, _, name = path.rpartition("/")
    if (packaged("conf") / (first := path.partition("/")[0])).is_dir() and first != "hydra":
        group, name = first, path.removeprefix(f"{first}/")  # an option whose name has a slash
    close = difflib.get_close_matches(name, options, n=1)
    hint = f"; did you mean {group}={close[0]}?" if close else ""
    return f"unknown {group} '{name}'{where}{hint}; choices: {', '.join(options)}"


def by_setting(path: str) -> str:
    """The setting that leads to a path: one that was typed, or else outputs, below which everything is written."""
    typed = [argument.partition("=") for argument in sys.argv[1:] if "=" in argument]
    place = Path(path).absolute()
    keys = [key for key, _, value in typed if value and place.is_relative_to(Path(value.strip("'\"")).absolute())]
    if keys or place.is_relative_to(Path("outputs").absolute()):
        return f", by {keys[-1] if keys else 'outputs'}=..."
    return ""
