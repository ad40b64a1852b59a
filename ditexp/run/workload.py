"""What the cells of a sweep have yet to do, by which `ditexp.run.forecast` tells the time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import torch

from ditexp.core import TextModel
from ditexp.files.content import digest
from ditexp.run.cell import Cell
from ditexp.run.forecast import Work

ALIKE = ("model", "vae", "precision", "compile", "batch_size", "devices")  # what decides how long an evaluation takes
LINEAR = ("solver", "guidance", "task")  # cells that are alike in these need evaluations in proportion to their steps
BUDGET = 2.0  # seconds for counting the evaluations of all cells; those of the rest are estimated, kind by kind


def works_of(cells: Sequence[Cell]) -> list[Work]:
    """What the cells have yet to do, in their order."""
    works, sets, until, per_step = [], set(), time.monotonic() + BUDGET, dict[str, float]()
    for cell in cells:
        is_done = cell.result() is not None and not cell.has_gaps
        blocks = [] if is_done or cell.store.id in sets else cell.slice.of(cell.store.missing())
        sets.add(cell.store.id)
        kind = digest([cell.config["model"], cell.config["cache"], *(cell.config[name]["_target_"] for name in LINEAR)])
        forwards = None
        if blocks and kind in per_step and cell.steps and time.monotonic() > until:
            forwards = per_step[kind] * cell.steps
        elif blocks and (forwards := forwards_of(cell)) and cell.steps:
            per_step[kind] = forwards / cell.steps
        works.append(
            Work(
                id=cell.id,
                images=len(blocks) * cell.store.block_size,
                forwards=forwards,
                speed=digest([cell.config[name] for name in ALIKE]),
                solver=digest([cell.config[name] for name in ("solver", "guidance", "cache", "steps")]),
                is_done=is_done,
            )
        )
    return works


def forwards_of(cell: Cell) -> float | None:
    """The evaluations of an image; None for an adaptive solver, and where counting would encode prompts."""
    if not isinstance(cell.sampler.model, TextModel):
        with suppress(Exception), torch.inference_mode():  # sampling meets it, and reports it
            found = cell.sampler.evaluations()
            return found and found[1]
    return None
