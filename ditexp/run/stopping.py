"""What is kept of a run that is stopped, and the commands that go on from there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ditexp.provenance import command
from ditexp.report.listing import command_for
from ditexp.report.writing import from_here
from ditexp.result import read_result
from ditexp.run.current import current
from ditexp.terminal.console import print_command, print_line
from ditexp.terminal.units import plural

if TYPE_CHECKING:
    from ditexp.run.cell import Cell


def stopped(how: str) -> None:
    """Say what is kept of a run that is stopped. how: in a word."""
    print_kept(how, running=current.running, folders=list(current.cells), sweep=current.folder)


def print_kept(how: str, *, running: Cell | None, folders: Sequence[Path], sweep: Path) -> None:
    """Print what is kept, and the commands that continue and that report on what is done.

    how: the run was stopped, in a word. running: the cell that was being made. folders: of all cells, in their order.
    sweep: the folder of the run or sweep.
    """
    done = sum(map(is_done, folders))
    begun = sum((folder / "cell.json").exists() for folder in folders)
    is_sweep = len(folders) > 1
    where = f" in cell {begun + 1} of {len(folders)}" if running and is_sweep else ""
    kept = [f"{done} of {len(folders)} cells"] if is_sweep else []
    kept += [blocks_in_words(running, " of this one" if is_sweep else "")] if running else []
    print_line(f"ditexp: {how}{where}; kept: {' and '.join(kept) or 'all finished work'}")
    print_line("ditexp: the same command continues from there:")
    print_command(command())
    if done:
        print_line("ditexp: a report on the cells that are done:")
        print_command(command_for("results", str(from_here(sweep.absolute()))))


def is_done(folder: Path) -> bool:
    with suppress(FileNotFoundError, ValueError):
        return read_result(folder / "cell.json").is_done
    return False


def blocks_in_words(cell: Cell, which: str) -> str:
    """The complete blocks of the slice that this run makes: images in progress do not count.

    which: words that say what they are blocks of.
    """
    store = cell.store
    blocks = cell.slice.of(range(store.num_blocks))
    there = len(blocks) - len(cell.slice.of(store.missing()))
    images, total = there * store.block_size, len(blocks) * store.block_size
    latents = len(cell.slice.of(store.decodable())) if store.keeps_latents else 0
    more = f", and the latents of {latents} more" if latents else ""
    return f"{there} of {plural(len(blocks), 'block')}{which} ({images:,} of {total:,} images){more}"
