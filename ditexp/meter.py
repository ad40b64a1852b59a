"""What sampling costs: evaluations, seconds and peak memory."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Generator

import torch
from torch import Tensor

from ditexp.values import Cost


class Meter:
    """Counts what the samples made on one device cost.

    cost: since the last `take`; whoever evaluates a velocity or a network adds to it. times: t that the
    velocity was last evaluated at, of all samples or of each (B,).
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.cost = device, Cost()
        self.times: float | Tensor | None = None

    def take(self) -> Cost:
        """The cost since the last call."""
        taken, self.cost = self.cost, Cost()
        return taken

    @contextlib.contextmanager
    def sampling(self) -> Generator[None]:
        """Time the block as sampling, less the preparation in it, and record its peak memory."""
        reset_peak_memory(self.device)
        start, before = time.perf_counter(), self.cost.preparation_seconds
        yield
        self.cost.seconds += time.perf_counter() - start - (self.cost.preparation_seconds - before)
        self.cost.peak_memory_mb = max(self.cost.peak_memory_mb, peak_memory_mb(self.device))

    @contextlib.contextmanager
    def preparation(self) -> Generator[None]:
        """Time the block as preparation: it reads or encodes images, or encodes prompts."""
        synchronize(self.device)  # what was launched before is sampling
        start = time.perf_counter()
        yield
        synchronize(self.device)
        self.cost.preparation_seconds += time.perf_counter() - start

    @contextlib.contextmanager
    def warmup(self) -> Generator[None]:
        """Time the block as preparation and count nothing else of it: its evaluations are no sample's."""
        start = time.perf_counter()
        yield
        self.cost = Cost(preparation_seconds=time.perf_counter() - start)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # Linux: restart VmHWM, the peak of the resident set


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory since the reset, in MB (10^6 bytes): allocated by torch on CUDA, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
