from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from ditexp.files.content import digest
from ditexp.files.reading import read_facts, unfit
from ditexp.schedule.base import Steps
from ditexp.terminal.notices import in_line

REMEDY = "find them by `ditexp optimize`"


@dataclass(frozen=True)
class Optimized(Steps):
    """The best grid that `ditexp optimize` found for this model, solver and guidance.

    It has the smallest RMSE at t = 1, over a few paths (32 by default), of the grids that were tried; a better one may
    exist.

    found: the folder in which ditexp.optimize saves its grids, or one of its files, which is then used for any flow.
    points: the grid, once it is known; an adaptive solver only needs its ends.
    """

    found: str
    points: tuple[float, ...] = (0.0, 1.0)

    @property
    def identity(self) -> dict:
        """Only the points: the file that they come from does not matter."""
        return {"class": type(self).__qualname__, "points": list(self.points)}

    def tuned_to(self, flow: dict) -> Optimized:
        """The schedule with the points for a model, solver and guidance. flow: JSON-able facts that determine these.

        Raises ValueError if there is no grid for them, or none with this number of steps.
        """
        file = Path(self.found)
        if file.is_dir() or (file.suffix != ".json" and not file.is_file()):
            file = file / f"{digest(flow)}.json"
        if not file.exists():
            raise unfit(
                f"schedule=optimized has no grids, {file},",
                "for this model, solver and guidance",
                REMEDY,
            )
        kind = "a file of grids"
        grids = read_facts(file, kind, remedy=REMEDY, needed={"grids": dict})["grids"]
        if str(self.steps) not in grids:
            known = in_line(", ".join(grids), 60)
            raise ValueError(
                f"steps={self.steps}: {file} has grids of {known} steps: find more with max_steps of ditexp optimize"
            )
        points = grids[str(self.steps)]
        if not is_grid(points) or len(points) != self.steps + 1:
            raise unfit(file, f"is not {kind}: for {self.steps} steps it has {points}", REMEDY)
        return replace(self, points=tuple(points))

    def grid(self) -> Tensor:
        return torch.tensor(self.points, dtype=torch.float64)


def is_grid(points: object) -> bool:
    """Whether a value from JSON is a list of times that increase to 1."""
    if not isinstance(points, list) or not all(type(t) in (int, float) and math.isfinite(t) for t in points):
        return False
    return points[-1:] == [1] and points[0] >= 0 and all(t0 < t1 for t0, t1 in pairwise(points))
