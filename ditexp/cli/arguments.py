"""What is typed after a command's name, made ready for Hydra: flags in any place, ~ for home, mistakes in one line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra

from ditexp import __version__
from ditexp.checks import ConfigError
from ditexp.cli.flags import not_a_flag, parser
from ditexp.cli.help import command_of, help_of
from ditexp.cli.origin import YAML_FILES
from ditexp.cli.overrides import check, with_home, with_their_groups
from ditexp.cli.paths import with_options


@dataclass(frozen=True)
class Typed:
    """The arguments of a command."""

    arguments: list[str]  # flags, then overrides, as Hydra expects them
    shows: bool  # whether Hydra only prints something, and nothing runs


def read(arguments: Sequence[str], *, config_name: str) -> Typed:
    """Read the arguments of a command; print and exit for --help and --version.

    config_name: the command's file in conf/. Raises ConfigError, one line for each mistake.
    """
    found, unknown = parser().parse_known_intermixed_args(arguments)
    if wrong := [not_a_flag(flag, config_name) for flag in unknown if flag.startswith("-")]:
        raise ConfigError("\n".join(wrong))
    if found.help or found.version:
        if found.help:
            print(help_of(command_of(config_name), [*found.overrides, *unknown]))
        else:
            print(f"ditexp {__version__} (Hydra {hydra.__version__})")
        raise SystemExit(0)
    flags = vars(found)
    overrides = [with_home(override) for override in [*flags.pop("overrides"), *unknown]]
    shows = bool(flags["cfg"] or flags["info"] or flags["shell_completion"] or flags["hydra_help"])
    own = Path(flags["config_dir"]).expanduser() if flags["config_dir"] else None
    if own:
        check_files(own, overrides)
    if not flags["shell_completion"]:
        overrides = with_options(overrides, config_name, is_sweep=flags["multirun"], own=own)
        check(overrides, config_name, is_sweep=flags["multirun"], shows=shows)
    if flags["multirun"]:
        overrides = with_their_groups(overrides)
    given = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={os.path.expanduser(value)}")
        for name, value in flags.items()
        if value
    ]
    return Typed([*given, *overrides], shows)


def check_files(folder: Path, overrides: Sequence[str]) -> None:
    """Raise ConfigError for files that Hydra would wait for endlessly, or whose name its error would not say."""
    if not folder.is_dir():
        raise ConfigError(
            f"--config-dir {folder} is not a folder: give a folder of configurations, as {folder}/solver/my.yaml"
        )
    for file in sorted(path for pattern in YAML_FILES for path in folder.glob(pattern)):
        if not file.is_file():
            raise ConfigError(f"{file} is not a regular file: remove it")
        if any(file.stem in text for text in overrides):
            try:
                file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{file} cannot be read ({error}): save it as UTF-8") from None
