"""What comes with the package: configurations in conf/, studies in experiments/. Also where one's own studies are."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from ditexp.checks import is_name
from ditexp.cli.nodes import plain

PACKAGE = Path(__file__).resolve().parents[1]
LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def packaged(name: str) -> Path:
    """The folder `name` beside the package (a checkout) or inside it (a wheel)."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def study_file(name: str) -> str:
    """The path of a study's file, as `text/prompts.txt`; ${study_file:...} in a configuration.

    It is relative to the working directory if it lies below that, so that tables of a checkout have no path in them.
    """
    path = packaged("experiments") / name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def published_file(study: str) -> Path | None:
    """The published numbers that a study is compared with, if it has any; those of one's own study come first."""
    return own_published_file(study) or published_in(packaged("experiments"), study)


def own_published_file(study: str) -> Path | None:
    """The published numbers in --config-dir: experiment/<study>/published.yaml. None where Hydra is not running."""
    if not GlobalHydra.instance().is_initialized():
        return None
    sources = GlobalHydra.instance().config_loader().get_sources()
    found = (published_in(Path(source.path, "experiment"), study) for source in sources if source.scheme() == "file")
    return next(filter(None, found), None)


def published_in(folder: Path, study: str) -> Path | None:
    path = folder / str(study) / "published.yaml"
    return path if is_name(str(study)) and os.path.isfile(path) else None  # Path.is_file raises for a long name


def options_of(group: str) -> list[str]:
    return sorted(file.stem for file in (packaged("conf") / group).glob("*.yaml"))


@functools.cache
def known_keys(command: str) -> dict[str, Any]:
    """The keys of a command's configuration: a setting with its default, a group with all that its options hold.

    A group without a default option, such as preset, is no key: its options set other keys. command: the name of its
    file in conf/.
    """
    file = OmegaConf.load(packaged("conf") / f"{command}.yaml")
    assert isinstance(file, DictConfig)
    keys = plain(file)
    for entry in keys.pop("defaults"):
        for group, option in entry.items() if isinstance(entry, dict) else ():
            if option is not None and not group.startswith("override "):
                keys[group] = keys_of_group(group)
    return keys


def keys_of_group(group: str) -> dict[str, Any]:
    """The keys of all options of a group together; `_target_` is among them if the options are components."""
    merged: dict[str, Any] = {}
    for file in sorted((packaged("conf") / group).glob("*.yaml")):
        merge(merged, yaml.load(file.read_text(encoding="utf-8"), LOADER) or {})
    merged.pop("defaults", None)
    return merged


def merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
