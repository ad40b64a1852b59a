from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ditexp.core import Data
from ditexp.task.base import Task
from ditexp.task.mask import Box, Half, ImageMask, RandomPixels
from ditexp.task.pixels import check_pixels
from ditexp.terminal.notices import notice
from ditexp.values import PerSample, Sheet

KINDS = {"half": ("side", Half), "box": ("box", Box), "random": ("share", RandomPixels)}
KNOWN = ("renoised", "naive")
TO_BE_FILLED = (255, 150, 60)  # the colour of what is not given, which no grey image has


@dataclass(frozen=True)
class Inpaint(Task):
    """Fills what a mask hides of images: sample i begins with image i of the data, which go round.

    x starts as the sample's own noise x_0, and after every step the known pixels are put where the path to the image
    has them at that time, (1 - t) x_0 + t image, so that the network sees known and unknown parts of one noise level.
    At t = 1 that is the image itself.

    mask: half, box, random, or the path of a black and white image, white to be filled; see ditexp/task/mask.py.
    side, box, share: of half, box and random alone; None for their defaults.
    known: renoised, as above; or naive, which pastes the clean image at every t, for comparison.
    passes: how often each step is taken. Above 1 this is RePaint's resampling (Lugmayr et al. 2022, arXiv 2201.09865,
    algorithm 1) with jumps of one step: from t1 back to t0 by fresh noise, see `diffused`, and the step again, so that
    the filled part adapts to the known. The known pixels take the same fresh noise for their x_0: every pass shows them
    under another one, and what they tell adds up. The step from t = 0 is taken once, since nothing of x_t1 would be
    left there; the last is repeated as the others are, where RePaint takes it once.
    """

    data: Data
    mask: str = "half"
    side: str | None = None
    box: Sequence[int] | None = None
    share: float | None = None
    known: str = "renoised"
    passes: int = 1

    def __post_init__(self):
        if self.known not in KNOWN:
            raise ValueError(f"task.known={self.known}: choose from {', '.join(KNOWN)}")
        if not isinstance(self.passes, int) or isinstance(self.passes, bool) or self.passes < 1:
            raise ValueError(f"task.passes={self.passes}: give a whole number of at least 1")
        own, kind = KINDS.get(self.mask, (None, None))
        if kind and Path(self.mask).is_file():
            notice(f"task.mask={self.mask} is the kind of mask; for the file of that name give task.mask=./{self.mask}")
        for mask, (name, _) in KINDS.items():
            if name != own and getattr(self, name) is not None:
                raise ValueError(f"task.{name}={getattr(self, name)} acts on task.mask={mask} alone: leave it out")
        given = {} if own is None or getattr(self, own) is None else {own: getattr(self, own)}
        # What enters the set's id is the mask itself, with the defaults filled in.
        object.__setattr__(self, "mask", kind(**given) if kind else ImageMask(str(self.mask)))
        if own:
            object.__setattr__(self, own, None)

    def check(self, sampler) -> None:
        name = type(sampler.solver).__name__
        if sampler.solver.adaptive:
            raise ValueError(
                f"task=inpaint puts known pixels in their place after every step of the batch, but {name} has other "
                "steps for each sample: choose a solver of fixed steps, such as solver=heun"
            )
        if self.passes > 1 and looks_back(sampler.solver):
            raise ValueError(
                f"task.passes={self.passes} goes back after every step, so that {name} has no past to look back on: "
                "choose a one-step solver, such as solver=heun, or task.passes=1"
            )
        self.originals(sampler, [0])
        fill = self.mask(sampler, [0])
        if fill.all() or not fill.any():
            raise ValueError(
                f"the mask of task=inpaint leaves nothing {'known' if fill.all() else 'to be filled'} of "
                f"{fill.shape[2]} x {fill.shape[3]} pixels: choose another"
            )

    def __call__(self, sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        condition, noise = sampler.condition(indices), sampler.noise(indices)
        images, fill = self.originals(sampler, indices), self.mask(sampler, indices)
        numbers = itertools.count()

        def project(x: Tensor, t: float) -> Tensor:
            known = images if self.known == "naive" else (1 - t) * noise + t * images  # of the noise of this pass
            return torch.where(fill, x, known)

        x = project(noise, sampler.grid[0])
        if self.passes == 1:
            return sampler.integrate(x, condition, indices, project=project), condition.labels
        for t0, t1 in itertools.pairwise(sampler.grid):
            for again in range(self.passes if t0 else 1):
                number = next(numbers)
                if again:
                    noise = sampler.more_noise(indices, number)
                    x = project(diffused(x, t1, t0, noise), t0)
                x = sampler.integrate(x, condition, indices, grid=[t0, t1], project=project, first_step=number)
        return x, condition.labels

    def units(self, indices: Sequence[int]) -> list[int]:
        """Completions of one image are not independent."""
        return [index % len(self.data) for index in indices]

    def originals(self, sampler, indices: Sequence[int]) -> Tensor:
        """The images (B, C, H, W) in [-1, 1]. Raises ValueError if they are not of the model's shape."""
        with sampler.preparation():
            images = torch.stack([self.data[index % len(self.data)][0] for index in indices])
        check_pixels(images.shape[1:], sampler.model, task="inpaint")
        return images.to(sampler.device)

    def scores(
        self, sampler, samples, classes: Tensor | None, classify: Callable | None
    ) -> dict[str, float | PerSample]:
        """known_error: the largest difference of a known pixel, in grey levels, between a sample and its image.

        agreement: the share of samples that are taken for the same class as their image; where there is a classifier.
        """
        worst, alike, start, count = 0, [], 0, len(samples)
        for block in samples.blocks():
            indices = range(start, min(start + len(block), count))  # the last block may hold more
            originals = self.pixels(sampler, indices)
            completed = torch.tensor(block[: len(indices)]).permute(0, 3, 1, 2)
            difference = (completed.int() - originals.int()).abs()
            worst = max(worst, int(difference.masked_fill(self.mask(sampler, indices).cpu(), 0).max()))
            if classify:
                alike.append(classify(originals) == classify(completed))
            start = indices.stop
        return {"known_error": float(worst)} | ({"agreement": PerSample(torch.cat(alike).double())} if classify else {})

    def pixels(self, sampler, indices: Sequence[int]) -> Tensor:
        """The images (B, C, H, W) uint8, as the model would decode them."""
        return sampler.model.decode(self.originals(sampler, indices)).cpu()

    def sheet(self, sampler, images: Tensor) -> Sheet:
        """Up to ten images, below each other the original, what is given of it, and how it was completed."""
        indices = range(min(len(images), max(1, min(10, 1280 // images.shape[3]))))
        originals, completed = (
            pixels.expand(-1, 3, -1, -1) for pixels in (self.pixels(sampler, indices), images[: len(indices)])
        )
        colour = torch.tensor(TO_BE_FILLED, dtype=torch.uint8).view(3, 1, 1)
        given = torch.where(self.mask(sampler, indices).cpu(), colour, originals)
        return Sheet(torch.stack([originals, given, completed]), rows=("original", "given", "completed"))


def diffused(x: Tensor, t1: float, t0: float, noise: Tensor) -> Tensor:
    """x at t1 taken back to t0 < t1: what the path has at t0, given x at t1. noise: standard normal, independent of x.

    At t1 there is x = t1 data + (1 - t1) z with z standard normal. a x + b noise has t0 data in it for a = t0 / t1,
    and noise of variance a^2 (1 - t1)^2 + b^2, which is the path's (1 - t0)^2 for b^2 = (1 - t0)^2 - a^2 (1 - t1)^2.
    That is positive, since (1 - t) / t falls with t; at t1 = 1 it is (1 - t0)^2.
    """
    a = t0 / t1
    return a * x + math.sqrt((1 - t0) ** 2 - (a * (1 - t1)) ** 2) * noise


def looks_back(solver) -> bool:
    """Whether a step depends on those before it: seen on dx/dt = e^t, in one integration and step by step."""
    grid, start = [step / 8 for step in range(9)], torch.zeros(1, 1, dtype=torch.float64)

    def integrate(x: Tensor, grid: Sequence[float]) -> Tensor:
        return solver.integrate(lambda x, t, rows=None: t[:, None].exp(), x, grid, None, lambda step: 0 * start).x

    x = start
    for step in itertools.pairwise(grid):
        x = integrate(x, step)
    return not torch.equal(x, integrate(start, grid))
