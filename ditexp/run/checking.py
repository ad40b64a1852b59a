"""What is checked before a sweep: all cells together, so that no mistake is found hours later."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from ditexp.checkpoint import REMEDY
from ditexp.checks import ConfigError
from ditexp.cli.errors import describe
from ditexp.cli.numbers import not_whole_numbers
from ditexp.cli.packaged import published_file
from ditexp.cli.settings import settle
from ditexp.report.studies.published import load
from ditexp.run.configuration import check_numbers
from ditexp.run.outcome import tracker_of
from ditexp.run.settings import folder_of, overrides_of
from ditexp.terminal.console import print_line
from ditexp.terminal.units import plural
from ditexp.tracker import SlowTracker

if TYPE_CHECKING:
    from ditexp.run.cell import Cell


def refuse_sweep(hydra_cfg: DictConfig) -> None:
    """Raise ConfigError if one cell was asked for, but a file sweeps over settings that have no other value."""
    given = {override.lstrip("+").partition("=")[0] for override in overrides_of(hydra_cfg)}
    if swept := [key for key in hydra_cfg.sweeper.params or () if key not in given]:
        raise ConfigError(f"this is a sweep over {', '.join(swept)}: add -m, or give each a value")


def settle_all(cells: Mapping[str, DictConfig]) -> None:
    """Settle every cell's configuration, by name. Raises ConfigError with all mistakes and their cells."""
    wrong: dict[str, ConfigError | None] = dict.fromkeys(cells)
    for name, cfg in cells.items():
        try:
            settle(cfg, cfg.hydra, "config")
            refuse_wrong_values(cfg)
        except ConfigError as error:
            wrong[name] = error
    raise_mistakes(wrong)
    if len({folder_of(cfg) for cfg in cells.values()}) < len(cells):
        subdir = next(iter(cells.values())).hydra.sweep.subdir
        raise ConfigError(f"hydra.sweep.subdir={subdir}: cells would share this folder: use ${{hydra.job.num}} in it")


def refuse_wrong_values(cfg: DictConfig) -> None:
    """Raise ConfigError for plain values that are wrong, without torch; building the cell checks the rest."""
    mistakes = check_numbers(cfg)
    if cfg.forwards is None and "steps" in cfg.schedule and cfg.schedule.steps == cfg.steps:
        mistakes += not_whole_numbers(cfg, steps=1)
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def refuse_missing_weights(cells: Mapping[str, DictConfig]) -> None:
    """Raise ConfigError for a model's file that does not exist, without torch; the loader checks the rest."""
    wrong: dict[str, ConfigError | None] = dict.fromkeys(cells)
    for name, cfg in cells.items():
        path = cfg.model.get("checkpoint")
        if isinstance(path, str) and path and not os.path.lexists(path):
            wrong[name] = ConfigError(f"model.checkpoint={path} does not exist: {REMEDY}")
    raise_mistakes(wrong)


def check(cells: Mapping[str, DictConfig]) -> list[Cell]:
    """Check trackers and published numbers, build every cell, by name, and compare the disk space with what they need.

    Returns the cells. Raises ConfigError with all mistakes and their cells, or ValueError.
    """
    trackers = {tracker_of(cfg) for cfg in cells.values()}
    for tracker in trackers:
        if isinstance(tracker, SlowTracker):
            tracker.begin()
    from ditexp.run.cell import Cell  # imports torch, while the process of a tracker starts
    from ditexp.run.plan import disk_needed

    for tracker in trackers:
        tracker.check()
    for file in filter(None, {published_file(cfg.study) for cfg in cells.values()}):
        load(file)
    built = build_all(cells)
    raise_mistakes(built)
    found = [each for each in built.values() if isinstance(each, Cell)]
    if message := disk_needed(found):
        print_line(message)
    return found


def build_all(cells: Mapping[str, DictConfig]) -> dict[str, Cell | ConfigError]:
    """Every cell, by name, or what is wrong with it."""
    from ditexp.run.cell import build

    built: dict[str, Cell | ConfigError] = {}
    for name, cfg in cells.items():
        try:
            built[name] = build(cfg)
        except ConfigError as error:
            built[name] = error
    return built


def raise_mistakes(built: Mapping[str, object]) -> None:
    """Raise one ConfigError with each mistake once, and the cells that have it."""
    where: dict[str, list[str]] = {}
    for name, cell in built.items():
        for line in describe(cell) if isinstance(cell, ConfigError) else ():
            where.setdefault(line, []).append(name)
    if where:
        raise ConfigError("\n".join(with_cells(line, names, len(built)) for line, names in where.items()))


def with_cells(line: str, names: list[str], total: int) -> str:
    if total == 1 or len(names) == total:
        return line
    more = f" and {plural(len(names) - 1, 'more cell')}" if len(names) > 1 else ""
    return f"{line} (in {names[0]}{more})"
