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


@dataclass(frozen=True)
class Optimized(Steps):
    """The grid of least error that `python -m ditexp.optimize` found for this model, solver and guidance.

    Of the grids that it tried, by the RMSE at t = 1 of a few paths (32 by default); a better one may exist.

    found: the folder where it leaves what it finds, or one such file, which then acts whatever it was found for.
    points: of the grid, once it is known. An adaptive solver needs none but the ends.
    """

    found: str
    points: tuple[float, ...] = (0.0, 1.0)

    @property
    def identity(self) -> dict:
        """The points alone: where they were found doesn't matter."""
        return {"class": type(self).__qualname__, "points": list(self.points)}

    def tuned_to(self, flow: dict) -> Optimized:
        """With the points found for a model, a solver and guidance; flow: JSON-able facts that determine them.

        Raises ValueError if there are none for them, or none of so many steps.
        """
        file = Path(self.found)
        if file.is_dir() or (file.suffix != ".json" and not file.is_file()):
            file = file / f"{digest(flow)}.json"
        if not file.exists():
            raise unfit(
                f"schedule=optimized has no grids, {file},",
                "for this model, solver and guidance",
                "find them by `python -m ditexp.optimize`",
            )
        kind, remedy = "a file of grids", "find them by `python -m ditexp.optimize`"
        grids = read_facts(file, kind, remedy=remedy, needed={"grids": dict})["grids"]
        if str(self.steps) not in grids:
            known = in_line(", ".join(grids), 60)
            raise ValueError(f"steps={self.steps}: {file} has grids of {known} steps; max_steps of ditexp.optimize")
        points = grids[str(self.steps)]
        if not is_grid(points) or len(points) != self.steps + 1:
            raise unfit(file, f"is not {kind}: of {self.steps} steps it has {points}", remedy)
        return replace(self, points=tuple(points))

    def grid(self) -> Tensor:
        return torch.tensor(self.points, dtype=torch.float64)


def is_grid(points: object) -> bool:
    """Whether a value from JSON is a list of times that rise to 1."""
    if not isinstance(points, list) or not all(type(t) in (int, float) and math.isfinite(t) for t in points):
        return False
    return points[-1:] == [1] and points[0] >= 0 and all(t0 < t1 for t0, t1 in pairwise(points))
