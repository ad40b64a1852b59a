"""The exact flow of some samples: followed by an adaptive solver, and kept on disk."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import Field, replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ditexp.core import Solver, VelocityField
from ditexp.files.atomic import atomic
from ditexp.terminal.notices import notice


class AdaptiveSolver(Solver, Protocol):
    """A solver, and a dataclass, whose steps follow a tolerance."""

    __dataclass_fields__: ClassVar[dict[str, Field]]

    @property
    def rtol(self) -> float: ...
    @property
    def atol(self) -> float: ...


class Paths(NamedTuple):
    """The exact flow of some samples.

    times: (M,) float64, on the CPU. x, v: (M, N, ...) at those times. half: (N, ...), the last x at half the tolerance.
    """

    times: Tensor
    x: Tensor
    v: Tensor
    half: Tensor

    def to(self, device: torch.device | str) -> Paths:
        return Paths(self.times, self.x.to(device), self.v.to(device), self.half.to(device))

    def at(self, t: float) -> Tensor:
        """x at time t, on the cubic through x and v at the two nearest points (Hermite interpolation)."""
        times = self.times.tolist()
        i = min(max(bisect.bisect_right(times, t) - 1, 0), len(times) - 2)
        h = times[i + 1] - times[i]
        s = (t - times[i]) / h
        start, end = (1 + 2 * s) * (1 - s) ** 2, s**2 * (3 - 2 * s)
        leave, arrive = h * s * (1 - s) ** 2, h * s**2 * (s - 1)
        return start * self.x[i] + end * self.x[i + 1] + leave * self.v[i] + arrive * self.v[i + 1]


def exact_paths(reference: AdaptiveSolver, field: VelocityField, x: Tensor, times: Sequence[float]) -> Paths:
    """The exact flow from x (N, ...) at the first of the times, at the reference's tolerance."""
    states = [x]
    for t0, t1 in pairwise(times):
        states.append(reference.integrate(field, states[-1], [t0, t1]).x)
    velocities = [field(state, t) for t, state in zip(times, states)]
    tighter = replace(reference, rtol=reference.rtol / 2, atol=reference.atol / 2)
    half = tighter.integrate(field, x, [times[0], times[-1]]).x
    return Paths(torch.tensor(times, dtype=torch.float64), torch.stack(states), torch.stack(velocities), half)


def kept(path: Path, make: Callable[[], Paths]) -> Paths:
    """The paths on disk; if there are none, they are made and written there. A failed write is no error."""
    with suppress(OSError, SafetensorError, TypeError):  # missing or damaged
        return Paths(**load_file(path))
    paths = make()
    data = save({name: part.cpu().contiguous() for name, part in paths._asdict().items()})
    try:
        with atomic(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        notice(f"exact paths are not kept in {path.parent} ({error.strerror}): the next run integrates them again")
    return paths
