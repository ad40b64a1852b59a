"""Write docs/reference.md from conf/**: python -m docs.make_reference, or make docs.

An option is described by the first comment of its file, or else by the first line of its class's docstring. A key is
described by the comment beside it. The YAML parser gives the position of each value, and the comment follows there.
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
GLOBAL = "# @package _global_\n"
REFERENCE = Path(__file__).with_name("reference.md")
INTRODUCTION = """\
# Every option and setting

To choose an option of a group write `<group>=<option>`, and to change a setting write its full name:

    python -m ditexp.run solver=dopri5 solver.rtol=1e-3

- Both can be swept: `-m solver=heun,dopri5`.
- **required** settings have no default.
- `${steps}` is the value of the setting `steps`, and `${bundled:<name>}` is a file of
  [ditexp/weights](../ditexp/weights/README.md).
- `python -m ditexp.run --cfg job ...` prints the composed configuration.

`make docs` writes this page from the files of [conf](../conf); edit those files instead.
"""


class Setting(NamedTuple):
    """name: as in an override. default: as written in the file. comment: the text beside it."""

    name: str
    default: str
    comment: str


class Config(NamedTuple):
    """A YAML file. about: one line. settings: in the file's order; the defaults list gives some, too."""

    path: Path
    about: str
    settings: list[Setting]


def read(path: Path) -> Config:
    text = path.read_text()
    is_global = text.startswith(GLOBAL)
    comment = re.match(r"# (.*)\n", text.removeprefix(GLOBAL))
    about = comment[1] if comment else about_class(path, text)
    group = "" if is_global else ".".join(path.parent.relative_to(CONF).parts)
    return Config(path, about.rstrip(".:"), list(settings(yaml.compose(text), group, text)))


def about_class(path: Path, text: str) -> str:
    """The first line of the docstring of the class that a file names."""
    target = re.search(r"_target_: (\S+)", text)
    assert target, f"{path}: begin the file with a comment that describes it"
    return get_object(target[1]).__doc__.partition("\n")[0]


def settings(node: yaml.MappingNode | None, prefix: str, text: str) -> Iterator[Setting]:
    """Every leaf of a mapping; leaves of inner blocks have dotted names."""
    for key, value in node.value if node else ():
        name = ".".join(filter(None, (prefix, key.value)))
        if key.value == "defaults":
            yield from choices(value, prefix, text)
        elif isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from settings(value, name, text)
        elif key.value != "_target_":
            yield Setting(name, written(value, text), comment_after(value, text))


def choices(node: yaml.SequenceNode, prefix: str, text: str) -> Iterator[Setting]:
    """The groups of a defaults list, named as in an override."""
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
    rest_of_line = text[value.end_mark.index :].partition("\n")[0]
    return rest_of_line.partition("#")[2].strip()


def reference() -> str:
    register_with_hydra()
    commands = [read(path) for path in sorted(CONF.glob("*.yaml"))]
    folders = sorted({path.parent for path in CONF.glob("**/*.yaml")} - {CONF, CONF / "hydra" / "job_logging"})
    groups = {folder.relative_to(CONF).as_posix(): sorted(folder.glob("*.yaml")) for folder in folders}
    parts = [INTRODUCTION, *(section_of_command(config, groups) for config in commands)]
    parts += [section_of_group(name, [read(path) for path in files]) for name, files in groups.items()]
    return "\n".join(parts)


def section_of_command(config: Config, groups: Iterable[str]) -> str:
    command = " ".join(config.about.split()[:3])  # python -m ditexp.run
    rows = [
        (f"[`{name}`](#{name})" if name in groups else f"`{name}`", shown(default), comment)
        for name, default, comment in config.settings
        if not name.startswith("hydra")
    ]
    return f"## `{command}`\n\n{link(config)}\n\n{table(('setting', 'default', 'description'), rows)}"


def section_of_group(group: str, configs: list[Config]) -> str:
    """A table of the options, and one of their settings; equal settings of several options share a row."""
    options = [(link(config), config.about) for config in configs]
    pairs = [(config.path.stem, setting) for config in configs for setting in config.settings]
    # A comment stands in one file only; other files with the same name and default use it, too.
    comments = {setting[:2]: setting.comment for _, setting in pairs if setting.comment}
    rows: dict[Setting, list[str]] = {}
    for option, setting in pairs:
        if setting.name != group:  # none.yaml sets the group itself
            comment = setting.comment or comments.get(setting[:2], "")
            rows.setdefault(setting._replace(comment=comment), []).append(option)
    lines = []
    for (name, default, comment), with_it in rows.items():
        which = "all" if len(with_it) == len(configs) > 1 else ", ".join(with_it)
        lines.append((f"`{name}`", shown(default), which, comment))
    tables = [table(("option", "description"), options)]
    if lines:
        tables.append(table(("setting", "default", "option", "description"), lines))
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
