"""What is typed after a command's name, made ready for Hydra: flags in any place, ~ for home, mistakes in one line."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException

from ditexp import __version__
from ditexp.checks import ConfigError
from ditexp.cli.settings import YAML_FILES, known_keys, options_of, packaged

# ~ or ~somebody where a path begins: a whole value, or an element of a list or sweep, in quotes or not.
HOME = re.compile(r"(?:^|(?<=[=,(\[]))(\s*['\"]?)(~[\w.-]*)(?=/|$|[,)\]'\"])")


@dataclass
class Typed:
    """arguments: in the order that Hydra takes. shows: whether Hydra only prints something, and nothing runs."""

    arguments: list[str]
    shows: bool


def read(arguments: Sequence[str], *, config_name: str, about: str) -> Typed:
    """Prepare what was typed; prints and exits for --help and --version.

    config_name: the command's file in conf/. about: what the command does. Raises ConfigError, a line a mistake.
    """
    flags, unknown = parser().parse_known_intermixed_args(arguments)
    if wrong := [not_a_flag(flag, config_name) for flag in unknown if flag.startswith("-")]:
        raise ConfigError("\n".join(wrong))
    if flags.help or flags.version:
        print(help_of(config_name, about) if flags.help else f"ditexp {__version__} (Hydra {hydra.__version__})")
        raise SystemExit(0)
    flags = vars(flags)
    typed = [with_home(override) for override in [*flags.pop("overrides"), *unknown]]
    shows = bool(flags["cfg"] or flags["info"] or flags["shell_completion"] or flags["hydra_help"])
    if flags["config_dir"]:
        check_files(Path(flags["config_dir"]).expanduser(), typed)
    if not flags["shell_completion"]:
        check(typed, config_name, is_sweep=flags["multirun"], shows=shows)
    if flags["multirun"]:
        typed = with_their_groups(typed)
    given = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={os.path.expanduser(value)}")
        for name, value in flags.items()
        if value
    ]
    return Typed([*given, *typed], shows)


def check_files(folder: Path, typed: Sequence[str]) -> None:
    """Raise ConfigError for configurations that would stop Hydra for ever, or without their name."""
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {folder} is no folder: give one of configurations, as {folder}/solver/my.yaml")
    for file in sorted(path for pattern in YAML_FILES for path in folder.glob(pattern)):
        if not file.is_file():
            raise ConfigError(f"{file} is no regular file: remove it")
        if any(file.stem in text for text in typed):
            try:
                file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{file} cannot be read ({error}): save it as UTF-8") from None


class Parser(argparse.ArgumentParser):
    """One that raises ConfigError for what it can't take."""

    def error(self, message: str) -> None:
        raise ConfigError(f"{message}; --help lists what there is")


