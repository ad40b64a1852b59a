"""What concerns all cells of a run or sweep together: checking them first, the plan, the report at the end."""

from __future__ import annotations

import functools
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from hydra.experimental.callback import Callback
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from rich.table import Table
from rich.text import Text

from ditexp.checks import ConfigError
from ditexp.cli.components import instantiate
from ditexp.cli.errors import CellsFailed, describe
from ditexp.cli.overrides import quoted
from ditexp.cli.packaged import published_file
from ditexp.cli.settings import settle
from ditexp.files.atomic import atomic, free_space, make_way
from ditexp.files.records import read_result
from ditexp.report import reason_of, show, write_report
from ditexp.report.columns import MISSING
from ditexp.report.published import GROUPS, VALUES, load
from ditexp.run import job
from ditexp.run.cell import COMPONENTS, Cell, build, settle_steps, slice_of
from ditexp.terminal.console import print_line, wide_terminal
from ditexp.terminal.units import amount
from ditexp.tracker import Tracker


class Cells(Callback):
    """Remembers what runs in this process and where, since Hydra hands nothing back.

    expected: each cell's config, with Hydra's own part, by the folder where its cell.json will be.
    """

    cfg: ClassVar[DictConfig]
    folder: ClassVar[Path]
    expected: ClassVar[dict[Path, DictConfig]] = {}

    def on_run_end(self, config: DictConfig, **kwargs) -> None:
        Cells.cfg, Cells.folder = config, Path(config.hydra.run.dir)
        Cells.expected = {Cells.folder: config}

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        Cells.expected = {}

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        Cells.cfg, Cells.folder = config, Path(config.hydra.sweep.dir)


def expect(cells: Iterable[DictConfig]) -> None:
    """Note the cells that are about to run. What an earlier sweep left in their folders must not speak for them."""
    for cfg in cells:
        Cells.expected[folder_of(cfg)] = cfg
        make_way(folder_of(cfg) / "cell.json")
        (folder_of(cfg) / "cell.json").unlink(missing_ok=True)


def folder_of(cfg: DictConfig) -> Path:
    return Path(cfg.hydra.sweep.dir) / str(cfg.hydra.sweep.subdir)


def run_cell(cfg: DictConfig, hydra_cfg: DictConfig) -> None:
    """Run one cell and leave its result, or its error, as cell.json in its own folder; never raises for either."""
    with suppress(Exception):  # told below, where the cell is built
        settle_steps(cfg)
    folder, settings = Path(hydra_cfg.runtime.output_dir), settings_of(cfg, hydra_cfg)
    try:
        result = job.run(cfg, settings=settings, title=title_of(settings), command=command_of(hydra_cfg))
    except Exception as error:
        result = failure(cfg, settings, folder, error)
    tell(result)
    leave(result, cfg, folder)


def collect(cfg: DictConfig, reason: str) -> None:
    """Tell how a cell ended that ran in another process; where that died and left nothing, leave `reason`.

    cfg: the cell's, with Hydra's own part.
    """
    folder = folder_of(cfg)
    try:
        result = read_result(folder / "cell.json")
    except (FileNotFoundError, ValueError) as error:
        result = lost(cfg, folder, reason if isinstance(error, FileNotFoundError) else str(error))
        leave(result, without_hydra(cfg), folder)
    tell(result)


def left_by(cfg: DictConfig, folder: Path) -> dict:
    """The result that a cell has left, or what stands for one that can't be read."""
    try:
        return read_result(folder / "cell.json")
    except FileNotFoundError:
        return lost(cfg, folder)
    except ValueError as error:
        return lost(cfg, folder, str(error))


def lost(cfg: DictConfig, folder: Path, reason: str = "") -> dict:
    """The result of a cell that left none."""
    error = RuntimeError(reason or "it ended without a result")
    return failure(without_hydra(cfg), settings_of(cfg, cfg.hydra), folder, error)


def without_hydra(cfg: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])


def failure(cfg: DictConfig, settings: dict, folder: Path, error: Exception) -> dict:
    id = f"failed-{folder.parent.name}-{folder.name}"
    with suppress(Exception):  # it may be what failed
        id = build(cfg).id
    return {
        "id": id,
        "status": "failed",
        "error": "; ".join(describe(error)),
        "study": cfg.study,
        "settings": settings,
        "config": OmegaConf.to_container(cfg),
    }


def tell(result: dict) -> None:
    title = title_of(result["settings"])
    if result["status"] == "failed":
        print_line(Text("failed", "red"), f" {title}: ", result["error"])
    elif result["status"] == "incomplete":
        print_line(Text("incomplete", "yellow"), f" {title}: ", result["error"])
    else:
        print_line(Text("cached" if result.get("cached") else "done", "green"), f" {title}: ", headline(result))


