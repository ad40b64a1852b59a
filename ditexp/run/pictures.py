"""The pictures of a cell: the task's sheet or its first samples, a film, and samples on their way to data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ditexp.cli.errors import describe
from ditexp.evaluate.per_prompt import extremes
from ditexp.files.atomic import atomic, make_way
from ditexp.report.grids import GRID_COLUMNS, by_caption, draw, film, image_grid
from ditexp.report.picture_files import flaw_of
from ditexp.result import PromptScore, Result
from ditexp.run.cell import Cell
from ditexp.samples.store import BLOCK_IMAGES, SampleStore
from ditexp.terminal.notices import notice
from ditexp.values import Sheet


def write_pictures(cell: Cell) -> None:
    """Draw all pictures. A failure becomes a notice: scores are valid without pictures."""
    attempt(draw_samples, cell, cell.outputs.grid(cell.id))
    attempt(draw_trajectory, cell, cell.outputs.trajectory(cell.id))


def write_prompt_picture(cell: Cell, scores: Sequence[PromptScore]) -> None:
    """Draw samples of the prompts with the lowest and the highest scores. A failure becomes a notice."""
    attempt(lambda cell: draw_prompts(cell, scores), cell, cell.outputs.prompt_picture(cell.id))


def draw_prompts(cell: Cell, scores: Sequence[PromptScore]) -> None:
    lowest, highest = extremes(scores)
    shown = [*lowest, *highest]
    count = min(GRID_COLUMNS, *(len(each.samples) for each in shown))
    samples = [each.samples[:count] for each in shown]
    images = images_at(cell.store, {index for row in samples for index in row})
    rows = torch.stack([torch.stack([images[index] for index in row]) for row in samples])
    words = [f"{each.prompt}: {', '.join(f'{value:.4g}' for value in each.scores.values())}" for each in shown]
    path = cell.outputs.prompt_picture(cell.id)
    make_way(path)
    with atomic(path) as temporary:
        draw(Sheet(rows, rows=words)).save(temporary, format="png")


def images_at(store: SampleStore, indices: Collection[int]) -> dict[int, Tensor]:
    """Images (C, H, W) uint8 by their indices. Each block is read once."""
    found = {}
    for block in sorted({index // store.block_size for index in indices}):
        images, _ = store.read(block)
        for index in indices:
            if index in store.indices(block):
                found[index] = torch.tensor(images[index - block * store.block_size]).permute(2, 0, 1)
    return found


def mend_pictures(cell: Cell, result: Result, *, has_samples: bool) -> None:
    """Draw a result's missing or damaged pictures again, if its samples are still there."""
    grid, film_path, trajectory = (
        path(cell.id) for path in (cell.outputs.grid, cell.outputs.film, cell.outputs.trajectory)
    )
    paths = [grid, *([film_path] if result.film or film_path.exists() else [])]
    path, flaw = next(((path, flaw) for path in paths if (flaw := flaw_of(path))), (grid, ""))
    if flaw and has_samples:
        notice(f"{path} is {flaw}: it is drawn again")
        attempt(draw_samples, cell, path)
    elif flaw:
        notice(
            f"{path} is {flaw}, and the samples {cell.store.id} were deleted: it is left out; remove "
            f"{cell.outputs.result(cell.id)} to have both made again"
        )
    if result.trajectory_picture and (flaw := flaw_of(trajectory)):
        attempt(draw_trajectory, cell, trajectory)
        if not flaw_of(trajectory):
            notice(f"{trajectory} was {flaw}: it has been drawn again")


def attempt(draw_pictures: Callable[[Cell], None], cell: Cell, path: Path) -> None:
    try:
        draw_pictures(cell)
    except Exception as error:
        notice(f"{path} was not drawn ({'; '.join(describe(error))}): the same command tries again")


def draw_samples(cell: Cell) -> None:
    """The task's sheet, or else the first samples: by their captions, or GRID_COLUMNS in a row."""
    store = cell.store
    blocks = itertools.islice(store.blocks(), math.ceil(BLOCK_IMAGES / store.block_size))
    images = np.concatenate(list(blocks))[: store.num_samples]
    sheet = sheet_of(cell, torch.from_numpy(images).permute(0, 3, 1, 2))
    grid, film_path = cell.outputs.grid(cell.id), cell.outputs.film(cell.id)
    make_way(grid)
    with atomic(grid) as temporary:
        picture = draw(sheet) if sheet else image_grid(images[:100], columns=GRID_COLUMNS)
        picture.save(temporary, format="png")
    if sheet and sheet.moving:
        make_way(film_path)
        with atomic(film_path) as temporary:
            film(sheet, temporary)


def draw_first(store: SampleStore, block: int, path: Path) -> None:
    """Draw the first samples of a block."""
    images, _ = store.read(block)
    with atomic(path) as temporary:
        image_grid(images[:40], columns=10).save(temporary, format="png")


def sheet_of(cell: Cell, images: Tensor) -> Sheet | None:
    """images: the first samples, (N, C, H, W) uint8."""
    with torch.inference_mode():
        if sheet := cell.sampler.task.sheet(cell.sampler, images):
            return sheet
    captions = cell.sampler.conditioner.captions(range(len(images)))
    return None if captions is None else by_caption(images, captions)


def draw_trajectory(cell: Cell) -> None:
    """Nothing if the task does not show trajectories."""
    with torch.inference_mode():
        sheet = cell.sampler.task.trajectory(cell.sampler, range(min(4, cell.num_samples)))
    if sheet is None:
        return
    path = cell.outputs.trajectory(cell.id)
    make_way(path)
    with atomic(path) as temporary:
        draw(sheet).save(temporary, format="png")