def parser() -> argparse.ArgumentParser:
    """Hydra's flags, as far as they mean something here: another folder of configurations would replace ditexp's."""
    parser = Parser(prog="", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    add = parser.add_argument
    add("--multirun", "-m", action="store_true", help="sweep: a cell for each combination of values, as steps=20,50")
    add("--run", "-r", action="store_true", help="no sweep, although the configuration says so")
    add("--cfg", "-c", choices=["job", "hydra", "all"], help="print the configuration that comes out, and run nothing")
    add("--resolve", action="store_true", help="with --cfg: with all values filled in")
    add("--package", "-p", metavar="KEY", help="with --cfg: only what lies below a key, as solver")
    topics = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    add("--info", "-i", nargs="?", const="all", choices=topics, help="print how the configuration is composed")
    add("--config-dir", "-cd", metavar="FOLDER", help="a folder of your own configurations, beside ditexp's")
    add("--config-name", "-cn", metavar="NAME", help="a configuration there, in place of the command's own")
    add("--shell-completion", "-sc", action="store_true", help="install=bash|fish|zsh prints what the shell is to run")
    add("--hydra-help", action="store_true", help="what Hydra says of itself")
    add("--version", action="store_true", help="the version of ditexp")
    add("--help", "-h", action="store_true", help="this text")
    return parser


def not_a_flag(flag: str, config_name: str) -> str:
    name, sign, value = flag.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if key.partition(".")[0] in known_keys(config_name):
        return f"{flag} is no flag, and settings have no dashes: write {key}={value if sign else '...'}"
    known = [name for action in parser()._actions for name in action.option_strings if name.startswith("--")]
    close = difflib.get_close_matches(f"--{name}", known, n=1)
    return f"{flag} is no flag{f'; did you mean {close[0]}?' if close else ''}; choices: {', '.join(known)}"


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
        lines += ["Groups, with what is chosen if you don't; one is chosen by <group>=<option>:"]
        for group, default in groups:
            shown = {"null": "", "???": " (required)"}.get(default, f" ({default})")
            lines.append(wrapped(f"{group}{shown}: {', '.join(choices(group))}"))
        lines += ["", "A setting of an option has the group's name in front: solver=dopri5 solver.rtol=1e-3", ""]
    lines += [
        "Settings, with their defaults; one is changed by <key>=<value>:",
        *(f"  {line}" for line in settings),
        "",
    ]
    lines += [parser().format_help().replace("options:", "Flags:").strip(), ""]
    lines.append("Every option and setting: docs/reference.md")
    return "\n".join(lines)


def choices(group: str) -> list[str]:
    if group == "experiment":
        return sorted(file.parent.name for file in packaged("experiments").glob("*/sweep.yaml"))
    return options_of(group)


def with_home(override: str) -> str:
    """The override with the folder that ~ stands for; shells replace it only where a word begins."""
    key, sign, value = override.partition("=")
    return key + sign + HOME.sub(lambda found: found[1] + os.path.expanduser(found[2]), value)


def with_their_groups(overrides: Sequence[str]) -> list[str]:
    """In a sweep over a group, its settings as sweeps of one value: solver.rtol=0.1 as solver.rtol=choice(0.1).

    Hydra first composes what isn't swept, where solver=dopri5,tsit5 is still the default solver and has no rtol.
    """
    parsed = {text: OverridesParser.create().parse_override(text) for text in overrides}
    swept = tuple(f"{override.key_or_group}." for override in parsed.values() if override.is_sweep_override())
    settings = {
        text
        for text, override in parsed.items()
        if override.key_or_group.startswith(swept) and override.type is OverrideType.CHANGE
        if not override.is_sweep_override()
    }
    return ["{0}=choice({2})".format(*text.partition("=")) if text in settings else text for text in overrides]


def check(overrides: Sequence[str], config_name: str, *, is_sweep: bool, shows: bool) -> None:
    """Raise ConfigError with a line for each override that Hydra would misread, or refuse without a remedy."""
    mistakes = []
    known = known_keys(config_name)
    for place, text in enumerate(overrides):
        if spaced := with_spaces(overrides, place, known):
            mistakes.append(spaced)
            break  # what follows is part of it
        if text.startswith("="):
            mistakes.append(f"{text}: give <key>=<value>, such as solver=heun")
        elif "=" not in text and not text.startswith("~"):
            mistakes.append(unassigned(text, known))
        elif text.endswith("=") and not text.startswith("~"):
            mistakes.append(without_value(text))
        else:
            try:
                override = OverridesParser.create().parse_override(text)
            except HydraException:
                mistakes.append(unreadable(text))
            else:
                mistakes.extend(misplaced(override, is_sweep=is_sweep, shows=shows))
    if is_sweep and shows:
        mistakes.append("--cfg and --info print one cell: leave -m out, and give each setting one value")
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def with_spaces(overrides: Sequence[str], place: int, known: Collection[str]) -> str | None:
    """A mistake if an override stands in several words: steps = 10, or steps 10."""
    text, *following = overrides[place : place + 3]
    words = [text]
    if following and following[0].startswith("="):
        words += following[: 2 if following[0] == "=" else 1]
    elif following and "=" not in text + following[0] and text in known:
        return f"{text} {following[0]}: write {text}={following[0]}"
    key, sign, value = " ".join(words).partition("=")
    if sign and key.strip() and value.strip() and (len(words) > 1 or key.rstrip() != key):
        return f"{' '.join(words)}: write {key.strip()}={value.strip()}, without spaces around ="
    return None


def without_value(text: str) -> str:
    key = text[:-1]
    return f"{text} has no value: {choose(key) if is_group(key) else 'give one, or leave it out'}"


def unassigned(text: str, keys: Collection[str]) -> str:
    name, separator, value = re.fullmatch(r"([^:/]*)([:/]?)(.*)", text, re.DOTALL).groups()
    group, _, option = text.partition(".")
    if option and option in options_of(group):
        example = f"{group}={option}"
    elif name.partition(".")[0] in keys:
        example = f"{name}={value if separator and value else '...'}"
    else:
        example = next((f"{group}={text}" for group in keys if text in options_of(group)), "solver=heun")
    return f"{text}: give <key>=<value>, such as {example}"


def unreadable(override: str) -> str:
    """Why Hydra's grammar doesn't take an override, with what to write."""
    key, _, value = override.partition("=")
    functions = OverridesParser.create().functions.definitions
    call = re.match(r"(\w+)\(", value)
    if value.startswith("="):
        why = "one = is enough"
    elif re.search(r",\s*(,|$|[\])])", value):
        return f"{override}: there is a comma too many"
    elif call and call[1] not in functions and value.endswith(")"):
        why = f"{call[1]} is no function of Hydra's, which are {', '.join(sorted(functions))}"
    elif value[:1] in ("[", "{", '"', "'") or (call and call[1] in functions):
        why = f"it begins like {kind_of(value)} but cannot be read as one"
    else:
        special = " ".join(sorted({character for character in value if not parses(f"key=a{character}a")}))
        why = f"a value with {special or 'such signs'} in it takes quotes"
    as_text = f"{key}={quoted(value)}"
    if is_group(key) or not parses(as_text):
        return f"{override}: {why}"
    return f"{override}: {why}; as a text it is written {shell(as_text)}"


def quoted(value: str) -> str:
    """A text as Hydra reads it in an override."""
    return "'{}'".format(value.replace("\\'", "\\\\'").replace("'", "\\'"))


def shell(text: str) -> str:
    """Between double quotes, with what these don't protect."""
    return '"' + re.sub(r'([\\"$`])', r"\\\1", text) + '"'


def is_group(key: str) -> bool:
    return bool(options_of(key))


def choose(group: str) -> str:
    return f"choose {group}={', '.join(options_of(group))}"


def kind_of(value: str) -> str:
    return {"[": "a list", "{": "a dictionary", "'": "a quoted text", '"': "a quoted text"}.get(value[:1], "a function")


def parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def misplaced(override: Override, *, is_sweep: bool, shows: bool) -> Iterator[str]:
    """Mistakes in what an override means."""
    key, text = override.key_or_group, override.input_line
    value = None if override.is_sweep_override() else override.value()
    if override.is_sweep_override() and not is_sweep:
        values = text.partition("=")[2]
        if shows:
            yield f"{text}: --cfg and --info print one cell: give {key} one value"
        elif re.fullmatch(r"\d{1,3}(,\d{3})+", values):
            yield f"{text}: add -m to sweep over these values; one number is written {key}={values.replace(',', '')}"
        else:
            one = f"; one list of them is written {key}=[{values}]" if override.is_choice_sweep() else ""
            yield f"{text}: add -m to sweep over these values{one}"
    if is_group(key) and isinstance(value, list) and key != "metric":
        yield f"{text}: {key} takes one option; -m {key}={','.join(map(str, value))} sweeps over them"
    elif is_group(key) and text.endswith("=null"):
        yield f"{text}: null is no option: leave it out, or {choose(key)}"
    elif key.startswith("hydra.") and not isinstance(value, dict) and options_of(group := key.replace(".", "/")):
        yield f"{text} chooses nothing: write {group}={text.partition('=')[2]}"
