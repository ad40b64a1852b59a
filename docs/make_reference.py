"""Write docs/reference.md from conf/**: python -m docs.make_reference, or make docs.

What an option is stands in the first line of the comment that its file begins with, or else of its class's docstring;
what a key means, in the comment beside it. yaml gives keys and values with their places in the text, and comments are
what follows them there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml
from hydra.utils import get_object

from ditexp.cli.command import register_with_hydra
from ditexp.cli.packaged import packaged

CONF = packaged("conf")
REFERENCE = Path(__file__).with_name("reference.md")
INTRODUCTION = """\
# Every setting

Made from the files of [conf](../conf) by `make docs`; change it there.

An option of a group is chosen by `<group>=<option>`, a setting by its whole name: `solver=dopri5 solver.rtol=1e-3`.
Both can be swept (`-m solver=heun,dopri5`). **required** has no default; `${steps}` is the value of `steps`, and
`${bundled:<name>}` a file of [ditexp/weights](../ditexp/weights/README.md). `python -m ditexp.run --cfg job ...` prints
what a command comes to.
"""


class Setting(NamedTuple):
    """name: as it is overridden. default: as written in the file. comment: what stands beside it."""

    name: str
    default: str
    comment: str


class Config(NamedTuple):
    """A YAML file. settings: in its order, the choices of its defaults list first."""

    path: Path
    about: str
    settings: list[Setting]


def read(path: Path) -> Config:
    text = path.read_text()
    is_global, about = re.match(r"(# @package _global_\n)?(?:# (.*)\n)?", text).groups()
    if not about:
        target = re.search(r"_target_: (\S+)", text)
        assert target, f"{path}: begin it with a comment that says what it is"
        about = get_object(target[1]).__doc__.partition("\n")[0]
    group = "" if is_global else ".".join(path.parent.relative_to(CONF).parts)
    return Config(path, about.rstrip(".:"), list(settings(yaml.compose(text), group, text)))


def settings(node: yaml.MappingNode, prefix: str, text: str) -> Iterator[Setting]:
    """Every leaf of a mapping, those of inner blocks under their dotted names."""
    for key, value in node.value:
        name = ".".join(filter(None, (prefix, key.value)))
        if key.value == "defaults":
            yield from choices(value, prefix, text)
        elif isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from settings(value, name, text)
        elif key.value != "_target_":
            yield Setting(name, written(value, text), comment_after(value, text))


def choices(node: yaml.SequenceNode, prefix: str, text: str) -> Iterator[Setting]:
    """Of a defaults list, the groups that it chooses from, as they are overridden."""
    for entry in node.value:
        if isinstance(entry, yaml.MappingNode):
            ((key, value),) = entry.value
            group, _, package = key.value.removeprefix("override ").removeprefix("/").partition("@")
            if package and not package.startswith("_global_"):
                group = f"{group}@{prefix}.{package}"
            yield Setting(group, written(value, text), comment_after(value, text))


def written(value: yaml.Node, text: str) -> str:
    return " ".join(text[value.start_mark.index : value.end_mark.index].split())


def comment_after(value: yaml.Node, text: str) -> str:
    return re.match(r"[^#\n]*(?:#\s*(.*))?", text[value.end_mark.index :])[1] or ""


def reference() -> str:
    register_with_hydra()
    commands = [read(path) for path in sorted(CONF.glob("*.yaml"))]
    folders = sorted({path.parent for path in CONF.glob("**/*.yaml")} - {CONF, CONF / "hydra" / "job_logging"})
    groups = {folder.relative_to(CONF).as_posix(): sorted(folder.glob("*.yaml")) for folder in folders}
    parts = [INTRODUCTION, *(section_of_command(config, groups) for config in commands)]
    parts += [section_of_group(name, [read(path) for path in files]) for name, files in groups.items()]
    return "\n".join(parts)


def section_of_command(config: Config, groups: Iterable[str]) -> str:
    command = re.search(r"python -m \S+", config.about)[0]
    rows = [
        (f"[`{name}`](#{name})" if name in groups else f"`{name}`", shown(default), comment)
        for name, default, comment in config.settings
        if not name.startswith("hydra")
    ]
    return f"## `{command}`\n\n{link(config)}\n\n{table(('setting', 'default', ''), rows)}"


def section_of_group(group: str, configs: list[Config]) -> str:
    """The options, and the settings of all: those of one name, default and comment in one row."""
    options = [(link(config), config.about) for config in configs]
    pairs = [(config.path.stem, setting) for config in configs for setting in config.settings]
    told = {setting[:2]: setting.comment for _, setting in pairs if setting.comment}  # files leave it to one another
    rows: dict[Setting, list[str]] = {}
    for option, setting in pairs:
        if setting.name != group:  # none.yaml's
            comment = setting.comment or told.get(setting[:2], "")
            rows.setdefault(setting._replace(comment=comment), []).append(option)
    lines = [
        (f"`{name}`", shown(default), "all" if len(of) == len(configs) > 1 else ", ".join(of), comment)
        for (name, default, comment), of in rows.items()
    ]
    tables = [table(("option", ""), options)]
    if lines:
        tables.append(table(("setting", "default", "of", ""), lines))
    return "\n".join([f"## {group}\n", *tables])


def link(config: Config) -> str:
    return f"[{config.path.stem}](../conf/{config.path.relative_to(CONF).as_posix()})"


def shown(default: str) -> str:
    return "**required**" if default == "???" else f"`{default}`"


def table(headers: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [headers, ("---",) * len(headers), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    REFERENCE.write_text(reference())
    print(REFERENCE)
