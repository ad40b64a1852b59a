"""What the cells of a sweep have yet to do, by which `ditexp.run.forecast` tells the time left."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch

from ditexp.core import TextModel
from ditexp.files.content import digest
from ditexp.run.cell import Cell
from ditexp.run.components import COMPONENTS
from ditexp.run.forecast import Work

ALIKE = ("model", "vae", "precision", "compile", "batch_size", "devices")  # what decides how long an evaluation takes


class Evaluations:
    """Of cells, per image; cells that differ in neither their components nor their steps are counted once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float] | None] = {}

    def of(self, cell: Cell) -> tuple[float, float] | None:
        """Velocity and network evaluations; None for an adaptive solver."""
        kind = digest([cell.config[name] for name in (*COMPONENTS, "forwards", "steps")])
        if kind not in self._known:
            self._known[kind] = cell.sampler.evaluations()
        return self._known[kind]


def works_of(cells: Sequence[Cell]) -> list[Work]:
    """What the cells have yet to do, in their order."""
    works, sets, evaluations = [], set(), Evaluations()
    for cell in cells:
        is_done = cell.is_done
        blocks = [] if is_done or cell.store.id in sets else cell.slice.of(cell.store.missing())
        sets.add(cell.store.id)
        works.append(
            Work(
                id=cell.id,
                images=len(blocks) * cell.store.block_size,
                forwards=forwards_of(cell, evaluations) if blocks else None,
                speed=digest([cell.config[name] for name in ALIKE]),
                solver=digest([cell.config[name] for name in ("solver", "guidance", "cache", "steps")]),
                is_done=is_done,
            )
        )
    return works


def forwards_of(cell: Cell, evaluations: Evaluations) -> float | None:
    """The evaluations of an image; None for an adaptive solver, and where counting would encode prompts."""
    if not isinstance(cell.sampler.model, TextModel):
        with suppress(Exception), torch.inference_mode():  # sampling meets it, and reports it
            found = evaluations.of(cell)
            return found and found[1]
    return None
