"""Makes samples of model, solver, grid, guidance, conditioner and task.

A batch, from its indices to its pixels:

    Sampler.images             times and counts the batch
      Sampler.samples          the part before the codec; what is kept of it needs no sampling again
        task(sampler, indices) what is done with the sampler, for example ditexp/task/generate.py
          Sampler.noise        draws the batch's noise, x at t = 0
          Sampler.integrate    hands x and the guided velocity to the solver; the loop over steps is FixedStep.integrate
                               in ditexp/solver/base.py, for adaptive solvers Adaptive.integrate in solver/adaptive.py
      Sampler.pixels           x at t = 1 -> pixels, and what the task does with them
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ditexp.cached import with_cache
from ditexp.core import (
    Cache,
    Codec,
    Conditioner,
    FlowModel,
    Guidance,
    Projection,
    PromptedConditioner,
    Schedule,
    Solver,
    VelocityField,
)
from ditexp.evaluated import begin_compiling
from ditexp.field import CountedField, ReversedField
from ditexp.guidance.none import NoGuidance
from ditexp.meter import Meter
from ditexp.network import Network, Rehearsal, Still
from ditexp.noise import Seed, noise, step_noise, task_noise
from ditexp.pixels import Unencoded, to_pixels
from ditexp.task.base import Task
from ditexp.transfer import DrawnAhead, Pending, to_device, to_host
from ditexp.values import Condition, Cost


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampler:
    """Draws the samples of given indices. `bind` in ditexp/binding.py makes it; call `prepare` before `images`.

    grid: the times of the steps, from noise to data; for an adaptive solver, only the ends matter. A sample is x at the
    last of them, which is 1 unless the schedule is of a published sampler that stops before. schedule: gives the
    grid before model and guidance cut it. codec, rounding: lead from samples to pixels. network: the model as it is
    evaluated. meter: counts what the samples cost. draws: gives the noise on the device.
    """

    model: FlowModel
    solver: Solver
    schedule: Schedule
    grid: Sequence[float]
    guidance: Guidance
    cache: Cache | None
    conditioner: Conditioner
    task: Task
    codec: Codec
    rounding: str
    seed: int
    device: torch.device
    precision: str
    compile: bool | str
    network: Network | Rehearsal
    meter: Meter
    draws: DrawnAhead

    @torch.inference_mode()
    def images(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Pixels (B, C, H, W) uint8 and labels (B,) int64, on the CPU."""
        x, labels = self.samples(indices)
        pixels = to_host(self.pixels(x, indices))
        self.meter.check()
        return pixels(), None if labels is None else labels()

    @torch.inference_mode()
    def samples(self, indices: Sequence[int]) -> tuple[Tensor, Pending[Tensor] | None]:
        """x (B, *sample_shape) at t = 1, on the device, and labels (B,) int64; timed and counted.

        On CUDA the work is launched, and it may not be done yet.
        """
        with self.meter.sampling():
            x, labels = self.task(self, indices)
        self.meter.cost.images += len(indices)
        return x, None if labels is None else to_host(labels)

    @torch.inference_mode()
    def pixels(self, x: Tensor, indices: Sequence[int]) -> Tensor:
        """Pixels (B, C, H, W) uint8 of samples x at t = 1 with these indices, on the device; timed."""
        with self.meter.sampling():
            return self.task.finish(self, indices, self.decode(x.contiguous()))

    def decode(self, x: Tensor) -> Tensor:
        """Pixels (B, C, H, W) uint8 of samples x (B, *sample_shape) at t = 1, on the device."""
        return to_pixels(self.codec.decode(x.to(self.device)), self.rounding)

    def encode(self, images: Tensor) -> Tensor:
        """The samples (B, *sample_shape) at t = 1 of images (B, C, H, W) in [-1, 1]; on the device."""
        return self.codec.encode(images.to(self.device))

    def noise(self, indices: Sequence[int]) -> Tensor:
        """Standard normal noise, x at t = 0: (B, *sample_shape) float32 on the device."""
        return self.draws.take(noise, *self.noise_keys(indices), self.model.sample_shape)

    def expect(self, indices: Sequence[int]) -> None:
        """The next batch has these indices: a thread draws its noise while a GPU computes."""
        self.draws.expect(noise, *self.noise_keys(indices), self.model.sample_shape)

    def noise_keys(self, indices: Sequence[int]) -> tuple[Seed, Sequence[int]]:
        """The seeds and indices that all noise of these samples is drawn by; prompts may have seeds of their own."""
        if isinstance(self.conditioner, PromptedConditioner):
            return self.conditioner.noise_keys(self.seed, indices)
        return self.seed, indices

    def begin(self, noise: Tensor) -> Tensor:
        """x (B, ...) at the first time of the grid: the noise itself, unless the model's samples begin after t = 0."""
        return noise if self.model.start_std == 1 else self.model.start_std * noise

    def extra_noise(self, indices: Sequence[int], number: int, shape: Sequence[int] | None = None) -> Tensor:
        """More standard normal draws of the same samples, for the task: independent for each number from 0 on."""
        drawn = task_noise(*self.noise_keys(indices), shape or self.model.sample_shape, number)
        return to_device(drawn, self.device)

    def condition(self, indices: Sequence[int], conditioner: Conditioner | None = None) -> Condition:
        """The condition of these samples, from the sampler's conditioner or from another one; on the device."""
        with self.meter.preparation():  # a prompt is encoded once, for all the samples that have it
            condition = (conditioner or self.conditioner)(self.model, self.seed, indices)
            return condition.map(lambda part: to_device(part, self.device))

    def field(self, condition: Condition) -> VelocityField:
        """The guided velocity of a batch with this condition; every evaluation is counted.

        With a cache, it is for one integration: its evaluations reuse outputs of each other.
        """
        network = self.network if self.cache is None else with_cache(self.network, self.meter, self.model, self.cache)
        return CountedField(self.guidance.bind(network, condition), self.meter)

    def integrate(
        self,
        x: Tensor,
        condition: Condition,
        indices: Sequence[int],
        *,
        grid: Sequence[float] | None = None,
        project: Projection | None = None,
        first_step: int = 0,
    ) -> Tensor:
        """From x (B, ...) at grid[0] to grid[-1]; without a grid, from noise x to samples. indices: of the samples.

        first_step: the number of the first step, for a task that integrates in parts: the noise of an SDE depends on
        it.
        """

        drawn = (*self.noise_keys(indices), x.shape[1:])

        def noise_of(step: int) -> Tensor:
            found = self.draws.take(step_noise, *drawn, first_step + step)
            self.draws.expect(step_noise, *drawn, first_step + step + 1)
            return found.to(x)

        if grid is None:
            x, grid = self.begin(x), self.grid
        solution = self.solver.integrate(self.field(condition), x, grid, project, noise_of)
        self.meter.cost.accepted.update(solution.accepted)
        self.meter.cost.rejected.update(solution.rejected)
        self.meter.checks.append(solution.check)
        return solution.x

    def invert(self, x: Tensor, condition: Condition) -> Tensor:
        """From samples x (B, ...) at t = 1 to the noise that leads there: the solver on the reversed flow."""
        grid = [1 - t for t in reversed(self.grid)]
        solution = self.solver.integrate(ReversedField(self.field(condition)), x, grid)
        self.meter.checks.append(solution.check)
        return solution.x / self.model.start_std

    def since(self, start: float) -> list[float]:
        """The grid of a task that begins at `start`: this time, and the points of the grid after it."""
        return since(start, self.grid)

    def unguided(self) -> Sampler:
        """The same without guidance, from the model's start; its evaluations count as this sampler's."""
        grid = self.schedule.grid().tolist()
        return replace(self, guidance=NoGuidance(), grid=since(self.model.start, grid) if self.model.start else grid)

    def in_full_precision(self, model: FlowModel | None = None) -> Sampler:
        """The same in fp32, without a cache and not compiled, with a meter of its own; its model is on the device.

        model: in place of its own.
        """
        model, meter = model or self.model, Meter(self.device)
        network = Network(model, meter, adaptive=self.solver.adaptive)  # of the velocity, whatever the solver uses
        network.place()
        return replace(self, model=model, precision="fp32", compile=False, cache=None, network=network, meter=meter)

    @torch.inference_mode()
    def prepare(self, batch_size: int) -> None:
        """Do all that is done once a process and not for each sample, so that the samples' seconds hold none of it.

        That is `load`, what the task computes for all samples, and the first use of the network at every shape that
        the task evaluates it at. The cost that is taken next holds its `preparation_seconds`.
        """
        assert isinstance(self.network, Network), "a rehearsal is not rehearsed"
        with self.meter.warmup():
            self.load(batch_size)
            rehearsal = replace(self, network=Rehearsal(self.network, self.cache))
            rehearsal.evaluate_guidance(range(batch_size))
            self.task.prepare(self)
            rehearsal.images(range(batch_size))

    def load(self, batch_size: int) -> None:
        """Move the model to the device, and have it compiled at its first use; batch_size: of most batches to come."""
        self.load_codec()
        if self.compile:
            begin_compiling()
        self.network.load(batch_size)

    def load_codec(self) -> None:
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        self.codec.to(self.device)

    @torch.inference_mode()
    def prepare_decoding(self, batch_size: int) -> None:
        """In place of `prepare` where all samples are there, and are only decoded: no network is loaded."""
        with self.meter.warmup():
            self.load_codec()
            self.decode(torch.zeros(batch_size, *self.model.sample_shape, device=self.device))

    def move(self) -> None:
        """Move model and codec to the device, and compile nothing."""
        assert isinstance(self.network, Network), "a rehearsal is not moved"
        self.network.place()
        self.codec.to(self.device)

    def evaluate_guidance(self, indices: Sequence[int]) -> None:
        """Evaluate the field while guidance is on and while it is off: the size of the network's batch may differ."""
        if self.solver.uses_flow_map:
            return  # there is none
        x, velocity = self.noise(indices), self.field(self.condition(indices))
        low, high = self.guidance.interval or (0, 1)
        for t in (0, (low + high) / 2, 1):
            velocity(x, t)

    def evaluations(self) -> tuple[float, float] | None:
        """Velocity and network evaluations per sample, counted on one sample that stands still.

        None for an adaptive solver, where they depend on the sample.
        """
        if self.solver.adaptive:
            return None
        meter = Meter(self.device)
        network = Still(
            self.model,
            meter,
            with_variance=self.solver.uses_variance,
            of_two_times=self.solver.uses_flow_map,
        )
        codec = Unencoded(self.codec.image_shape, self.model.sample_shape)
        still = replace(self, network=network, meter=meter, codec=codec)
        still.task(still, [0])
        return float(meter.cost.velocity_rows), float(meter.cost.network_rows)

    def take_cost(self) -> Cost:
        """The cost since the last call; waits for the device."""
        return self.meter.take()

    def preparation(self) -> AbstractContextManager[None]:
        """A block of a task that reads or encodes images, or encodes prompts; its seconds do not count as sampling."""
        return self.meter.preparation()


def since(start: float, grid: Sequence[float]) -> list[float]:
    """`start` and the points of the grid after it. A point that equals `start` to rounding is replaced by it."""
    return [start, *(t for t in grid if t > start + 1e-8)]
