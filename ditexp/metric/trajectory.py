"""Solvers compared with the exact flow, noise by noise: a few hundred samples show what FID needs 50,000 for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor

from ditexp.checks import number, whole
from ditexp.core import FlowMapModel, FlowModel, Solver
from ditexp.files.content import digest
from ditexp.metric.base import Comparison
from ditexp.metric.exact import AdaptiveSolver, Paths, exact_paths, kept
from ditexp.precision import full_float32
from ditexp.terminal.notices import notice
from ditexp.values import PerSample, added, root_mean

if TYPE_CHECKING:
    from ditexp.sampler import Sampler

# The times at which the exact paths are kept, as fractions of their length; between them, paths are cubic. Networks
# change fast near the data: on the bundled digits, intervals of 1/32 up to the end would be wrong by 8e-4 there.
POINTS = (*(i / 32 for i in range(28)), *(i / 128 for i in range(112, 129)))


class Batch(NamedTuple):
    """The exact paths of some samples, and the solver's differences from them.

    end: at t = 1. along: at the times of the grid. finer_end: at t = 1 with steps of half the length. start: of the
    noise, back at t = 0. The last two are empty for a model of two times.
    """

    paths: Paths
    end: Tensor
    along: list[Tensor]
    finer_end: Tensor
    start: Tensor


@dataclass(frozen=True, kw_only=True)
class Trajectory(Comparison):
    """The end of a solver's path, compared with the exact flow from the same noise under the same condition.

    trajectory_rmse: root mean square difference, over samples and elements of x at t = 1, in the model's own space.
    trajectory_order: log2 of how much smaller it gets when every step is halved; not for adaptive solvers.
    round_trip_rmse: of the noise, when samples are taken back to t = 0 by the same solver.
    A model of two times has neither of the last two: it has no order, and no way back.
    The details are the `curvature` of the exact paths; `reference_error`, the change from halving the reference's
    tolerance; and `error_along_t`, the root mean square error at each time of the grid.

    samples: how many. reference: the adaptive solver that stands for the exact flow, always in fp32. tolerance: its
    rtol and atol. Its paths are kept and serve every solver, schedule and precision.
    teacher: the model whose flow is exact, under the sampler's guidance. For a model of two times it is the one that it
    was trained to follow. None for the sampler's own.
    """

    samples: int = 256
    reference: AdaptiveSolver
    tolerance: float = 1e-6
    teacher: FlowModel | None = added(None)  # noqa: RUF009 (it is a field)

    name: ClassVar[str] = "trajectory"

    def __post_init__(self) -> None:
        whole("metric.trajectory.samples", self.samples, minimum=1)
        if not self.reference.adaptive:
            raise ValueError(
                f"metric.trajectory.reference={type(self.reference).__name__} is no adaptive solver: choose one, "
                "such as solver@metric.trajectory.reference=dopri5"
            )
        number("metric.trajectory.tolerance", self.tolerance, above=0, below=1)
        tight = replace(self.reference, rtol=self.tolerance, atol=self.tolerance)
        object.__setattr__(self, "reference", tight)
        if isinstance(self.teacher, FlowMapModel):
            raise ValueError(
                f"metric.trajectory.teacher: {type(self.teacher).__name__} is a model of two times: choose one of one "
                "time, such as model@metric.trajectory.teacher=digits"
            )

    def check(self, solver: Solver) -> None:
        if solver.stochastic:
            raise ValueError(
                f"metric=trajectory compares paths, but {type(solver).__name__} adds noise to each: leave it out"
            )
        if solver.uses_flow_map and self.teacher is None:
            raise ValueError(
                "metric=trajectory needs the flow that a model of two times was trained to follow: give "
                "model@metric.trajectory.teacher=..., such as digits for model=digits_flow_map"
            )

    @torch.inference_mode()
    def compare(
        self, sampler: Sampler, *, batch_size: int, identity: dict, cache: Path, advance: Callable[[int], None]
    ) -> tuple[dict[str, PerSample], dict]:
        """The scores and details above.

        sampler: its model is loaded. identity: JSON-able facts that determine the exact flow, its noise and condition.
        cache: the folder of exact paths. advance: called with the number of samples that are done.
        """
        if self.teacher is not None and tuple(self.teacher.sample_shape) != tuple(sampler.model.sample_shape):
            raise ValueError(
                f"metric.trajectory.teacher makes samples of {tuple(self.teacher.sample_shape)} and the model of "
                f"{tuple(sampler.model.sample_shape)}: choose the model that it was trained to follow"
            )
        batches = []
        for start in range(0, self.samples, batch_size):
            indices = range(start, min(start + batch_size, self.samples))
            batches.append(self.batch(sampler, indices, identity, cache))
            advance(len(indices))
        ends = mean_squares([batch.end for batch in batches])
        rmse = root_mean(ends).item()
        reference_error = rms([batch.paths.x[-1] - batch.paths.half for batch in batches])
        if rmse < 10 * reference_error:
            notice(
                f"trajectory_rmse {rmse:.2g} is not far above the reference's own error of {reference_error:.2g}: "
                "lower metric.trajectory.tolerance"
            )
        scores = {"trajectory_rmse": PerSample(ends, root_mean)}
        if not sampler.solver.uses_flow_map:
            starts = mean_squares([batch.start for batch in batches])
            scores["round_trip_rmse"] = PerSample(starts, root_mean)
        details = {"reference_error": reference_error, "curvature": curvature([batch.paths for batch in batches])}
        if not sampler.solver.adaptive:
            if not sampler.solver.uses_flow_map:
                finer_ends = mean_squares([batch.finer_end for batch in batches])
                scores["trajectory_order"] = PerSample(torch.stack([ends, finer_ends], dim=1), order)
            details["error_along_t"] = [
                [t, rms([batch.along[point] for batch in batches])] for point, t in enumerate(sampler.grid)
            ]
        return scores, details

    def batch(self, sampler: Sampler, indices: Sequence[int], identity: dict, cache: Path) -> Batch:
        """Integrate some samples in all the ways that are compared."""
        x, condition = sampler.begin(sampler.noise(indices)), sampler.condition(indices)
        exact = sampler.in_full_precision(self.teacher).field(condition)
        if self.teacher is not None:
            identity = identity | {"model": self.teacher.identity}
        first, last = sampler.grid[0], sampler.grid[-1]
        times = [first + (last - first) * fraction for fraction in POINTS]
        facts = {"reference": repr(self.reference), "samples": [indices[0], indices[-1]], "times": times}
        key = digest(identity | facts)
        with full_float32():
            paths = kept(cache / f"{key}.safetensors", lambda: exact_paths(self.reference, exact, x, times))
        paths = paths.to(x.device)
        along = [torch.zeros_like(x)]

        def observe(state: Tensor, t: float) -> Tensor:
            along.append(state - paths.at(t))
            return state

        finer = start = x.new_zeros(0)
        if sampler.solver.adaptive:
            end = sampler.integrate(x, condition, indices)
        else:
            end = sampler.integrate(x, condition, indices, project=observe)
        if not sampler.solver.uses_flow_map:
            if not sampler.solver.adaptive:
                finer = sampler.integrate(x, condition, indices, grid=halved(sampler.grid)) - paths.x[-1]
            start = sampler.invert(end, condition) - x
        sampler.meter.check()
        return Batch(paths, end - paths.x[-1], along, finer, start)


def halved(grid: Sequence[float]) -> list[float]:
    """The grid with a point added in the middle of every interval."""
    return [grid[0], *(t for t0, t1 in pairwise(grid) for t in ((t0 + t1) / 2, t1))]


def mean_squares(differences: Sequence[Tensor]) -> Tensor:
    """(N,) float64 on the CPU: the mean square of the elements of each sample, over all parts (B, ...)."""
    return torch.cat([part.double().square().flatten(1).mean(1).cpu() for part in differences])


def rms(differences: Sequence[Tensor]) -> float:
    """Root mean square over all elements of all parts."""
    return root_mean(mean_squares(differences)).item()


def order(squares: Tensor) -> Tensor:
    """log2 of how much smaller the error gets with halved steps. squares: (N, 2) mean squares without and with."""
    errors = squares.mean(dim=0).sqrt()
    return (errors[0] / errors[1]).log2()


def curvature(paths: Sequence[Paths]) -> float:
    """The mean of |v - (x_1 - x_0)|^2 over samples and t, divided by that of |x_1 - x_0|^2 (Liu et al. 2022, eq. 7).

    It is 0 for straight paths, where one step of Euler's method is exact.
    """
    off, size = (paths[0].x.new_zeros((), dtype=torch.float64) for _ in range(2))  # read once, at the end
    for times, x, *_ in paths:
        whole, lengths = (x[-1] - x[0]).double(), times.diff().tolist()
        # Mean velocities of the intervals: v itself may jump at t = 1, and a quadrature would overestimate the jump.
        for h, move in zip(lengths, x.double().diff(dim=0)):
            off += (move / h - whole).square().sum() * h
        size += whole.square().sum()
    return off.item() / size.item()
