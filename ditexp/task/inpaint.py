from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ditexp.checks import choice, flag, whole
from ditexp.core import Data
from ditexp.pixels import to_pixels
from ditexp.task.base import Classify, Samples, Task, blocks_of
from ditexp.task.mask import Mask, mask_of
from ditexp.task.originals import by, check_images, encoded, makes_latents, originals, pixels_per_element
from ditexp.terminal.notices import notice
from ditexp.values import PerSample, Sheet, added

if TYPE_CHECKING:
    from ditexp.sampler import Sampler

KNOWN = ("renoised", "naive")
TO_BE_FILLED = (255, 150, 60)  # a colour that no grey image has


@dataclass(frozen=True)
class Inpaint(Task):
    """Fills the masked pixels of images: sample i starts from image i of the data, modulo their number.

    x starts as the sample's own noise x_0. After every step, the known pixels are set to where the path to the image is
    at that time, (1 - t) x_0 + t image, so that the network sees known and unknown parts at the same noise level. At
    t = 1 they are the image itself.

    If the model makes latents, `image` is the whole image encoded, as in Blended Latent Diffusion (Avrahami et al.
    2023, arXiv 2206.02779) and diffusers. A latent is known if all of its pixels are.

    mask: half, box, random, or the path of a black and white image, white to be filled; see ditexp/task/mask.py.
    side, box, share: the setting of half, box and random; None for the default.
    known: renoised, as above; or naive, which pastes the clean image at every t, for comparison.
    passes: how many times each step is taken. Above 1 this is RePaint's resampling (Lugmayr et al. 2022, arXiv
    2201.09865, algorithm 1) with jumps of one step: from t1 back to t0 with fresh noise, see `diffused`, and the step
    again, so that the filled part adapts to the known part. The known pixels get the same fresh noise as their x_0:
    every pass shows them under different noise, and the information adds up. The step from t = 0 is taken once, because
    nothing of x_t1 is left there. The last step is repeated like the others, while RePaint takes it once.
    paste: for models of latents, whether the known pixels of the decoded samples are replaced by those of the image.
    """

    decoding_facts: ClassVar[tuple[str, ...]] = ("codec",)  # it encodes images

    data: Data
    mask: str | Mask = "half"
    side: str | None = None
    box: Sequence[int] | None = None
    share: float | None = None
    known: str = "renoised"
    passes: int = 1
    paste: bool = added(True)

    def __post_init__(self) -> None:
        choice("task.known", self.known, KNOWN)
        whole("task.passes", self.passes, minimum=1)
        flag("task.paste", self.paste)
        mask, settings = str(self.mask), {"side": self.side, "box": self.box, "share": self.share}
        mask_with = {"side": "half", "box": "box", "share": "random"}
        if mask in mask_with.values() and Path(mask).is_file():
            notice(f"task.mask={mask} is the kind of mask; for the file of that name give task.mask=./{mask}")
        for name, value in settings.items():
            if value is not None and mask != mask_with[name]:
                raise ValueError(f"task.{name}={value} acts on task.mask={mask_with[name]} alone: leave it out")
        # What enters the set's id is the mask itself, with the defaults filled in.
        object.__setattr__(self, "mask", mask_of(mask, side=self.side, box=self.box, share=self.share))
        for name in settings:
            object.__setattr__(self, name, None)

    def check(self, sampler: Sampler) -> None:
        name = type(sampler.solver).__name__
        if sampler.solver.adaptive:
            raise ValueError(
                f"task=inpaint sets the known pixels after every step of the batch, but {name} takes different steps "
                "for each sample: choose a solver of fixed steps, such as solver=heun"
            )
        if self.passes > 1 and sampler.solver.history:
            raise ValueError(
                f"task.passes={self.passes} goes back after every step, so that {name} has no past to look back on: "
                "choose a one-step solver, such as solver=heun, or task.passes=1"
            )
        if self.passes > 1 and sampler.cache is not None:
            raise ValueError(
                f"task.passes={self.passes} integrates every step on its own, so that a cache has nothing to reuse: "
                "choose cache=none or task.passes=1"
            )
        check_images(self.data, sampler, task="inpaint")
        self.check_mask(sampler)

    def check_mask(self, sampler: Sampler) -> None:
        fill, block = self.fill(sampler, [0]), pixels_per_element(sampler)
        if fill.all() or not fill.any():
            raise ValueError(
                f"the mask of task=inpaint leaves nothing {'known' if fill.all() else 'to be filled'} of "
                f"{by(fill.shape[2:])} pixels: choose another"
            )
        if self.unknown(sampler, [0]).all():
            raise ValueError(
                f"the mask of task=inpaint leaves no latent known, as no block of {block} x {block} pixels is known as "
                "a whole: choose a mask with a larger known part"
            )
        if makes_latents(sampler):
            pasted = "known pixels are pasted into the decoded samples" if self.paste else "nothing is pasted"
            notice(f"task=inpaint fills each latent, {block} x {block} pixels, that is not known as a whole; {pasted}")

    def __call__(self, sampler: Sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        condition, noise = sampler.condition(indices), sampler.noise(indices)
        image, unknown = encoded(self.data, sampler, indices), self.unknown(sampler, indices)
        numbers = itertools.count()

        def project(x: Tensor, t: float) -> Tensor:
            known = image if self.known == "naive" else (1 - t) * noise + t * image  # with the noise of this pass
            return torch.where(unknown, x, known)

        x = project(sampler.begin(noise), sampler.grid[0])
        if self.passes == 1:
            return sampler.integrate(x, condition, indices, grid=sampler.grid, project=project), condition.labels
        for t0, t1 in itertools.pairwise(sampler.grid):
            for again in range(self.passes if t0 else 1):
                number = next(numbers)
                if again:
                    noise = sampler.extra_noise(indices, number)
                    x = project(diffused(x, t1, t0, noise), t0)
                x = sampler.integrate(x, condition, indices, grid=[t0, t1], project=project, first_step=number)
        return x, condition.labels

    def finish(self, sampler: Sampler, indices: Sequence[int], pixels: Tensor) -> Tensor:
        if not self.paste or not makes_latents(sampler):
            return pixels
        return torch.where(self.fill(sampler, indices), pixels, self.pixels(sampler, indices).to(pixels.device))

    def units(self, indices: Sequence[int]) -> list[int]:
        """The image that each sample starts from: completions of one image are not independent."""
        return [index % len(self.data) for index in indices]

    def fill(self, sampler: Sampler, indices: Sequence[int]) -> Tensor:
        """(B or 1, 1, H, W) bool: which pixels are to be filled."""
        assert not isinstance(self.mask, str), "__post_init__ has replaced it"
        return self.mask(sampler, indices)

    def unknown(self, sampler: Sampler, indices: Sequence[int]) -> Tensor:
        """(B or 1, 1, h, w) bool, in the model's own space: which elements of x have any pixel that is to be filled."""
        return F.max_pool2d(self.fill(sampler, indices).float(), pixels_per_element(sampler)).bool()

    def pixels(self, sampler: Sampler, indices: Sequence[int]) -> Tensor:
        """The images (B, C, H, W) uint8, on the CPU. The time is preparation."""
        with sampler.preparation():
            return to_pixels(originals(self.data, indices))

    def scores(
        self, sampler: Sampler, samples: Samples, classes: Tensor | None, classify: Classify | None
    ) -> dict[str, float | PerSample]:
        """known_error: the largest difference of a known pixel between a sample and its image, in grey levels.

        agreement: the fraction of samples that are classified as their image is; only with a classifier.
        seam: for models of latents, how much more the neighbours on the two sides of the mask's edge differ than in the
        images, in grey levels; 0 if the edge cannot be seen.
        """
        worst, alike, seams = 0, [], []
        for indices, block in blocks_of(samples):
            images, completed = self.pixels(sampler, indices), block.permute(0, 3, 1, 2)
            difference, fill = (completed.int() - images.int()).abs(), self.fill(sampler, indices).cpu()
            worst = max(worst, int(difference.masked_fill(fill, 0).max()))
            if classify:
                alike.append(classify(images) == classify(completed))
            if makes_latents(sampler):
                seams.append(at_edge(completed, fill) - at_edge(images, fill))
        scores: dict[str, float | PerSample] = {"known_error": float(worst)}
        scores |= {"agreement": PerSample(torch.cat(alike).double())} if classify else {}
        return scores | ({"seam": PerSample(torch.cat(seams))} if seams else {})

    def sheet(self, sampler: Sampler, images: Tensor) -> Sheet:
        """Up to ten images: the original, what is given of it and the result, in rows below each other."""
        indices = range(min(len(images), max(1, min(10, 1280 // images.shape[3]))))
        own, completed = (
            pixels.expand(-1, 3, -1, -1) for pixels in (self.pixels(sampler, indices), images[: len(indices)])
        )
        colour = torch.tensor(TO_BE_FILLED, dtype=torch.uint8).view(3, 1, 1)
        given = torch.where(self.fill(sampler, indices).cpu(), colour, own)
        return Sheet(torch.stack([own, given, completed]), rows=("original", "given", "completed"))


def at_edge(pixels: Tensor, fill: Tensor) -> Tensor:
    """(B,) float64: the mean absolute difference of neighbours of which one is filled and the other is known.

    pixels: (B, C, H, W). fill: (B or 1, 1, H, W) bool, with both kinds in it.
    """
    differences = torch.cat([pixels.double().diff(dim=dim).abs().mean(1).flatten(1) for dim in (2, 3)], dim=1)
    edge = torch.cat([fill.double().diff(dim=dim).abs().flatten(1) for dim in (2, 3)], dim=1)
    return (differences * edge).sum(1) / edge.sum(1)


def diffused(x: Tensor, t1: float, t0: float, noise: Tensor) -> Tensor:
    """x at t1 taken back to t0 < t1, distributed as the path is at t0. noise: standard normal, independent of x.

    At t1, x = t1 data + (1 - t1) z with z standard normal. Then a x + b noise contains t0 data for a = t0 / t1, and
    noise of variance a^2 (1 - t1)^2 + b^2, which is the path's (1 - t0)^2 for b^2 = (1 - t0)^2 - a^2 (1 - t1)^2. This
    is positive, since (1 - t) / t falls with t; at t1 = 1 it is (1 - t0)^2.
    """
    a = t0 / t1
    return a * x + math.sqrt((1 - t0) ** 2 - (a * (1 - t1)) ** 2) * noise
