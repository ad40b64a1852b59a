"""How a cell ended: its result or its error, printed, saved and tracked."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.text import Text

from ditexp.cli.components import instantiate
from ditexp.cli.errors import describe
from ditexp.cli.packaged import own_published_file
from ditexp.cli.shortage import shortage
from ditexp.files.records import write_record
from ditexp.result import Result, read_result
from ditexp.run.configuration import with_steps
from ditexp.run.memory import of_scoring
from ditexp.run.settings import resolved, settings_of, sweep_of, without_hydra
from ditexp.terminal.console import print_line
from ditexp.terminal.notices import in_line, notice
from ditexp.tracker import Tracker


def print_result(result: Result, title: str) -> None:
    """One line on how the cell ended. title: of the cell."""
    title = f" {title}: "
    if result.is_done:
        print_line(Text("cached" if result.cached else "done", "green"), title, headline(result))
    else:
        print_line(Text(result.status, "red" if result.status == "failed" else "yellow"), title, result.error)


def headline(result: Result) -> str:
    scores = [f"{name} {value:.4g}" for name, value in result.metrics.items() if math.isfinite(value)]
    if cost := result.cost:
        scores += [
            f"{cost.forwards:g} forward{'s' * (cost.forwards != 1)}",
            f"{1000 * cost.seconds_per_image:.3g} ms/image",
        ]
    if result.departures:
        scores.append(f"departs from compat={result.settings['compat']} in {'; '.join(result.departures)}")
    return ", ".join(scores)


def save_result(result: Result, cfg: DictConfig, folder: Path) -> None:
    """Write cell.json into a cell's folder, and track the result."""
    result = replace(result, published=own_published_file(cfg.study))  # so that a report finds it later
    write_record(folder / "cell.json", result.to_json())
    if result.status != "incomplete":
        try:
            tracker_of(cfg).log_cell(result)
        except Exception as error:
            notice(f"a tracker failed ({type(error).__name__}: {in_line(str(error), 100)})")


def saved_result(cells: Mapping[Path, DictConfig], folder: Path) -> Result:
    """The result in a cell's folder; a failure if it is missing or damaged.

    cells: configurations by their folders, with Hydra's own part.
    """
    try:
        return read_result(folder / "cell.json")
    except FileNotFoundError:
        return lost_result(cells[folder], folder)
    except ValueError as error:
        return lost_result(cells[folder], folder, str(error))


def lost_result(cfg: DictConfig, folder: Path, reason: str = "") -> Result:
    """The failure of a cell that saved no result. cfg: with Hydra's own part."""
    error, config = RuntimeError(reason or "it ended without a result"), without_hydra(cfg)
    with suppress(Exception):  # it may be the failure itself
        config = with_steps(config)
    return failed_result(config, settings_of(resolved(config), cfg.hydra), folder, error, sweep_of(cfg.hydra))


def failed_result(cfg: DictConfig, settings: Mapping[str, Any], folder: Path, error: Exception, sweep: str) -> Result:
    """The result of a cell that failed. cfg: without Hydra's own part. folder: the cell's. sweep: see `Result`."""
    id = f"failed-{folder.parent.name}-{folder.name}"
    with suppress(Exception):  # it may be the failure itself
        from ditexp.run.cell import build  # imports torch

        id = build(cfg).id
    config: Any = OmegaConf.to_container(cfg)
    short = None
    with suppress(Exception):  # the configuration may be the failure itself
        short = shortage(error, of_scoring(resolved(cfg)))
    return Result(
        id=id,
        status="failed",
        error=short or "; ".join(describe(error)),
        study=cfg.study,
        sweep=sweep,
        settings=dict(settings),
        config=config,
    )


def tracker_of(cfg: DictConfig) -> Tracker:
    """The tracker of this process: one, so that it warns once and remembers that a server is gone."""
    return build_tracker(OmegaConf.to_yaml(cfg.tracker, resolve=True))


@functools.cache
def build_tracker(node: str) -> Tracker:
    return instantiate(DictConfig(OmegaConf.create(node)))
