"""Where a setting comes from: the configuration files that Hydra composes, and the one that brings a key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf

from ditexp.cli.nodes import Keys, select
from ditexp.cli.packaged import packaged

YAML_FILES = ("*.yaml", "*/*.yaml", "*/*/*.yaml")  # in a folder of configurations


def origin(path: Keys, hydra_cfg: DictConfig) -> str:
    """ " in <file>" for a key that a configuration file brings; "" for one of the command line."""
    for file, package in files_of(hydra_cfg):
        if file.is_file() and path[: len(package)] == package:
            try:
                select(OmegaConf.to_container(OmegaConf.load(file)), path[len(package) :])
            except (KeyError, IndexError, TypeError):
                continue
            here = Path.cwd()
            return f" in {file.relative_to(here) if file.is_relative_to(here) else file}"
    return ""


def files_of(hydra_cfg: DictConfig) -> Iterator[tuple[Path, Keys]]:
    """The files that a configuration may be composed of, each with the keys below which its settings go."""
    folders = folders_of(hydra_cfg)
    for folder in folders:
        yield folder / f"{hydra_cfg.job.config_name}.yaml", ()
    for choice, options in hydra_cfg.runtime.choices.items():
        group, _, package = str(choice).partition("@")
        if choice == "experiment" and options:
            yield packaged("experiments") / options / "sweep.yaml", ()
        for option in options if isinstance(options, list | ListConfig) else [options]:
            for file in (folder / group / f"{option}.yaml" for folder in folders):
                if file.is_file():
                    yield file, package_of(file, package, group)


def package_of(file: Path, package: str, group: str) -> Keys:
    """The keys below which a file's settings go. package: that of the defaults list, or "" for the file's own."""
    header = re.search(r"^#\s*@package\s+(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    where = package or (header[1] if header else "_group_")
    named: dict[str, Keys] = {"_global_": (), "_group_": tuple(group.split("/"))}
    return named.get(where, tuple(where.split(".")))


def texts_of_files(hydra_cfg: DictConfig) -> list[str]:
    """The user's own configuration files; a key that one defines may be read by another that is not chosen now."""
    return [
        file.read_text(encoding="utf-8", errors="replace")
        for folder in folders_of(hydra_cfg)
        if folder != packaged("conf")
        for pattern in YAML_FILES
        for file in folder.glob(pattern)
        if file.is_file()
    ]


def folders_of(hydra_cfg: DictConfig) -> list[Path]:
    return [Path(source.path) for source in hydra_cfg.runtime.config_sources if source.schema == "file"]
