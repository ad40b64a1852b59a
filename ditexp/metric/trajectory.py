"""Solvers beside the exact flow, noise by noise: a few hundred samples tell apart what FID needs 50,000 for."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ditexp.core import Solver, VelocityField
from ditexp.files.atomic import atomic
from ditexp.files.content import digest
from ditexp.metric.base import Comparison
from ditexp.terminal.notices import notice
from ditexp.values import PerSample, root_mean

# Where the exact paths are kept, as shares of their time: between these they are cubic. Networks change fast near the
# data: on the bundled digits, steps of 1/32 up to the end would be wrong by 8e-4 there.
POINTS = (*(i / 32 for i in range(28)), *(i / 128 for i in range(112, 129)))


class Paths(NamedTuple):
    """The exact flow of some samples.

    times: (M,) float64, on the CPU. x, v: (M, N, ...) at those times. half: (N, ...), the last x by half the tolerance.
    """

    times: Tensor
    x: Tensor
    v: Tensor
    half: Tensor

    def to(self, device: torch.device | str) -> Paths:
        return Paths(self.times, *(part.to(device) for part in self[1:]))

    def at(self, t: float) -> Tensor:
        """x at time t, by the cubic through x and v on either side (Hermite)."""
        times = self.times.tolist()
        i = min(max(bisect.bisect_right(times, t) - 1, 0), len(times) - 2)
        h = times[i + 1] - times[i]
        s = (t - times[i]) / h
        start, end = (1 + 2 * s) * (1 - s) ** 2, s**2 * (3 - 2 * s)
        leave, arrive = h * s * (1 - s) ** 2, h * s**2 * (s - 1)
        return start * self.x[i] + end * self.x[i + 1] + leave * self.v[i] + arrive * self.v[i + 1]


class Batch(NamedTuple):
    """Some samples' exact paths, and differences from them.

    end: at t = 1. finer_end: there, with steps of half the length. start: back at t = 0. along: at times of the grid.
    """

    paths: Paths
    end: Tensor
    finer_end: Tensor
    start: Tensor
    along: list[Tensor]


@dataclass(frozen=True, kw_only=True)
class Trajectory(Comparison):
    """Where a solver takes noise, beside where the exact flow takes the same noise under the same condition.

    trajectory_rmse: root mean square, over samples and elements of x at t = 1, in the model's own space.
    trajectory_order: log2 of how much smaller it gets when every step is halved; not for adaptive solvers.
    round_trip_rmse: of the noise, when samples are taken back to t = 0 by the same solver.
    Beside these: `curvature` of the exact paths; `reference_error`, what halving the reference's tolerance changes;
    and `error_along_t`, the root mean square error at each time of the grid.

    samples: how many. reference: the adaptive solver that stands for the exact flow, always in fp32. tolerance: its
    rtol and atol. Its paths are kept and serve every solver, schedule and precision.
    """

    samples: int = 256
    reference: Solver
    tolerance: float = 1e-6

    name: ClassVar[str] = "trajectory"

    def __post_init__(self):
        if not isinstance(self.samples, int) or isinstance(self.samples, bool) or self.samples < 1:
            raise ValueError(f"metric.trajectory.samples={self.samples}: give a whole number of at least 1")
        if not self.reference.adaptive:
            raise ValueError(
                f"metric.trajectory.reference={type(self.reference).__name__} is no adaptive solver: choose one, "
                "such as solver@metric.trajectory.reference=dopri5"
            )
        if not 0 < self.tolerance < 1:
            raise ValueError(f"metric.trajectory.tolerance={self.tolerance}: give a number above 0 and below 1")
        tight = replace(self.reference, rtol=self.tolerance, atol=self.tolerance)
        object.__setattr__(self, "reference", tight)

    def check(self, solver: Solver) -> None:
        if getattr(solver, "stochastic", False):
            raise ValueError(
                f"metric=trajectory compares paths, but {type(solver).__name__} adds noise to each: leave it out"
            )

    @torch.inference_mode()
    def compare(
        self, sampler, *, batch_size: int, identity: dict, cache: Path, advance: Callable[[int], None]
    ) -> tuple[dict[str, PerSample], dict]:
        """The numbers above, and what is beside them.

        sampler: loaded. identity: JSON-able facts that determine the exact flow, its start and its condition.
        advance: told the samples that are done with.
        """
        batches = []
        for start in range(0, self.samples, batch_size):
            indices = range(start, min(start + batch_size, self.samples))
            batches.append(self.batch(sampler, indices, identity, cache))
            advance(len(indices))
        ends = mean_squares([batch.end for batch in batches])
        starts = mean_squares([batch.start for batch in batches])
        rmse = root_mean(ends).item()
        reference_error = rms([batch.paths.x[-1] - batch.paths.half for batch in batches])
        if rmse < 10 * reference_error:
            notice(
                f"trajectory_rmse {rmse:.2g} is not far above the reference's own error of {reference_error:.2g}: "
                "lower metric.trajectory.tolerance"
            )
        scores = {"trajectory_rmse": PerSample(ends, root_mean), "round_trip_rmse": PerSample(starts, root_mean)}
        details = {"reference_error": reference_error, "curvature": curvature([batch.paths for batch in batches])}
        if not sampler.solver.adaptive:
            finer_ends = mean_squares([batch.finer_end for batch in batches])
            scores["trajectory_order"] = PerSample(torch.stack([ends, finer_ends], dim=1), order)
            details["error_along_t"] = [
                [t, rms([batch.along[number] for batch in batches])] for number, t in enumerate(sampler.grid)
            ]
        return scores, details

    def batch(self, sampler, indices: Sequence[int], identity: dict, cache: Path) -> Batch:
        x, condition = sampler.noise(indices), sampler.condition(indices)
        exact = replace(sampler, precision="fp32", compile=False).field(condition)
        start = sampler.grid[0]
        times = [start + (1 - start) * share for share in POINTS]
        facts = {"reference": repr(self.reference), "samples": [indices[0], indices[-1]], "times": times}
        key = digest(identity | facts)
        paths = kept(cache / f"{key}.safetensors", lambda: exact_paths(self.reference, exact, x, times)).to(x.device)
        along = [torch.zeros_like(x)]

        def observe(state: Tensor, t: float) -> Tensor:
            along.append(state - paths.at(t))
            return state

        if sampler.solver.adaptive:
            end = finer = sampler.integrate(x, condition, indices)
        else:
            end = sampler.integrate(x, condition, indices, project=observe)
            finer = sampler.integrate(x, condition, indices, grid=halved(sampler.grid))
        start = sampler.invert(end, condition) - x
        return Batch(paths, end - paths.x[-1], finer - paths.x[-1], start, along)


def exact_paths(reference: Solver, field: VelocityField, x: Tensor, times: Sequence[float]) -> Paths:
    """From x (N, ...) at the first of the times, by an adaptive solver."""
    states = [x]
    for t0, t1 in pairwise(times):
        states.append(reference.integrate(field, states[-1], [t0, t1]).x)
    velocities = [field(state, state.new_full((len(x),), t)) for t, state in zip(times, states)]
    tighter = replace(reference, rtol=reference.rtol / 2, atol=reference.atol / 2)
    half = tighter.integrate(field, x, [times[0], times[-1]]).x
    return Paths(torch.tensor(times, dtype=torch.float64), torch.stack(states), torch.stack(velocities), half)


def kept(path: Path, make: Callable[[], Paths]) -> Paths:
    """What is on disk, or is made and put there, where that is possible."""
    with suppress(OSError, SafetensorError, TypeError):  # absent, or damaged
        return Paths(**load_file(path))
    paths = make()
    data = save({name: part.cpu().contiguous() for name, part in paths._asdict().items()})
    try:
        with atomic(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        notice(f"exact paths are not kept in {path.parent} ({error.strerror}): another run finds them again")
    return paths


def halved(grid: Sequence[float]) -> list[float]:
    """With a point in the middle of every interval."""
    return [grid[0], *(t for t0, t1 in pairwise(grid) for t in ((t0 + t1) / 2, t1))]


def mean_squares(differences: Sequence[Tensor]) -> Tensor:
    """(N,) float64 on the CPU: of each sample of all parts (B, ...), the mean square of its elements."""
    return torch.cat([part.double().square().flatten(1).mean(1).cpu() for part in differences])


def rms(differences: Sequence[Tensor]) -> float:
    """Root mean square over all elements of all parts."""
    return root_mean(mean_squares(differences)).item()


def order(squares: Tensor) -> Tensor:
    """log2 of how much smaller the error gets; (N, 2) mean squares with the steps and with steps of half the length."""
    errors = squares.mean(dim=0).sqrt()
    return (errors[0] / errors[1]).log2()


def curvature(paths: Sequence[Paths]) -> float:
    """Mean of |v - (x_1 - x_0)|^2 over samples and t, in shares of |x_1 - x_0|^2 (Liu et al. 2022, equation 7).

    0 for straight paths, of which one step of Euler's method is exact.
    """
    off, size = 0.0, 0.0
    for times, x, *_ in paths:
        whole, lengths = (x[-1] - x[0]).double(), times.diff().tolist()
        # Mean velocities of the intervals: v itself may leap at t = 1, and a quadrature would count that for much more.
        for h, move in zip(lengths, x.double().diff(dim=0)):
            off += (move / h - whole).square().sum().item() * h
        size += whole.square().sum().item()
    return off / size
