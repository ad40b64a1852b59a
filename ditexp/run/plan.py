"""The plan of a sweep: what is missing, what each cell costs, what is already there, and the disk space needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from ditexp.checks import ConfigError
from ditexp.cli.errors import describe
from ditexp.files.atomic import free_space
from ditexp.report.tables.column import MISSING
from ditexp.run.cell import Cell, build
from ditexp.run.configuration import MEASURE
from ditexp.run.missing import MissingFile, missing_files, need_of, with_stand_ins
from ditexp.run.rate import Rate, measured_rate, rate_of
from ditexp.run.workload import Evaluations
from ditexp.terminal.console import wide_terminal
from ditexp.terminal.units import amount, plural

BLOCK_OVERHEAD = 8192  # bytes, for a block's manifest
WORST_COMPRESSION = 1.01  # noise does not compress


@dataclass(frozen=True)
class Planned:
    """A cell, built with stand-ins for what lacks its files, and what it costs.

    is_done: whether its result is there, and no block is missing. to_make, to_decode: samples, and those of stored
    latents. nfe, forwards: evaluations per sample; None for an adaptive solver. rate: None if unknown.
    """

    cell: Cell
    missing: Sequence[MissingFile]
    is_done: bool
    to_make: int
    to_decode: int
    nfe: float | None
    forwards: float | None
    rate: Rate | None

    @property
    def hours(self) -> float | None:
        """Of one device."""
        if self.forwards is None or self.rate is None:
            return None
        return self.rate.hours(self.to_make * self.forwards, self.to_make + self.to_decode)

    @property
    def state(self) -> str:
        if self.missing:
            return "files missing"
        return "cached" if self.is_done else "to do"


def plan_cell(
    cfg: DictConfig, planned: set[tuple[Path, int]], rates: dict[str, Rate], evaluations: Evaluations
) -> Planned:
    """planned: see `to_make`. rates: see `measured_rate`. evaluations: counted so far.

    Raises ConfigError with all mistakes; a missing file is none.
    """
    missing = missing_files(cfg)
    cell = build(with_stand_ins(cfg, missing) if missing else cfg)
    is_done = not missing and cell.is_done
    blocks, decoded = (0, 0) if is_done else to_make(cell, planned)
    nfe, forwards = evaluations.of(cell) or (None, None)
    measures = cell.config["rate"] == MEASURE and (blocks or decoded) and not missing
    return Planned(
        cell=cell,
        missing=missing,
        is_done=is_done,
        to_make=blocks * cell.store.block_size,
        to_decode=decoded * cell.store.block_size,
        nfe=nfe,
        forwards=forwards,
        rate=measured_rate(cell, rates) if measures else rate_of(cell),
    )


def print_plan(planned: Mapping[str, Planned | ConfigError]) -> None:
    """Print the cost of each cell, by name, and what is missing or already there; or what is wrong with it."""
    cells = [each for each in planned.values() if isinstance(each, Planned)]
    with_hours = any(each.hours is not None for each in cells)
    headers = ["cell", "steps", "nfe", "forwards", "samples", "to make", "result", *["hours"] * with_hours]
    table = Table(*headers, box=None, header_style="bold")
    for name, each in planned.items():
        if isinstance(each, ConfigError):
            table.add_row(name, "", "", "", "", "", "; ".join(describe(each)), style="red")
            continue
        steps = "adaptive" if each.cell.steps is None else str(each.cell.steps)
        cost = [MISSING if number is None else f"{number:g}" for number in (each.nfe, each.forwards)]
        work = f"{each.to_make}, {each.to_decode} to decode" if each.to_decode else str(each.to_make)
        made = [str(each.cell.num_samples), work, each.state]
        table.add_row(name, steps, *cost, *made, "" if each.hours is None else f"{each.hours:.3g}")
    terminal = wide_terminal()
    terminal.print(table)
    for line in (*lines_of_missing(cells), total_line(planned), *lines_of_hours(cells)):
        terminal.print(line, soft_wrap=True)


def total_line(planned: Mapping[str, Planned | ConfigError]) -> str:
    cells = [each for each in planned.values() if isinstance(each, Planned)]
    total = sum(each.to_make * each.forwards for each in cells if each.forwards is not None)
    adaptive = sum(each.to_make for each in cells if each.forwards is None)
    others = f" and those of {plural(adaptive, 'sample')} with adaptive steps" if adaptive else ""
    needs = f"{plural(len(planned), 'cell')} {'needs' if len(planned) == 1 else 'need'}"
    return f"{needs} {total:,.0f} network evaluations{others}; nothing was run"


def lines_of_hours(cells: Sequence[Planned]) -> list[str]:
    """How long one device needs, and what this rests on."""
    known = [each for each in cells if each.hours is not None]
    if not known:
        if any(each.cell.config["rate"] == MEASURE for each in cells):
            return ["hours: nothing can be measured while files are missing"]
        return [f"hours: rate={MEASURE} measures this device for some seconds; or give rate=, its evaluations a second"]
    sources = "; ".join(dict.fromkeys(each.rate.source for each in known if each.rate))
    hours = sum(each.hours or 0 for each in known)
    rest = len(cells) - len(known)
    others = f", without {plural(rest, 'cell')} whose rate or evaluations are unknown" if rest else ""
    return [f"{hours:,.3g} hours of one device, divided by the number of devices{others} ({sources})"]


def lines_of_missing(cells: Sequence[Planned]) -> list[str]:
    """A line for each missing file: what it is, how large, and where it comes from, as far as the study says."""
    lines = []
    for study, file in dict.fromkeys((each.cell.study, file) for each in cells for file in each.missing):
        need = need_of(study, file.setting)
        about = [need.about, need.size, need.url] if need else []
        about += ["downloaded when it is needed"] if file.on_hub else []
        what = f"{file.setting}={file.path or '...'}"
        lines.append(": ".join(filter(None, [f"missing: {what}", ", ".join(filter(None, about))])))
    return list(dict.fromkeys(lines))


def to_make(cell: Cell, planned: set[tuple[Path, int]]) -> tuple[int, int]:
    """The number of blocks to sample, and of those to decode from latents that are stored.

    planned: blocks whose latents are there once the cells before this one have run; this cell's are added.
    """
    missing, latents = cell.store.missing(), cell.latents.folder
    there = set(cell.store.decodable()) | {block for block in missing if (latents, block) in planned}
    if cell.store.keeps_latents:
        planned.update((latents, block) for block in missing)
    return len(missing) - len(there), len(there)


def disk_needed(cells: Iterable[Cell]) -> str | None:
    """A line with the largest size that the cells may add to the disk; None if they add nothing.

    Raises ConfigError if the disk has less free space.
    """
    messages = []
    for folder, size in bytes_to_write(cells).items():
        free = free_space(folder)
        if size > free:
            raise ConfigError(
                f"the samples need up to {amount(size)}, but {folder} has {amount(free)} free: free some, for example "
                "with `ditexp samples gc`, or choose outputs=... on another disk"
            )
        if size:
            messages.append(f"the samples need up to {amount(size)} in {folder} ({amount(free)} free)")
    return "; ".join(messages) or None


def bytes_to_write(cells: Iterable[Cell]) -> dict[Path, int]:
    """By outputs folder. What several cells share, such as a sample set, is counted once."""
    sizes: dict[tuple[Path, str], int] = {}
    for cell in cells:
        store, root = cell.store, cell.outputs.root
        blocks = cell.slice.of(store.missing()) if store.folder.exists() or not cell.result() else []
        pixels = store.block_bytes * WORST_COMPRESSION if store.keeps_pixels else 0
        latents = cell.slice.of(cell.latents.missing()) if blocks and store.keeps_latents else []
        for what, size in (
            (store.id, int(len(blocks) * (pixels + BLOCK_OVERHEAD))),
            (cell.latents.id, len(latents) * (cell.latents.block_bytes + BLOCK_OVERHEAD)),
            (f"{store.id}, features", feature_bytes(cell, len(blocks))),
        ):
            sizes[root, what] = max(size, sizes.get((root, what), 0))
    totals = Counter[Path]()
    for (root, _), size in sizes.items():
        totals[root] += size
    return totals


def feature_bytes(cell: Cell, blocks: int) -> int:
    """The size of the features of this number of blocks, in float32; 0 without metrics."""
    feature = cell.evaluator.feature
    if feature is None or not cell.evaluator.metrics:
        return 0
    return 4 * blocks * cell.store.block_size * sum(feature.outputs.values())
