"""The plan of a sweep: what each cell costs, what is already there, and the disk space that is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.table import Table

from ditexp.checks import ConfigError
from ditexp.cli.errors import describe
from ditexp.files.atomic import free_space
from ditexp.report.tables.column import MISSING
from ditexp.run.cell import Cell
from ditexp.terminal.console import wide_terminal
from ditexp.terminal.units import amount

BLOCK_OVERHEAD = 8192  # bytes, for a block's manifest
WORST_COMPRESSION = 1.01  # noise does not compress


def print_plan(built: Mapping[str, Cell | ConfigError]) -> None:
    """Print the cost of each cell, by name, and what is already there; or what is wrong with it."""
    table = Table("cell", "steps", "nfe", "forwards", "samples", "to make", "result", box=None, header_style="bold")
    total, adaptive = 0.0, 0
    planned: set[tuple[Path, int]] = set()
    for name, cell in built.items():
        if isinstance(cell, ConfigError):
            table.add_row(name, "", "", "", "", "", "; ".join(describe(cell)), style="red")
            continue
        is_done = cell.result() is not None and not cell.has_gaps
        missing, decoded = (0, 0) if is_done else (size * cell.store.block_size for size in to_make(cell, planned))
        cost = ("adaptive", MISSING, MISSING)
        if evaluations := cell.sampler.evaluations():
            nfe, forwards = evaluations
            total += missing * forwards
            cost = (str(cell.steps), f"{nfe:g}", f"{forwards:g}")
        else:
            adaptive += missing
        work = f"{missing}, {decoded} to decode" if decoded else str(missing)
        table.add_row(name, *cost, str(cell.num_samples), work, "cached" if is_done else "to do")
    terminal = wide_terminal()
    terminal.print(table)
    others = f" and those of {adaptive:,} samples with adaptive steps" if adaptive else ""
    terminal.print(f"{len(built)} cells need {total:,.0f} network evaluations{others}; nothing was run")


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
                "with `python -m ditexp.samples gc`, or choose outputs=... on another disk"
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
    return {folder: sum(size for (root, _), size in sizes.items() if root == folder) for folder, _ in sizes}


def feature_bytes(cell: Cell, blocks: int) -> int:
    """The size of the features of this number of blocks, in float32; 0 without metrics."""
    feature = cell.evaluator.feature
    if feature is None or not cell.evaluator.metrics:
        return 0
    return 4 * blocks * cell.store.block_size * sum(feature.outputs.values())
