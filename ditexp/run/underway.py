"""How far the batch is that a worker samples, by the evaluations that it has made; read by another thread."""

from __future__ import annotations

import time
from functools import cached_property

import torch
from torch import Tensor

from ditexp.sampler import Sampler
from ditexp.task.generate import Generate

LONG = 2.0  # seconds that a batch takes, below which nobody needs to know how far it is


class Underway:
    """Reads what the sampler counts anyway, so that looking costs the sampler nothing."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._images, self._batch, self._forwards = 0, 0, 0.0
        self._part, self._began, self._is_long = 0.0, 0.0, False

    def reset(self) -> None:
        """Another block begins."""
        self.end(0, 0)

    def begin(self, batch: int, *, images: int) -> None:
        """A batch of this size begins. images: of the same block, sampled before."""
        self._sampler.meter.times = None
        self._images, self._batch, self._forwards = images, batch, self._sampler.meter.cost.network_rows
        self._part, self._began = 0.0, time.monotonic()

    def end(self, images: int, forwards: float) -> None:
        """The block is sampled, which took this many evaluations."""
        self._images, self._batch, self._forwards = images, 0, forwards

    def how_far(self) -> tuple[float, float]:
        """The images of the block that are sampled, of which a batch counts as far as it is, and the evaluations."""
        if not self._batch:
            return self._images, self._forwards
        forwards = self._sampler.meter.cost.network_rows
        if not self._is_long:
            self._is_long = time.monotonic() - self._began > LONG
            return self._images, forwards
        if self._per_image:
            part = (forwards - self._forwards) / self._per_image
        else:
            part = self._arrived(self._sampler.meter.times)
        self._part = min(max(part, self._part), self._batch)  # a step of an adaptive solver may be rejected
        return self._images + self._part, forwards

    @cached_property
    def _per_image(self) -> float | None:
        """Network evaluations of one image; None for an adaptive solver."""
        with torch.inference_mode():
            found = self._sampler.evaluations()
        return found and found[1]

    def _arrived(self, times: float | Tensor | None) -> float:
        """How far an adaptive solver's samples are in t, together. Tasks that integrate more than once say 0."""
        if times is None or not isinstance(self._sampler.task, Generate):
            return 0
        start, end = self._sampler.grid[0], self._sampler.grid[-1]
        # A sample that has arrived is no longer among the times.
        each = times.tolist() if isinstance(times, Tensor) else [times] * self._batch
        return self._batch - sum((end - t) / (end - start) for t in each)
