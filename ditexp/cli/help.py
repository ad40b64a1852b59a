"""The help of a command, `ditexp run --help`, and of one of its groups or settings, `ditexp run --help solver`."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from ditexp.checks import ConfigError
from ditexp.cli.errors import unknown_option
from ditexp.cli.explanations import Config, Setting, explained, inherited, options, read
from ditexp.cli.flags import described
from ditexp.cli.packaged import options_of, packaged
from ditexp.cli.subcommands import SUBCOMMANDS, Subcommand, width

FIRST_COLUMN = 20  # a longer name has its text on the lines below
NONE = "null"
OF_HYDRA = ("hydra/job_logging", "hydra/hydra_logging", "hydra/sweeper")  # groups that hardly anybody chooses


def help_of(command: Subcommand, topics: Sequence[str] = ()) -> str:
    """What the command does, its groups, settings and flags; or what its topics are, groups, options and settings.

    topics: solver, solver=dopri5, steps, solver.rtol. Raises ConfigError for a word that is no topic; the overrides of
    a whole command line, solver=heun steps=10, are not topics.
    """
    assert command.config, f"{command.name} has no configuration"
    about = read(packaged("conf") / f"{command.config}.yaml")
    groups = {each.name: each for each in about.settings if choices(each.name) and each.name not in OF_HYDRA}
    if topics and all("=" not in topic or topic.partition("=")[0] in groups for topic in topics):
        return "\n\n".join(topic_of(topic, about, groups, command.name) for topic in topics)
    own = [each for each in about.settings if each.name not in groups and not each.name.startswith("hydra")]
    choose = "[<group>=<option> ...] " if groups else ""
    parts = [
        f"ditexp {command.name} {choose}[<setting>=<value> ...] [flags]",
        command.about,
        command.shown_examples(),
    ]
    if groups:
        example = "solver" if "solver" in groups else next(iter(groups))
        parts.append(
            f"Groups, the default first; `ditexp {command.name} --help {example}` explains one:\n"
            + rows((shown(each), ", ".join(others(each))) for each in groups.values())
        )
    parts += [
        "Settings, with their defaults:\n" + rows((f"{name}={value}", text) for name, value, text in own),
        "Flags:\n" + rows(described()),
        "Every option and setting: docs/reference.md",
    ]
    return "\n\n".join(parts)


def topic_of(topic: str, about: Config, groups: dict[str, Setting], command: str) -> str:
    """What a group, one of its options, or a setting is. Raises ConfigError for another word."""
    group, is_option, option = topic.partition("=")
    if group == "experiment":
        return "experiment: the studies, see docs/studies.md\n\n" + rows(questions())
    if group in groups:
        configs = options(group)
        chosen = [config for config in configs if config.path.stem == option] if is_option else configs
        if not chosen:
            raise ConfigError(unknown_option(f"{group}/{option}", options_of(group)))
        return option_text(chosen[0], configs) if is_option else group_text(groups[group], configs)
    known = [*about.settings, *(each for group in groups for each in explained(group, options(group)))]
    found = [each for each in known if each.name == topic]
    if not found:
        names = [each.name for each in known]
        close = difflib.get_close_matches(topic, names, n=1)
        hint = f"did you mean {close[0]}?; " if close else ""
        raise ConfigError(f"no help on '{topic}'; {hint}`ditexp {command} --help` lists groups and settings")
    return rows((f"{name}={value}", text) for name, value, text in (found[:1] if "." not in topic else found))


def questions() -> Iterator[tuple[str, str]]:
    """Each study with the question at the top of its file, below the commands that run it."""
    for study in choices("experiment"):
        text = (packaged("experiments") / study / "sweep.yaml").read_text(encoding="utf-8")
        top = re.match(r"(?:#.*\n)*", text)
        lines = top[0].splitlines() if top else []
        yield study, " ".join(line.strip("# ") for line in lines if " -m " not in line and "@package" not in line)


def group_text(group: Setting, configs: list[Config]) -> str:
    """All options of a group and their settings."""
    default = "" if group.default in (NONE, "???") else f"; the default is {group.default}"
    parts = [wrapped(f"{group.name}: choose one by {group.name}=<option>{default}", "")]
    if group.comment:
        parts.append(wrapped(group.comment, ""))
    parts.append(rows((config.path.stem, config.about) for config in configs))
    found = explained(group.name, configs)
    lines = [
        (f"{name}={value}", f"{text} [{with_it(members, len(configs))}]".strip())
        for (name, value, text), members in found.items()
    ]
    if lines:
        parts.append("Settings, with their defaults and the options that have them:\n" + rows(lines))
    return "\n\n".join(parts)


def with_it(members: list[str], total: int) -> str:
    return "all" if len(members) == total else ", ".join(members)


def option_text(config: Config, configs: list[Config]) -> str:
    """One option and its settings, also those of the option that it extends."""
    group = config.path.parent.name
    comments = {each[:2]: each.comment for each in explained(group, configs)}
    found: dict[str, Setting] = {}
    first: dict[str, str] = {}  # the first comment says what a setting is; a later one may explain another value
    for name, value, comment in inherited(config):
        first.setdefault(name, comment)
        found[name] = Setting(name, value, comment or comments.get((name, value), "") or first[name])
    text = f"{group}={config.path.stem}\n{wrapped(config.about, '')}"
    lines = [(f"{name}={value}", comment) for name, value, comment in found.values()]
    return f"{text}\n\n{rows(lines)}" if lines else text


def shown(group: Setting) -> str:
    """A group with its default option."""
    default = group.default.replace(", ", ",")
    return {NONE: group.name, "???": f"{group.name} (required)"}.get(default, f"{group.name}={default}")


def others(group: Setting) -> list[str]:
    return [option for option in choices(group.name) if option != group.default]


def choices(group: str) -> list[str]:
    if group == "experiment":
        return sorted(file.parent.name for file in packaged("experiments").glob("*/sweep.yaml"))
    return options_of(group)


def rows(pairs: Iterable[tuple[str, str]]) -> str:
    """Two columns; a first that is too wide stands on a line of its own."""
    lines = []
    for name, text in pairs:
        if len(name) <= FIRST_COLUMN:
            lines.append(wrapped(text, " " * (FIRST_COLUMN + 4), f"  {name:{FIRST_COLUMN}}  "))
        else:
            lines += [f"  {name}", wrapped(text, " " * (FIRST_COLUMN + 4))]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def wrapped(text: str, indent: str, first: str | None = None) -> str:
    return textwrap.fill(
        text,
        width(),
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    ) or (first or "")


def command_of(config_name: str) -> Subcommand:
    """The command that a file of conf/ belongs to."""
    return next(each for each in SUBCOMMANDS.values() if each.config == config_name)
