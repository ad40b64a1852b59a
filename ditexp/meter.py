"""What sampling costs: evaluations, seconds and peak memory."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Generator
from dataclasses import replace

import torch
from torch import Tensor

from ditexp.transfer import Pending
from ditexp.values import Cost

Moment = float | torch.cuda.Event


class Meter:
    """Counts what the samples made on one device cost.

    Seconds are those of the device between the beginning and the end of a block of code. On CUDA the block launches
    work and the host goes on: the device marks both moments when it reaches them, one launch after the other. So
    seconds of different blocks never overlap, what a GPU does in between (features of other images) counts for none of
    them, and a wait of the device for the host within a block counts. What the host does while the device is busy costs
    no time, and none is counted. On a CPU the seconds are the block's own.

    cost: since the last `take`, without its seconds; whoever evaluates a velocity or a network adds to it. times: t
    that the velocity was last evaluated at, of all samples or of each (B,). checks: wait for work that was launched
    and not checked yet, and raise if it went wrong.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.cost = device, Cost()
        self.times: float | Tensor | None = None
        self.checks: list[Callable[[], None]] = []
        self._spans = Spans()
        self._is_sampling = False

    def take(self) -> Cost:
        """The cost since the last call; waits for the device."""
        return self.take_later()()

    def take_later(self) -> Pending[Cost]:
        """The cost since the last call, once the device has done the work. Raises as `check` does."""
        cost, spans, checks = self.cost, self._spans, self.checks
        self.cost, self._spans, self.checks = Cost(), Spans(), []

        def measured() -> Cost:
            for check in checks:
                check()
            return replace(
                cost,
                seconds=spans.sampling(),
                preparation_seconds=cost.preparation_seconds + spans.preparation(),
            )

        return measured

    def check(self) -> None:
        """Wait for the device, and raise what its work would raise that was launched since the last check."""
        checks, self.checks = self.checks, []
        for check in checks:
            check()

    @contextlib.contextmanager
    def sampling(self) -> Generator[None]:
        """Time the block as sampling, less the preparation in it, and record its peak memory."""
        reset_peak_memory(self.device)
        start, self._is_sampling = moment(self.device), True
        try:
            yield
        finally:
            self._is_sampling = False
        self._spans.sampled.append((start, moment(self.device)))
        self.cost.peak_memory_mb = max(self.cost.peak_memory_mb, peak_memory_mb(self.device))

    @contextlib.contextmanager
    def preparation(self) -> Generator[None]:
        """Time the block as preparation: it reads or encodes images, or encodes prompts."""
        start = moment(self.device)
        yield
        span = start, moment(self.device)
        (self._spans.prepared_within if self._is_sampling else self._spans.prepared).append(span)

    @contextlib.contextmanager
    def warmup(self) -> Generator[None]:
        """Time the block as preparation and count nothing else of it: its evaluations are no sample's."""
        start = time.perf_counter()
        yield
        self.check()
        synchronize(self.device)
        self.cost, self._spans = Cost(preparation_seconds=time.perf_counter() - start), Spans()


class Spans:
    """The blocks of code that were timed, by their first and last moments.

    prepared_within: preparation within sampling. prepared: other preparation.
    """

    def __init__(self) -> None:
        self.sampled: list[tuple[Moment, Moment]] = []
        self.prepared_within: list[tuple[Moment, Moment]] = []
        self.prepared: list[tuple[Moment, Moment]] = []

    def sampling(self) -> float:
        return total(self.sampled) - total(self.prepared_within)

    def preparation(self) -> float:
        return total(self.prepared_within) + total(self.prepared)


def moment(device: torch.device) -> Moment:
    """Now; on CUDA, the moment at which the device has done all that was launched."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def total(spans: list[tuple[Moment, Moment]]) -> float:
    """The seconds of all spans together; waits for the device."""
    return sum(seconds_between(start, end) for start, end in spans)


def seconds_between(start: Moment, end: Moment) -> float:
    if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        end.synchronize()
        return start.elapsed_time(end) / 1000
    assert isinstance(start, float | int) and isinstance(end, float | int), "both are of one device"
    return end - start


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
