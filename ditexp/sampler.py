"""Binds model, solver, grid, guidance and condition into samples, and counts what they cost."""

from __future__ import annotations

import contextlib
import functools
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ditexp.core import Conditioner, FlowModel, Guidance, Schedule, Solver, VelocityField
from ditexp.guidance.none import NoGuidance
from ditexp.network import CountedModel, Network, Padded, Rehearsal
from ditexp.noise import noise, step_noise, task_noise
from ditexp.task.base import Task
from ditexp.terminal.notices import notice
from ditexp.values import Condition, Cost

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Sampler:
    """Draws the samples of given indices; `prepare` it first.

    precision: fp32, tf32 (float32 with TF32 matrix products, CUDA only), bf16 or fp16 (autocast of the network).
    compile: run the network through torch.compile.
    """

    model: FlowModel
    solver: Solver
    schedule: Schedule
    guidance: Guidance
    conditioner: Conditioner
    task: Task
    seed: int
    device: torch.device
    precision: str = "fp32"
    compile: bool = False

    def __post_init__(self):
        self.grid = self.schedule.grid().tolist()
        if hasattr(self.guidance, "on"):
            self.guidance = self.guidance.on(None if self.solver.adaptive else self.grid)
        if start := getattr(self.guidance, "start", 0):
            self.grid = since(start, self.grid)
        self.cost = Cost()
        self.counted_model = CountedModel(self.model, self.cost, self.device, PRECISIONS[self.precision])
        if self.precision == "tf32" and self.device.type != "cuda":
            notice(f"precision=tf32 acts on CUDA only; on {self.device.type} this is fp32")
        if self.solver.adaptive:
            notice(f"{type(self.solver).__name__} chooses its own steps: steps and schedule don't act on it")

    @torch.inference_mode()
    def prepare(self, batch_size: int) -> None:
        """Do all that is done once a process and not for each sample, so that no sample's seconds hold any of it.

        That is `load`; what the task finds for all of its samples; and each first use, of the network at every shape
        that the task gives it too. How long it took is the `preparation_seconds` of the cost that is taken next.
        """
        start = time.perf_counter()
        self.load(batch_size)
        moving, indices = self.counted_model, range(batch_size)
        self.counted_model = Rehearsal(moving, self.sizes_to_come(moving))
        velocity = self.guidance.bind(self.counted_model, self.condition(indices))
        x = self.noise(indices)
        guided_at = sum(getattr(self.guidance, "interval", None) or (0, 1)) / 2
        for t in (0, guided_at, 1):  # guidance may change the size of the network's batch with t
            velocity(x, x.new_full((len(x),), t))
        rehearsal, self.counted_model = self.counted_model, moving
        if hasattr(self.task, "prepare"):
            self.task.prepare(self)
        self.counted_model = rehearsal
        self.images(indices)
        self.counted_model = moving
        self.take_cost()
        self.cost.preparation_seconds = time.perf_counter() - start

    def load(self, batch_size: int) -> None:
        """Move the model to the device and have it compiled at its first use; batch_size: of most batches to come."""
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        if self.compile:
            # Or kernels would depend on the cells before this one in the process, and after 8 torch compiles no more.
            torch._dynamo.reset()
        self.counted_model = replace(self.counted_model, forward_of=functools.partial(self.ready, batch_size))

    def ready(self, batch_size: int, model: FlowModel) -> Network:
        """The network of a model: on the device, compiled if asked for, and then at few batch sizes."""
        model.to(self.device)
        if not self.compile:
            return model
        network = torch.compile(model.__call__)
        return Padded(network, batch_size) if self.solver.adaptive else network

    def sizes_to_come(self, model: CountedModel) -> Callable[[int], Iterable[int]] | None:
        """The batch sizes that a largest one may shrink to, as far as the first use of a size costs much.

        Nothing is compiled for a size but by torch.compile, and in low precision on a CPU, whose kernels are made for
        each: 14 ms a size for `digits`, as much as an evaluation. In float32 a new size costs 0.4 ms there, which comes
        to less than 1 % of a batch's seconds.
        """
        if not self.solver.adaptive:
            return None
        if self.compile:
            return model.forward.sizes
        low = self.device.type == "cpu" and model.dtype != torch.float32
        return (lambda largest: range(1, largest + 1)) if low else None

    def evaluations(self) -> tuple[float, float] | None:
        """Velocity and network evaluations per sample, counted by making one sample of zero velocity.

        None for an adaptive solver: they depend on the sample.
        """
        if self.solver.adaptive:
            return None
        moving, still = self.counted_model, lambda model: lambda x, t, condition: torch.zeros_like(x)
        self.counted_model = replace(moving, forward_of=still)
        try:
            self.task(self, [0])
        finally:
            self.counted_model, cost = moving, self.take_cost()
        return float(cost.velocity_rows), float(cost.network_rows)

    def noise(self, indices: Sequence[int]) -> Tensor:
        """x at t = 0: (B, *sample_shape) float32 on the device."""
        return noise(self.seed, indices, self.model.sample_shape).to(self.device)

    def more_noise(self, indices: Sequence[int], number: int, shape: Sequence[int] | None = None) -> Tensor:
        """Standard normal draws that belong to the samples as well: as many as a task has numbers for, from 0."""
        return task_noise(self.seed, indices, shape or self.model.sample_shape, number).to(self.device)

    def condition(self, indices: Sequence[int], conditioner: Conditioner | None = None) -> Condition:
        """Under what the samples are made, or under what another conditioner puts them; on the device."""
        with self.preparation():  # a prompt is encoded once, and several samples may have it
            return (conditioner or self.conditioner)(self.model, self.seed, indices).to(self.device)

    def field(self, condition: Condition) -> VelocityField:
        """The guided velocity under `condition`; every evaluation is counted."""
        model = self.counted_model
        whole = self.guidance.bind(model, condition)

        def counted(x: Tensor, t: Tensor, rows: Tensor | None = None) -> Tensor:
            self.cost.velocity_rows += len(x)
            velocity = whole if rows is None else self.guidance.bind(model, condition.take(rows))
            return velocity(x, t)

        return counted

    def integrate(
        self,
        x: Tensor,
        condition: Condition,
        indices: Sequence[int],
        *,
        grid: Sequence[float] | None = None,
        project: Callable[[Tensor, float], Tensor] | None = None,
        first_step: int = 0,
    ) -> Tensor:
        """From x at grid[0] to grid[-1], which are noise and samples if no grid is given; indices: of the samples.

        first_step: the number of the first step, for a task that integrates by parts: an SDE's noise depends on it.
        """

        def noise_of(step: int) -> Tensor:
            return step_noise(self.seed, indices, x.shape[1:], first_step + step).to(x)

        solution = self.solver.integrate(self.field(condition), x, grid or self.grid, project, noise_of)
        self.cost.accepted.update(solution.accepted)
        self.cost.rejected.update(solution.rejected)
        return solution.x

    def since(self, start: float) -> list[float]:
        """`start` and the points of the grid after it: where a task takes its steps that begins there."""
        return since(start, self.grid)

    def invert(self, x: Tensor, condition: Condition) -> Tensor:
        """From samples x at t = 1 to the noise that leads there: the solver on the reversed flow, dx/ds = -v(x, 1 - s).

        That is a rectified flow, too, from data to noise, so that every solver of the ODE takes it as it is.
        """
        field = self.field(condition)
        grid = [1 - t for t in reversed(self.grid)]
        return self.solver.integrate(lambda x, s, rows=None: -field(x, 1 - s, rows), x, grid).x

    def unguided(self) -> Sampler:
        """The same under the model's own velocity, from t = 0; what that costs is counted here."""
        plain = replace(self, guidance=NoGuidance())
        plain.cost, plain.counted_model = self.cost, self.counted_model
        return plain

    @torch.inference_mode()
    def images(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Pixels (B, C, H, W) uint8 and labels (B,) int64, on the CPU; timed, the transfer included."""
        with self.clock():
            x, labels = self.task(self, indices)
            images = self.model.decode(x).cpu()
        self.cost.images += len(indices)
        return images, None if labels is None else labels.cpu()

    def take_cost(self) -> Cost:
        """What was spent since the last call."""
        taken = replace(self.cost)
        vars(self.cost).update(vars(Cost()))
        return taken

    @contextlib.contextmanager
    def clock(self) -> Iterator[None]:
        reset_peak_memory(self.device)
        start, before = time.perf_counter(), self.cost.preparation_seconds
        yield
        self.cost.seconds += time.perf_counter() - start - (self.cost.preparation_seconds - before)
        self.cost.peak_memory_mb = max(self.cost.peak_memory_mb, peak_memory_mb(self.device))

    @contextlib.contextmanager
    def preparation(self) -> Iterator[None]:
        """What is done within is no sampling: images are read, prompts encoded. It doesn't count as seconds."""
        synchronize(self.device)  # what came before is sampling
        start = time.perf_counter()
        yield
        synchronize(self.device)
        self.cost.preparation_seconds += time.perf_counter() - start


def bind(
    *,
    model: FlowModel,
    solver: Solver,
    schedule: Schedule,
    guidance: Guidance,
    conditioner: Conditioner,
    task: Task,
    seed: int,
    device: torch.device,
    precision: str = "fp32",
    compile: bool = False,
) -> Sampler:
    return Sampler(
        model=model,
        solver=solver,
        schedule=schedule,
        guidance=guidance,
        conditioner=conditioner,
        task=task,
        seed=seed,
        device=device,
        precision=precision,
        compile=compile,
    )


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def since(start: float, grid: Sequence[float]) -> list[float]:
    """The grid from `start` on, which is one of its points to rounding, or becomes one."""
    return [start, *(t for t in grid if t > start + 1e-8)]


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # Linux: start VmHWM, the peak resident set, anew


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory since the reset, in MB (10^6 bytes)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
