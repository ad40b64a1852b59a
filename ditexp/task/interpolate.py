from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ditexp.checks import choice, whole
from ditexp.core import BetweenModel, Data
from ditexp.noise import slerp
from ditexp.pixels import to_pixels
from ditexp.task.base import Classify, Samples, Task, blocks_of
from ditexp.task.originals import check_images, check_solver, encoded, originals
from ditexp.terminal.notices import notice
from ditexp.values import Condition, PerSample, Sheet, root_mean

if TYPE_CHECKING:
    from ditexp.sampler import Sampler

OF = ("noise", "condition", "both")
MAX_FRAMES = 256  # the sheet is made of the first 256 samples, and shows whole paths
PATHS_SHOWN = 9
PATHS_TRIED = 16


@dataclass(frozen=True)
class Interpolate(Task):
    """Paths from one sample to another: sample i is frame i % frames of path i // frames.

    Path p begins at sample 2 p of the plain set (task=generate) and ends at sample 2 p + 1. Its frames are evenly
    spaced and include both ends. Noises are interpolated by `ditexp.noise.slerp`, conditions by the model's `between`.
    With an SDE, the steps add the same noise to all frames of a path, the noise of sample 2 p.

    frames: of a path, 2 to 256. of: what changes along the path, "noise", "condition" or "both"; the rest stays as at
    the first end. Labels are those of the condition; where it changes, those of the nearer end.
    Raises ValueError for other values. `check` raises it for a model without conditions in between, and if all samples
    have the same condition.
    """

    has_own_conditions: ClassVar[bool] = False
    decoding_facts: ClassVar[tuple[str, ...]] = ()

    frames: int = 11
    of: str = "noise"

    def __post_init__(self) -> None:
        whole("task.frames", self.frames, minimum=2, maximum=MAX_FRAMES)
        if self.of == "images":
            raise ValueError("task.of=images: for paths between images of the data choose task=interpolate_images")
        choice("task.of", self.of, OF)

    @property
    def min_samples(self) -> int:
        return self.frames  # one path

    def check(self, sampler: Sampler) -> None:
        if self.of == "noise":
            return
        if not isinstance(sampler.model, BetweenModel):
            wrong = "this model has no conditions between two: choose task.of=noise"
        elif sampler.guidance.weak is not None:
            wrong = "autoguidance's weak model has embeddings of its own: choose guidance=cfg or task.of=noise"
        elif not any(self.ends_differ(sampler, path) for path in range(PATHS_TRIED)):
            wrong = "all samples have the same one: give several classes or prompts, or choose task.of=noise"
        else:
            return
        raise ValueError(f"task.of={self.of}, but {wrong}")

    def ends_differ(self, sampler: Sampler, path: int) -> bool:
        """Whether the two ends of a path have different conditions."""
        parts = sampler.condition([2 * path, 2 * path + 1]).parts
        return any(not torch.equal(part[0], part[1]) for part in parts if part is not None)

    def __call__(self, sampler: Sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        first = [index // self.frames * 2 for index in indices]
        second = [end + 1 for end in first]
        condition = sampler.condition(first)
        last_condition = condition if self.of == "noise" else sampler.condition(second)
        x = self.noise(sampler, first, condition)
        fraction = x.new_tensor([index % self.frames / (self.frames - 1) for index in indices])
        if self.of != "condition":
            x = slerp(x, self.noise(sampler, second, last_condition), fraction)
        if self.of != "noise":
            assert isinstance(sampler.model, BetweenModel), "check refuses other models"
            condition = sampler.model.between(condition, last_condition, fraction)
        return sampler.integrate(x, condition, first), condition.labels

    def noise(self, sampler: Sampler, ends: Sequence[int], condition: Condition) -> Tensor:
        """x at t = 0 (B, *sample_shape) of the ends of paths. condition: theirs."""
        return sampler.noise(ends)

    def units(self, indices: Sequence[int]) -> list[int]:
        """The path of each frame: frames of one path are not independent."""
        return [index // self.frames for index in indices]

    def scores(
        self, sampler: Sampler, samples: Samples, classes: Tensor | None, classify: Classify | None
    ) -> dict[str, float | PerSample]:
        """path_ratio: the mean over paths of sum_k |x_k+1 - x_k| / |x_last - x_first|, the L2 norm over pixels.

        It is 1 for a straight cross-fade from the first image to the last.
        """
        paths, left = divmod(len(samples), self.frames)
        if left:
            notice(f"path_ratio covers {paths} whole paths of {self.frames} frames, not the last {left} samples")
        ratios, frames = [], torch.empty((0, *samples.image_shape), dtype=torch.uint8)
        for _, block in blocks_of(samples):
            frames = torch.cat([frames, block])
            complete = len(frames) // self.frames
            ratios += path_ratios(frames[: complete * self.frames].unflatten(0, (complete, self.frames)))
            frames = frames[complete * self.frames :]
        still = sum(math.isnan(ratio) for ratio in ratios)
        if still:
            notice(f"path_ratio leaves out {still} of {paths} paths: both ends are the same image")
        if still == paths:
            return {}
        values = torch.full((paths, self.frames), math.nan, dtype=torch.float64)
        values[:, 0] = torch.tensor(ratios, dtype=torch.float64)  # a path counts once, at its first frame
        return {"path_ratio": PerSample(values.flatten())}

    def sheet(self, sampler: Sampler, images: Tensor) -> Sheet:
        """The first paths, one in each row; where conditions change, with the labels of both ends."""
        paths = min(PATHS_SHOWN, len(images) // self.frames)
        labels, names = sampler.condition(range(2 * paths)).labels, dict(enumerate(sampler.model.class_names))
        ends = [] if labels is None or self.of == "noise" else [names.get(label, label) for label in labels.tolist()]
        rows = [f"{first} to {second}" for first, second in zip(ends[::2], ends[1::2])]
        fractions = [f"{frame / (self.frames - 1):.2g}" for frame in range(self.frames)]
        return Sheet(images[: paths * self.frames].unflatten(0, (paths, self.frames)), fractions, rows, moving=True)


@dataclass(frozen=True, kw_only=True)
class InterpolateImages(Interpolate):
    """Paths from one image to another: path p begins at image 2 p of the data and ends at image 2 p + 1.

    The solver takes both images, encoded if the model makes latents, to their noises, without guidance and under the
    conditions that the ends of the path have. The frames come from the noises in between, as in DDIM (Song et al. 2021,
    arXiv 2010.02502, sections 5.3 and 5.4). So without guidance the first and last frame are the images again, as far
    as solver and autoencoder are exact.

    of: "noise" or "both", as above.
    """

    decoding_facts: ClassVar[tuple[str, ...]] = ("codec",)  # it encodes images

    data: Data

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("task.of", self.of, ("noise", "both"))

    def check(self, sampler: Sampler) -> None:
        check_solver(sampler, task="interpolate_images")
        check_images(self.data, sampler, task="interpolate_images")
        if len(self.data) < 2:
            raise ValueError("task=interpolate_images needs two images or more, but the data are one: add another")
        super().check(sampler)

    def noise(self, sampler: Sampler, ends: Sequence[int], condition: Condition) -> Tensor:
        return sampler.unguided().invert(encoded(self.data, sampler, ends), condition)

    def units(self, indices: Sequence[int]) -> list[int]:
        """The path of each frame; after the last image, paths begin again."""
        different = len(self.data) // math.gcd(2, len(self.data))
        return [path % different for path in super().units(indices)]

    def scores(
        self, sampler: Sampler, samples: Samples, classes: Tensor | None, classify: Classify | None
    ) -> dict[str, float | PerSample]:
        """path_ratio; and ends_rmse, from first and last frames to their images, as pixels in [-1, 1]."""
        squares = []
        for indices, block in blocks_of(samples):
            values = torch.full((len(indices),), math.nan, dtype=torch.float64)
            for row, (path, frame) in enumerate(divmod(index, self.frames) for index in indices):
                if frame in (0, self.frames - 1):
                    image = to_pixels(originals(self.data, [2 * path + (frame > 0)]))[0].permute(1, 2, 0)
                    values[row] = ((block[row].double() - image.double()) / 127.5).square().mean()
            squares.append(values)
        scores = super().scores(sampler, samples, classes, classify)
        return {"ends_rmse": PerSample(torch.cat(squares), root_mean)} | scores


def path_ratios(paths: Tensor) -> list[float]:
    """The length of each path of images (P, F, H, W, C), divided by its straight line; NaN where the latter is 0."""
    x = paths.flatten(2).double()
    lengths, straight = x.diff(dim=1).norm(dim=2).sum(1), (x[:, -1] - x[:, 0]).norm(dim=1)
    return torch.where(straight > 0, lengths / straight, math.nan).tolist()
