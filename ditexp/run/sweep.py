"""The cells of a run or sweep, from their configurations to the report."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ditexp.checks import ConfigError
from ditexp.cli.errors import CellsFailed
from ditexp.cli.packed import Packed
from ditexp.files.atomic import make_way
from ditexp.result import read_result
from ditexp.run import job
from ditexp.run.batch_size import lower
from ditexp.run.block_queue import LacksMemory
from ditexp.run.cell import Cell, build
from ditexp.run.checking import raise_mistakes
from ditexp.run.configuration import AUTO
from ditexp.run.current import current
from ditexp.run.departures import departures_of
from ditexp.run.outcome import failed_result, lost_result, print_result, save_result, saved_result, tracker_of
from ditexp.run.plan import Planned, disk_needed, plan_cell, print_plan
from ditexp.run.rate import Rate
from ditexp.run.settings import command_of, overrides_of, resolved, settings_of, sweep_of, title_of, without_hydra
from ditexp.run.summary import report_on
from ditexp.run.views import Display, LogLines, Place
from ditexp.run.watch import Viewer, Watch
from ditexp.run.workload import Evaluations, works_of
from ditexp.terminal.console import LOG_FILE, wide_terminal
from ditexp.terminal.notices import notice

MAX_TITLE = 50  # characters


def expect(cells: Packed[Path], overrides: Sequence[Sequence[str]], built: Sequence[Cell]) -> None:
    """Add the cells that are about to run, and remove results of an earlier sweep from their folders.

    cells: by their folders. overrides: of each cell.
    """
    current.forecast.works += works_of(built)
    current.add(cells, overrides)
    for folder in cells:
        path = folder / "cell.json"
        make_way(path)
        path.unlink(missing_ok=True)


def run_cell(cfg: DictConfig, hydra_cfg: DictConfig) -> None:
    """Run a cell, and save its result, or its error, as cell.json in its folder. Raises for neither."""
    folder, settings = Path(hydra_cfg.runtime.output_dir), dict[str, Any]()
    logging.captureWarnings(True)  # else they would be neither in the log nor above the live display
    try:
        cell = build(cfg, measure=True)
        settings = settings_of(cell.config, hydra_cfg)  # with the steps that a budget of evaluations allows
        departures = departures_of(cell.config, settings, hydra_cfg.runtime.choices)
        command = command_of(hydra_cfg, batch_size=cell.batch_size if cfg.batch_size == AUTO else None)
        place = place_of(folder, settings, hydra_cfg)
        display = Display(place)
        viewers = [current.forecast, display, LogLines(place), *trackers_of(cfg, cell)]
        current.running = cell
        with display.shown(), Watch(viewers, folder=folder) as watch:
            result = job.run(
                cell, settings=settings, command=command, departures=departures, sweep=sweep_of(hydra_cfg), watch=watch
            )
    except Exception as error:
        LOG_FILE.error("".join(traceback.format_exception(error)))
        if isinstance(error, LacksMemory) and cfg.batch_size == AUTO and takes_less_memory(cfg, current.running):
            return run_cell(cfg, hydra_cfg)
        settings = settings or settings_of(resolved(cfg), hydra_cfg)
        result = failed_result(cfg, settings, folder, error, sweep_of(hydra_cfg))
    print_result(result, own_title(settings, hydra_cfg))
    save_result(result, cfg, folder)
    current.running = None
    logging.captureWarnings(False)


def takes_less_memory(cfg: DictConfig, cell: Cell | None) -> bool:
    """Whether batch_size=auto is a smaller number from now on, since a batch of a cell did not fit in memory.

    It stays if a block is complete: the set that has it can only be continued with the same batches.
    """
    if cell is None or cell.batch_size == 1 or len(cell.store.missing()) < cell.store.num_blocks:
        return False
    size = lower(cfg, cell.sampler, size=cell.batch_size)
    notice(f"a batch of {cell.batch_size} does not fit in memory: batch_size=auto is {size} from now on")
    return True


def place_of(folder: Path, settings: dict[str, Any], hydra_cfg: DictConfig) -> Place:
    """Where a cell stands among those of this process. A cluster's job knows of its own cell alone."""
    number, total = current.numbers.get(folder, 1), max(1, len(current.cells))
    return Place(own_title(settings, hydra_cfg), number, total, current.forecast)


def own_title(settings: Mapping[str, Any], hydra_cfg: DictConfig) -> str:
    """The title of a cell with what tells it from the others, as far as a line has room for it."""
    title, own = title_of(settings), overrides_of(hydra_cfg)
    common = own if current.common is None else current.common
    for override in own:
        if override not in common and not override.startswith(("solver=", "steps=")):
            if len(title) + len(override) > MAX_TITLE:
                return f"{title}, ..."
            title += f", {override}"
    return title


def trackers_of(cfg: DictConfig, cell: Cell) -> list[Viewer]:
    """Slices of a cell are not tracked: they are no run of their own."""
    return [tracker_of(cfg)] if cell.slice.count == 1 else []


def collect(folder: Path, reason: str) -> None:
    """Print how a cell ended that ran in another process; if that saved no result, save a failure with this reason."""
    cfg = current.cells[folder]
    try:
        result = read_result(folder / "cell.json")
    except (FileNotFoundError, ValueError) as error:
        result = lost_result(cfg, folder, reason if isinstance(error, FileNotFoundError) else str(error))
        save_result(result, without_hydra(cfg), folder)
    print_result(result, own_title(result.settings, cfg.hydra))


def plan(cells: Mapping[str, DictConfig]) -> None:
    """Print what each cell, by name, would cost; nothing is run. Raises ConfigError if some cannot run."""
    planned: dict[str, Planned | ConfigError] = {}
    blocks: set[tuple[Path, int]] = set()
    rates: dict[str, Rate] = {}
    evaluations = Evaluations()
    for name, cfg in cells.items():
        try:
            planned[name] = plan_cell(cfg, blocks, rates, evaluations)
        except ConfigError as error:
            planned[name] = error
    print_plan(planned)
    raise_mistakes(planned)
    complete = [each.cell for each in planned.values() if isinstance(each, Planned) and not each.missing]
    if message := disk_needed(complete):
        wide_terminal().print(message, soft_wrap=True)


def finish() -> None:
    """Report on the cells that ran. Raises CellsFailed if one failed."""
    if current.cfg.hydra.runtime.choices["hydra/launcher"] == "plan":
        return
    results = [saved_result(current.cells, folder) for folder in current.cells]
    report_on(results, current.cfg, current.folder)
    failed = sum(result.status == "failed" for result in results)
    if failed:
        which = f"{failed} of {len(results)} cells" if len(results) > 1 else "the cell"
        raise CellsFailed(f"{which} failed; the same command tries {'them' if failed > 1 else 'it'} again")
