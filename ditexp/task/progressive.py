"""Low resolution first: most steps on small images, the last ones on large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ditexp.core import ResizableModel
from ditexp.task.base import Task
from ditexp.task.originals import check_end, pixels_per_element
from ditexp.values import Condition, Sheet

if TYPE_CHECKING:
    from ditexp.sampler import Sampler

SHOWN = 10  # samples in the sheet: one of each digit


@dataclass(frozen=True, kw_only=True)
class Progressive(Task):
    """A sample of low resolution, enlarged, re-noised to t = s and integrated on from there; any number of times.

    The first stage integrates [0, 1] at the smallest size. Each later stage takes x at t = 1 of the stage before, in
    the model's own space, and integrates x_s = (1 - s) noise + s enlarged(x) over [s, 1] at its own size, as SDEdit
    starts from an image (Meng et al. 2022, arXiv 2108.01073). Enlarged: bicubic, each pixel at its centre.

    sizes: sides of the images of all stages but the last, in pixels, also for models of latents; the last stage has the
    model's own size; empty: the same as task=generate.
    restart: s of the later stages, in (0, 1): one number for all, or a list with one for each.

    Every stage takes the points of the schedule's grid from its start on, so that N uniform steps come to about
    N (1 + sum of 1 - s), all of the same length. An adaptive solver integrates [s, 1]. The steps of an SDE are numbered
    through all stages, so that each has noise of its own.

    The last stage has the sample's own noise, so that it resembles the sample drawn directly: the more, the smaller s.
    The stages before it have other noise: x_s is on the path only if noise and x are independent.
    """

    decoding_facts: ClassVar[tuple[str, ...]] = ("codec",)  # it has the factor between sizes and those of latents

    sizes: Sequence[int]
    restart: float | Sequence[float]

    def __post_init__(self) -> None:
        if not isinstance(self.sizes, Sequence) or not all(type(side) is int and side > 0 for side in self.sizes):
            raise ValueError(f"task.sizes={self.sizes}: give a list of sides in whole pixels, such as [4]")
        if any(side >= larger for side, larger in pairwise(self.sizes)):
            raise ValueError(f"task.sizes={self.sizes}: give sides that increase from stage to stage")
        given = self.restart if isinstance(self.restart, Sequence) else [self.restart]
        if not all(type(s) in (int, float) and 0 < s < 1 for s in given):
            raise ValueError(f"task.restart={self.restart}: give a time between 0 and 1, or a list of them")
        if len(self.restarts) != len(self.sizes):
            raise ValueError(
                f"task.restart={self.restart}: give {len(self.sizes)} times for task.sizes={self.sizes}, or one for all"
            )
        object.__setattr__(self, "sizes", tuple(self.sizes))
        object.__setattr__(self, "restart", tuple(self.restarts))

    @property
    def restarts(self) -> Sequence[float]:
        """s of each stage after the first."""
        return self.restart if isinstance(self.restart, Sequence) else [self.restart] * len(self.sizes)

    def check(self, sampler: Sampler) -> None:
        check_end(sampler, task="progressive")
        block = pixels_per_element(sampler)
        full = block * min(sampler.model.sample_shape[1:])
        weak = sampler.guidance.weak
        for model in [sampler.model] if weak is None else [sampler.model, weak]:
            if not isinstance(model, ResizableModel):
                raise ValueError(
                    f"task=progressive needs a model of several sizes, but {type(model).__name__} is of {full} pixels "
                    "alone: choose a DiT, such as model=digits_sizes"
                )
            multiple = block * model.size_multiple
            if any(side % multiple or side >= full for side in self.sizes):
                raise ValueError(
                    f"task.sizes={list(self.sizes)}: give multiples of {multiple} below this model's {full} pixels"
                )
        if any(s < sampler.grid[0] for s in self.restarts):
            raise ValueError(
                f"task.restart={list(self.restarts)}: guidance holds samples still until t = {sampler.grid[0]:g}; "
                "restart no earlier"
            )

    def __call__(self, sampler: Sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        condition = sampler.condition(indices)
        *_, (_, x) = self.stages(sampler, condition, indices)
        return x, condition.labels

    def stages(self, sampler: Sampler, condition: Condition, indices: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """x at the start of each stage, and at t = 1: (B, C, side, side) both."""
        channels = sampler.model.sample_shape[0]
        sides = [side // pixels_per_element(sampler) for side in self.sizes]
        others = (sampler.extra_noise(indices, i, (channels, side, side)) for i, side in enumerate(sides))
        start, *noises = *others, sampler.noise(indices)
        end = sampler.integrate(start, condition, indices)
        yield start, end
        done = len(sampler.grid) - 1
        for noise, s in zip(noises, self.restarts):
            start = (1 - s) * noise + s * F.interpolate(end, noise.shape[2:], mode="bicubic")
            grid = sampler.since(s)
            end = sampler.integrate(start, condition, indices, grid=grid, first_step=done)
            yield start, end
            done += len(grid) - 1

    def sheet(self, sampler: Sampler, images: Tensor) -> Sheet:
        """Each sample's stages, start and end of each; the result; and the sample drawn directly."""
        images = images[:SHOWN]
        indices = range(len(images))
        sampler.load(len(images))
        condition = sampler.condition(indices)
        block, states, columns = pixels_per_element(sampler), [], []
        for (start, end), t in zip(self.stages(sampler, condition, indices), (0, *self.restarts)):
            states += [start, end]
            columns += [f"t = {t:g}", " x ".join(str(block * side) for side in end.shape[2:])]
        states[-1] = sampler.integrate(sampler.noise(indices), condition, indices)
        shown = [F.interpolate(sampler.decode(x).cpu(), images.shape[2:]) for x in states]
        shown.insert(-1, images)
        sampler.take_cost()
        return Sheet(torch.stack(shown[1:], 1), [*columns[1:], "direct"])
