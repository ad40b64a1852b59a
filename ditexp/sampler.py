"""Binds model, solver, grid, guidance and condition into samples, and counts what they cost."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
from ditexp.noise import noise

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class CountedModel:
    """A FlowModel as guidance sees it: each evaluation is counted and runs at the chosen precision."""

    model: FlowModel
    forward: VelocityField
    cost: Cost
    device: torch.device
    dtype: torch.dtype = torch.float32

    def __post_init__(self):
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
        self.cost = Cost()
        self.counted_model = CountedModel(self.model, self.model, self.cost, self.device, PRECISIONS[self.precision])
        if self.precision == "tf32" and self.device.type != "cuda":
            notice(f"precision=tf32 acts on CUDA only; on {self.device.type} this is fp32")
        if self.solver.adaptive:
            notice(f"{type(self.solver).__name__} chooses its own steps: steps and schedule don't act on it")

    @torch.inference_mode()
    def prepare(self, batch_size: int) -> None:
        """Move the model to the device, compile it, and evaluate one batch, so that no figure holds first-use costs."""
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        self.model.to(self.device)
        if self.compile:
            self.counted_model.forward = torch.compile(self.model.__call__)
        indices = range(batch_size)
        velocity = self.guidance.bind(self.counted_model, self.condition(indices))
        x = self.noise(indices)
        self.model.decode(velocity(x, x.new_zeros(len(x)))).cpu()
        self.take_cost()

    def evaluations(self) -> tuple[float, float] | None:
        """Velocity and network evaluations per sample, counted by integrating one sample of zero velocity.

        None for an adaptive solver: they depend on the sample.
        """
        if self.solver.adaptive:
            return None
        still = replace(self.counted_model, forward=lambda x, t, condition: torch.zeros_like(x))
        labels = torch.zeros(1, dtype=torch.int64) if self.model.num_classes else None
        self.integrate(torch.zeros(1, *self.model.sample_shape), Condition(labels), model=still)
        cost = self.take_cost()
        return float(cost.velocity_rows), float(cost.network_rows)

    def noise(self, indices: Sequence[int]) -> Tensor:
        """x at t = 0: (B, *sample_shape) float32 on the device."""
        return noise(self.seed, indices, self.model.sample_shape).to(self.device)

    def condition(self, indices: Sequence[int]) -> Condition:
        return self.conditioner(self.model, self.seed, indices).to(self.device)

    def integrate(self, x: Tensor, condition: Condition, *, model: FlowModel | None = None) -> Tensor:
        """From noise x to samples under `condition`; every velocity evaluation is counted."""
        model = model or self.counted_model
        whole = self.guidance.bind(model, condition)

        def counted(x: Tensor, t: Tensor, rows: Tensor | None = None) -> Tensor:
            self.cost.velocity_rows += len(x)
            velocity = whole if rows is None else self.guidance.bind(model, condition.take(rows))
            return velocity(x, t)

        return self.solver.integrate(counted, x, self.grid).x

    @torch.inference_mode()
    def images(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Pixels (B, C, H, W) uint8 and labels (B,) int64, on the CPU; timed, the transfer included."""
        with self.clock():
            images = self.model.decode(self.task(self, indices)).cpu()
        self.cost.images += len(indices)
        return images, self.conditioner(self.model, self.seed, indices).labels

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
