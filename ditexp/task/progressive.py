"""Low resolution first: most steps on small images, the last ones on large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from ditexp.task.base import Task
from ditexp.values import Condition, Sheet

SHOWN = 10  # samples in the picture: one of each digit


@dataclass(frozen=True, kw_only=True)
class Progressive(Task):
    """A sample of low resolution, enlarged, re-noised to t = s and integrated on from there; any number of times.

    The first stage integrates [0, 1] at the smallest size. Each later one takes x at t = 1 of the one before, in the
    model's own space, makes of it x_s = (1 - s) noise + s enlarged(x), and integrates [s, 1] at its own size (SDEdit's
    way to begin with an image: Meng et al. 2022, arXiv 2108.01073). Enlarged: bicubic, each pixel at its centre.

    sizes: sides in pixels of the stages before the last, which has the model's own size; with none, this is
    task=generate. restart: s of the later stages, in (0, 1): one for all, or a list of one each.

    Every stage takes the points of the schedule's grid from its start on, so that N uniform steps come to about
    N (1 + sum of 1 - s), all of one length. An adaptive solver has [s, 1]. An SDE's steps are numbered through all
    stages, so that each has noise of its own.

    The last stage has the sample's own noise, so that it resembles the one drawn directly: the more, the smaller s.
    The stages before have other noise: x_s is on the path only if noise and x are independent.
    """

    sizes: Sequence[int]
    restart: float | Sequence[float]

    def __post_init__(self):
        if not isinstance(self.sizes, Sequence) or not all(type(side) is int and side > 0 for side in self.sizes):
            raise ValueError(f"task.sizes={self.sizes}: give a list of sides in whole pixels, such as [4]")
        if any(side >= larger for side, larger in pairwise(self.sizes)):
            raise ValueError(f"task.sizes={self.sizes}: give sides that increase from stage to stage")
        restart = self.restart if isinstance(self.restart, Sequence) else [self.restart]
        if not all(type(s) in (int, float) and 0 < s < 1 for s in restart):
            raise ValueError(f"task.restart={self.restart}: give a time between 0 and 1, or a list of them")
        if restart is not self.restart:
            restart = restart * len(self.sizes)
        if len(restart) != len(self.sizes):
            raise ValueError(
                f"task.restart={self.restart}: task.sizes={self.sizes} take {len(self.sizes)} of them, or one for all"
            )
        object.__setattr__(self, "sizes", tuple(self.sizes))
        object.__setattr__(self, "restart", tuple(restart))

    def check(self, sampler) -> None:
        full = min(sampler.model.sample_shape[1:])
        for model in (sampler.model, getattr(sampler.guidance, "weak", sampler.model)):
            multiple = getattr(model, "size_multiple", None)
            if multiple is None:
                raise ValueError(
                    f"task=progressive needs a model of several sizes, but {type(model).__name__} is of {full} pixels "
                    "alone: choose a DiT, such as model=digits_sizes"
                )
            if any(side % multiple or side >= full for side in self.sizes):
                raise ValueError(
                    f"task.sizes={list(self.sizes)}: give multiples of {multiple} below this model's {full} pixels"
                )
        if any(s < sampler.grid[0] for s in self.restart):
            raise ValueError(
                f"task.restart={list(self.restart)}: guidance holds samples still up to t = {sampler.grid[0]:g}; "
                "restart no earlier"
            )

    def __call__(self, sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        condition = sampler.condition(indices)
        *_, (_, x) = self.stages(sampler, condition, indices)
        return x, condition.labels

    def stages(self, sampler, condition: Condition, indices: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """x of each stage where it begins, and at t = 1: (B, C, side, side) both."""
        channels = sampler.model.sample_shape[0]
        others = (sampler.more_noise(indices, i, (channels, side, side)) for i, side in enumerate(self.sizes))
        start, *noises = *others, sampler.noise(indices)
        end = sampler.integrate(start, condition, indices)
        yield start, end
        done = len(sampler.grid) - 1
        for noise, s in zip(noises, self.restart):
            start = (1 - s) * noise + s * F.interpolate(end, noise.shape[2:], mode="bicubic")
            grid = sampler.since(s)
            end = sampler.integrate(start, condition, indices, grid=grid, first_step=done)
            yield start, end
            done += len(grid) - 1

    def sheet(self, sampler, images: Tensor) -> Sheet:
        """Of each sample: every stage, and what it makes of the one before; the result; the sample drawn directly."""
        images = images[:SHOWN]
        indices = range(len(images))
        sampler.load(len(images))
        condition = sampler.condition(indices)
        states, columns = [], []
        for (start, end), t in zip(self.stages(sampler, condition, indices), (0, *self.restart)):
            states += [start, end]
            columns += [f"t = {t:g}", "{} x {}".format(*end.shape[2:])]
        states[-1] = sampler.integrate(sampler.noise(indices), condition, indices)
        shown = [F.interpolate(sampler.model.decode(x).cpu(), images.shape[2:]) for x in states]
        shown.insert(-1, images)
        sampler.take_cost()
        return Sheet(torch.stack(shown[1:], 1), [*columns[1:], "direct"])
