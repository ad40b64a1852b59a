"""Samplers for tests: with defaults, and with noise in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ditexp.binding import bind
from ditexp.condition.labels import Balanced
from ditexp.core import FlowModel, Schedule, Solver
from ditexp.guidance.none import NoGuidance
from ditexp.sampler import Sampler
from ditexp.schedule.uniform import Uniform
from ditexp.task.generate import Generate


def sampler_of(
    model: FlowModel, solver: Solver, *, steps: int = 4, schedule: Schedule | None = None, **parts: Any
) -> Sampler:
    """Balanced labels, no guidance, uniform steps, task=generate and seed 0 on the CPU, unless given."""
    defaults = {"guidance": NoGuidance(), "conditioner": Balanced(), "task": Generate(), "seed": 0}
    schedule = schedule or Uniform(steps)
    return bind(model=model, solver=solver, schedule=schedule, **defaults | {"device": torch.device("cpu")} | parts)


class Float64Sampler(Sampler):
    def noise(self, indices: Sequence[int]) -> torch.Tensor:
        return super().noise(indices).double()


def in_float64(made: Sampler) -> Sampler:
    """The same with noise in float64, so that errors are the solver's and not those of rounding."""
    return Float64Sampler(**vars(made))
