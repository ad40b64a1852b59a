"""What the files of conf/ say about themselves: options and settings with the comments beside them.

An option is described by the first comment of its file, or else by the first line of its class's docstring. A key is
described by the comment beside it. The YAML parser gives the position of each value, and the comment follows there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml
from hydra.utils import get_object

from ditexp.cli.packaged import PACKAGE, packaged

GLOBAL = "# @package _global_\n"


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
    group = "" if is_global else ".".join(path.parent.relative_to(packaged("conf")).parts)
    return Config(path, about.rstrip(".:"), list(settings(yaml.compose(text), group, text)))


def about_class(path: Path, text: str) -> str:
    """The first line of the docstring of the class that a file names, read without importing it: torch is slow."""
    target = re.search(r"_target_: (\S+)", text)
    assert target, f"{path}: begin the file with a comment that describes it"
    module, _, name = target[1].removeprefix("ditexp.").rpartition(".")
    file = PACKAGE / f"{module.replace('.', '/')}.py"
    for node in ast.parse(file.read_text(encoding="utf-8")).body if file.is_file() else ():
        if isinstance(node, ast.ClassDef) and node.name == name and (doc := ast.get_docstring(node)):
            return doc.partition("\n")[0]
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


def options(group: str) -> list[Config]:
    return [read(file) for file in sorted((packaged("conf") / group).glob("*.yaml"))]


def inherited(config: Config) -> Iterator[Setting]:
    """The settings of an option, after those of the option that it extends."""
    bases = (yaml.safe_load(config.path.read_text()) or {}).get("defaults", ())
    for base in bases:
        if isinstance(base, str) and base != "_self_":
            yield from inherited(read(config.path.with_name(f"{base}.yaml")))
    yield from config.settings


def explained(group: str, configs: list[Config]) -> dict[Setting, list[str]]:
    """The settings of a group's options, each with the options that have it; equal ones of several share an entry.

    A comment stands in one file only; other files with the same name and default use it, too.
    """
    pairs = [(config.path.stem, setting) for config in configs for setting in config.settings]
    comments = {setting[:2]: setting.comment for _, setting in pairs if setting.comment}
    found: dict[Setting, list[str]] = {}
    for option, setting in pairs:
        if setting.name != group:  # none.yaml sets the group itself
            comment = setting.comment or comments.get(setting[:2], "")
            found.setdefault(setting._replace(comment=comment), []).append(option)
    return found
