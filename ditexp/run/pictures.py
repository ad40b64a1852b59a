"""What a person is shown of a cell: the task's own sheet or its first samples, a film, and samples on their way."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import torch

from ditexp.cli.errors import describe
from ditexp.files.atomic import atomic, make_way
from ditexp.report.grids import by_caption, draw, film, flaw_of, image_grid
from ditexp.run.cell import Cell
from ditexp.samples.store import BLOCK_IMAGES
from ditexp.terminal.notices import notice


def write_pictures(cell: Cell) -> None:
    """Draw all of them. What fails is said: numbers stand without pictures."""
    attempt(draw_samples, cell, cell.grid_path)
    if hasattr(cell.sampler.task, "trajectory"):
        attempt(draw_trajectory, cell, cell.trajectory_path)


def mend_pictures(cell: Cell, result: dict, *, has_samples: bool) -> None:
    """Draw again those of a result that are missing or damaged, as far as its samples are there."""
    paths = [cell.grid_path, *([cell.film_path] if "film" in result or cell.film_path.exists() else [])]
    path, flaw = next(((path, flaw) for path in paths if (flaw := flaw_of(path))), (None, ""))
    if flaw and has_samples:
        notice(f"{path} is {flaw}: it is drawn again")
        attempt(draw_samples, cell, path)
    elif flaw:
        notice(
            f"{path} is {flaw}, and the samples {cell.store.id} were deleted: it is left out; remove "
            f"{cell.result_path} to have both made again"
        )
    has_trajectory = hasattr(cell.sampler.task, "trajectory") and "trajectory_picture" in result
    if has_trajectory and (flaw := flaw_of(cell.trajectory_path)):
        notice(f"{cell.trajectory_path} is {flaw}: it is drawn again")
        attempt(draw_trajectory, cell, cell.trajectory_path)


def attempt(function, cell: Cell, path: Path) -> None:
    try:
        function(cell)
    except Exception as error:
        notice(f"{path} was not drawn ({'; '.join(describe(error))}): the same command tries again")


def draw_samples(cell: Cell) -> None:
    """The task's sheet, or the samples by their captions, or ten a row, so that balanced labels form columns.

    Of all the samples, 256 are looked at.
    """
    sampler, store, sheet = cell.sampler, cell.store, None
    blocks = itertools.islice(store.blocks(), math.ceil(BLOCK_IMAGES / store.block_size))
    images = np.concatenate(list(blocks))[: store.num_samples]
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    if hasattr(sampler.task, "picture"):
        with torch.inference_mode():
            sheet = sampler.task.picture(sampler, tensor)
    elif hasattr(sampler.conditioner, "captions"):
        sheet = by_caption(tensor, sampler.conditioner.captions(range(len(images))))
    make_way(cell.grid_path)
    with atomic(cell.grid_path) as temporary:
        picture = draw(sheet) if sheet else image_grid(images[:100], columns=10)
        picture.save(temporary, format="png")
    if sheet and sheet.moving:
        make_way(cell.film_path)
        with atomic(cell.film_path) as temporary:
            film(sheet, temporary)


def draw_trajectory(cell: Cell) -> None:
    with torch.inference_mode():
        sheet = cell.sampler.task.trajectory(cell.sampler, range(min(4, cell.store.num_samples)))
    make_way(cell.trajectory_path)
    with atomic(cell.trajectory_path) as temporary:
        draw(sheet).save(temporary, format="png")
