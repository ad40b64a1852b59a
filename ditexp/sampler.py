"""Binds model, solver, grid, guidance and condition into samples, and counts what they cost."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ditexp.core import (
    Condition,
    Conditioner,
    Cost,
    FlowModel,
    Guidance,
    Schedule,
    Solver,
    Task,
    VelocityField,
    notice,
)
from ditexp.guidance.none import NoGuidance
from ditexp.noise import noise, step_noise, task_noise

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class CountedModel:
    """A FlowModel as guidance sees it: each evaluation is counted and runs at the chosen precision.

    forward_of: what evaluates a model: itself, or its network compiled.
    """

    model: FlowModel
    cost: Cost
    device: torch.device
    dtype: torch.dtype = torch.float32
    forward_of: Callable[[FlowModel], Callable] = lambda model: model
    others: dict[int, CountedModel] = field(init=False, default_factory=dict)

    def __post_init__(self):
        self.forward = self.forward_of(self.model)
        self.num_classes, self.has_null, self.null = (
            self.model.num_classes,
            self.model.has_null,
            self.model.null,
        )

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.cost.network_rows += len(x)
        # Only the network runs in low precision: the state x stays float32, or small steps would be lost.
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            return self.forward(x, t, condition).to(x.dtype)

    def beside(self, model: FlowModel) -> CountedModel:
        """A second model, whose evaluations count with this one's and run in the same way."""
        if id(model) not in self.others:
            self.others[id(model)] = replace(self, model=model)
        return self.others[id(model)]


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
        """Move the model to the device, compile it, and evaluate a batch, so that no figure holds first-use costs.

        A task that has a `prepare` finds there what all of its samples need.
        """
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        self.counted_model = replace(self.counted_model, forward_of=self.ready)
        indices = range(batch_size)
        velocity = self.guidance.bind(self.counted_model, self.condition(indices))
        x = self.noise(indices)
        guided_at = sum(getattr(self.guidance, "interval", None) or (0, 1)) / 2
        for t in (0, guided_at, 1):  # guidance may change the size of the network's batch with t
            v = velocity(x, x.new_full((len(x),), t))
        self.model.decode(v).cpu()
        if hasattr(self.task, "prepare"):
            self.task.prepare(self)
        self.take_cost()

    def ready(self, model: FlowModel) -> Callable:
        """The network of a model: on the device, compiled if asked for."""
        model.to(self.device)
        return torch.compile(model.__call__) if self.compile else model

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

    def condition(self, indices: Sequence[int]) -> Condition:
        return self.conditioner(self.model, self.seed, indices).to(self.device)

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
        start = time.perf_counter()
        yield
        self.cost.seconds += time.perf_counter() - start
        self.cost.peak_memory_mb = max(self.cost.peak_memory_mb, peak_memory_mb(self.device))


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