def leave(result: dict, cfg: DictConfig, folder: Path) -> None:
    make_way(folder / "cell.json")
    with atomic(folder / "cell.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2))
    if result["status"] != "incomplete":
        tracker_of(cfg).log_cell(result)


def finish() -> None:
    """Report on the cells that ran; raise if one failed."""
    if Cells.cfg.hydra.runtime.choices["hydra/launcher"] == "plan":
        return
    results = [left_by(cell, folder) for folder, cell in Cells.expected.items()]
    report_on(results, Cells.cfg)
    failed = sum(result["status"] == "failed" for result in results)
    if failed:
        raise CellsFailed(f"{failed} of {len(results)} cells failed; the same command tries them again")


def report_on(results: list[dict], cfg: DictConfig) -> None:
    """Write, print and track the report. What fails there fails no cell: it is named, with what writes it again."""
    folder, failures = Path(cfg.outputs) / "reports" / Cells.folder.name, []
    try:
        report = write_report(results, folder, title=cfg.study, published=published_file(cfg.study))
        failures += report.failed
    except Exception as error:
        report, failures = None, [f"{folder} has no report: {reason_of(error)}"]
    if report:
        show(report)
    if all(result.get("cached") for result in results):
        print("every cell was done already: nothing was sampled")
    tracker = tracker_of(cfg)
    try:
        if report:
            tracker.log_report(cfg.study, results, report.table, report.paths)
        tracker.close()
    except Exception as error:
        failures.append(f"the report was not tracked: {reason_of(error)}")
    for line in failures:
        print_line(Text("warning", "yellow"), f" {line}")
    if failures:
        cells = str(Cells.folder)
        is_plain = re.fullmatch(r"[\w./~@:+-]+", cells)
        again = shlex.join(["python", "-m", "ditexp.report", f"results={cells if is_plain else quoted(cells)}"])
        print_line(f"no result is lost; to write the report again: {again}")


def check(cells: Mapping[str, DictConfig]) -> None:
    """Build every cell of a sweep, by name, its tracker, see whether the disk holds them, and read what was published.

    Raises ConfigError with the mistakes of all and where they are, or ValueError.
    """
    for tracker in {tracker_of(cfg) for cfg in cells.values()}:
        tracker.check()
    for file in filter(None, {published_file(cfg.study) for cfg in cells.values()}):
        load(file)
    built = build_all(cells)
    raise_mistakes(built)
    if message := disk_needed(built.values()):
        print_line(message)


def settle_all(cells: Mapping[str, DictConfig]) -> None:
    """Settle every cell's config. Raises ConfigError with the mistakes of all and where they are."""
    wrong: dict[str, ConfigError | None] = dict.fromkeys(cells)
    for name, cfg in cells.items():
        try:
            settle(cfg, cfg.hydra, "config")
        except ConfigError as error:
            wrong[name] = error
    raise_mistakes(wrong)
    if len({folder_of(cfg) for cfg in cells.values()}) < len(cells):
        subdir = next(iter(cells.values())).hydra.sweep.subdir
        raise ConfigError(f"hydra.sweep.subdir={subdir}: cells would share this folder: have ${{hydra.job.num}} in it")


def disk_needed(cells: Iterable[Cell]) -> str | None:
    """What the cells have yet to write, at most, or None. Raises ConfigError if the disk has no room for it."""
    needed: dict[tuple[Path, str], int] = {}  # by what is written once, however many cells need it
    for cell in cells:
        store, outputs = cell.store, Path(cell.cfg.outputs).resolve()
        blocks = slice_of(cell.cfg, store.missing()) if store.folder.exists() or not cell.result() else []
        pixels = len(blocks) * (store.block_bytes * 1.01 + 8192)  # noise doesn't compress, and each has a manifest
        features = (
            4 * len(blocks) * store.block_size * sum(cell.evaluator.feature.outputs.values())
            if cell.evaluator.metrics
            else 0
        )
        for what, size in ((store.id, pixels), (f"{store.id}, features", features)):
            needed[outputs, what] = max(int(size), needed.get((outputs, what), 0))
    messages = []
    for folder in {folder for folder, _ in needed}:
        size = sum(size for (where, _), size in needed.items() if where == folder)
        free = free_space(folder)
        if size > free:
            raise ConfigError(
                f"the samples take up to {amount(size)}, but {folder} has {amount(free)} free: free some, for example "
                "by `python -m ditexp.samples gc`, or choose outputs=... on another disk"
            )
        if size:
            messages.append(f"the samples take up to {amount(size)} in {folder} ({amount(free)} free)")
    return "; ".join(messages) or None


def plan(cells: Mapping[str, DictConfig]) -> None:
    """Print what each cell would cost and what is there already. Raises ConfigError if some cannot run."""
    table = Table("cell", "steps", "nfe", "forwards", "samples", "to make", "result", box=None, header_style="bold")
    total, unknown, built = 0, 0, build_all(cells)
    for name, cell in built.items():
        cfg = cells[name]
        if isinstance(cell, ConfigError):
            table.add_row(name, str(cfg.steps), "", "", "", "", "; ".join(describe(cell)), style="red")
            continue
        done = cell.result() is not None
        missing = 0 if done else len(cell.store.missing()) * cell.store.block_size
        if evaluations := cell.sampler.evaluations():
            nfe, forwards = evaluations
            total += missing * forwards
            cost = (str(len(cell.sampler.grid) - 1), f"{nfe:g}", f"{forwards:g}")
        else:
            cost = ("adaptive", MISSING, MISSING)
            unknown += missing
        table.add_row(name, *cost, str(cfg.num_samples), str(missing), "cached" if done else "to do")
    terminal = wide_terminal()
    terminal.print(table)
    others = f" and those of {unknown:,} samples with adaptive steps" if unknown else ""
    terminal.print(f"{len(cells)} cells, {total:,.0f} network evaluations{others} to make; nothing was run")
    raise_mistakes(built)
    if message := disk_needed(built.values()):
        terminal.print(message, soft_wrap=True)


def build_all(cells: Mapping[str, DictConfig]) -> dict[str, Cell | ConfigError]:
    """Every cell, or what is wrong with it."""
    built: dict[str, Cell | ConfigError] = {}
    for name, cfg in cells.items():
        try:
            built[name] = build(cfg)
        except ConfigError as error:
            built[name] = error
    return built


def raise_mistakes(built: Mapping[str, Cell | ConfigError | None]) -> None:
    where: dict[str, list[str]] = {}
    for name, cell in built.items():
        for line in describe(cell) if isinstance(cell, ConfigError) else ():
            where.setdefault(line, []).append(name)
    if where:
        raise ConfigError("\n".join(in_cells(line, names, len(built)) for line, names in where.items()))


def settings_of(cfg: DictConfig, hydra_cfg: DictConfig) -> dict:
    """The choices that tell cells apart, flat: {"solver": "heun", "guidance.weight": 2.0, "steps": 50, ...}."""
    settings = {group: hydra_cfg.runtime.choices[group] for group in GROUPS}
    settings |= {name: cfg[name] for name in VALUES}
    if getattr(get_class(cfg.solver._target_), "adaptive", False) or "steps" not in cfg.schedule:
        settings["steps"] = None  # it does not act
    for group in COMPONENTS:
        settings |= flat(OmegaConf.to_container(cfg[group], resolve=True), group)
    return settings


def flat(node: dict, path: str) -> dict:
    """The settings of a component, and of those within it, by their whole names."""
    settings = {}
    for key, value in node.items():
        if isinstance(value, dict):
            settings |= flat(value, f"{path}.{key}")
        elif key not in ("_target_", "steps") and value is not None:
            settings[f"{path}.{key}"] = value if isinstance(value, str | int | float) else str(value)
    return settings


def command_of(hydra_cfg: DictConfig) -> str:
    """What makes this cell again, alone."""
    sources = [source.path for source in hydra_cfg.runtime.config_sources if source.provider == "command-line"]
    folders = [word for path in sources for word in ("--config-dir", path)]
    return shlex.join(["python", "-m", "ditexp.run", *folders, *hydra_cfg.overrides.task])


def in_cells(line: str, names: list[str], total: int) -> str:
    if total == 1 or len(names) == total:
        return line
    return f"{line} (in {names[0]}{f' and {len(names) - 1} more cells' if len(names) > 1 else ''})"


def title_of(settings: dict) -> str:
    return f"{settings['solver']} {settings['steps'] or ''}".strip()  # an adaptive solver has no steps


def headline(result: dict) -> str:
    cost = result["cost"]
    scores = [f"{key} {value:.4g}" for key, value in result["metrics"].items() if math.isfinite(value)]
    return ", ".join([*scores, f"{cost['forwards']:g} forwards", f"{1000 * cost['seconds_per_image']:.3g} ms/image"])


def tracker_of(cfg: DictConfig) -> Tracker:
    """One tracker a process, so that it warns once and remembers that a server is gone."""
    return build_tracker(OmegaConf.to_yaml(cfg.tracker, resolve=True))


@functools.cache
def build_tracker(node: str) -> Tracker:
    return instantiate(OmegaConf.create(node))
