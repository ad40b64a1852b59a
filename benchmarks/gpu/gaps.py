"""How much of the time a GPU waits between kernels: from a trace of torch.profiler."""

from __future__ import annotations

from collections.abc import Iterable

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.parts import Part, Row
from ditexp.meter import synchronize

CUDA = DeviceType.CUDA


def gaps(part: Part) -> None:
    """By batch and compile mode, in bfloat16."""
    (size,) = part.sizes("XL")
    for batch in part.batches(1, 8, 64):
        for mode in (False,) if part.dry_run else (False, True, "max"):
            facts = {"size": size, "batch": batch, "precision": "bf16", "compile": mode}
            part.row(facts, lambda b=batch, m=mode: traced(part, size, b, m))


def traced(part: Part, size: str, batch: int, mode: bool | str) -> Row:
    """A batch from its noise to its samples."""
    sampler = part.sampler(size, precision="bf16", compile=mode)
    sampler.prepare(batch)
    sampler.images(range(batch))
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if part.device.type == "cuda" else [])]
    with profile(activities=activities) as trace:
        sampler.samples(range(batch))
        synchronize(part.device)
    events = trace.events() or []
    kernels = [(event.time_range.start, event.time_range.end) for event in events if event.device_type == CUDA]
    if not kernels:
        return {"skipped": "no kernels: the device is a CPU", "operators": len(events)}
    return {"kernels": len(kernels), **busy(kernels)}


def busy(intervals: Iterable[tuple[float, float]]) -> Row:
    """From the first kernel's start to the last one's end: the time, and the share of it without a kernel."""
    ordered = sorted(intervals)
    begin = end = ordered[0][0]
    working = 0.0
    for start, stop in ordered:
        working += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return {"milliseconds": (end - begin) / 1000, "share_without_a_kernel": 1 - working / (end - begin)}
