from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ditexp.core import class_names
from ditexp.noise import slerp
from ditexp.task.base import Task
from ditexp.terminal.notices import notice
from ditexp.values import PerSample, Sheet

OF = ("noise", "condition", "both")
MOST_FRAMES = 256  # a picture is made of so many samples, the first ones
PATHS_SHOWN = 9
PATHS_TRIED = 16


@dataclass(frozen=True)
class Interpolate(Task):
    """Paths from one sample to another: sample i is frame i % frames of path i // frames.

    Path p begins in sample 2 p of the plain set (task=generate) and ends in sample 2 p + 1. Its frames are at equal
    shares of the way, both ends included. Noises are interpolated by `ditexp.noise.slerp`, conditions by the model's
    `between`. An SDE's steps add the same noise to all frames of a path, that of sample 2 p.

    frames: of a path, from 2 to 256. of: what changes along it, "noise", "condition" or "both"; the rest is that of
    the first end. Labels are those of the condition, of the nearer end's where it changes.
    Raises ValueError for other values; `check` for a model without conditions in between, and where there are no two.
    """

    frames: int = 11
    of: str = "noise"

    def __post_init__(self):
        if not isinstance(self.frames, int) or isinstance(self.frames, bool) or not 2 <= self.frames <= MOST_FRAMES:
            raise ValueError(f"task.frames={self.frames}: give a whole number from 2 to {MOST_FRAMES}")
        if self.of not in OF:
            raise ValueError(f"task.of={self.of}: choose from {', '.join(OF)}")

    @property
    def min_samples(self) -> int:
        return self.frames  # one path

    def check(self, sampler) -> None:
        if self.of == "noise":
            return
        if not hasattr(sampler.model, "between"):
            wrong = "this model has no conditions between two: choose task.of=noise"
        elif hasattr(sampler.guidance, "weak"):
            wrong = "autoguidance's weak model has embeddings of its own: choose guidance=cfg or task.of=noise"
        elif not any(self.differ(sampler, path) for path in range(PATHS_TRIED)):
            wrong = "all samples have the same one: give several classes or prompts, or choose task.of=noise"
        else:
            return
        raise ValueError(f"task.of={self.of}, but {wrong}")

    def differ(self, sampler, path: int) -> bool:
        """Whether the conditions of a path's ends do."""
        parts = sampler.condition([2 * path, 2 * path + 1]).parts
        return any(not torch.equal(*part) for part in parts if part is not None)

    def __call__(self, sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        first = [index // self.frames * 2 for index in indices]
        second = [end + 1 for end in first]
        x, condition = sampler.noise(first), sampler.condition(first)
        share = x.new_tensor([index % self.frames / (self.frames - 1) for index in indices])
        if self.of != "condition":
            x = slerp(x, sampler.noise(second), share)
        if self.of != "noise":
            condition = sampler.model.between(condition, sampler.condition(second), share)
        return sampler.integrate(x, condition, first), condition.labels

    def units(self, indices: Sequence[int]) -> list[int]:
        """The frames of one path are not independent."""
        return [index // self.frames for index in indices]

    def scores(self, sampler, samples, classes, classify) -> dict[str, PerSample]:
        """path_ratio: the mean over paths of sum_k |x_k+1 - x_k| / |x_last - x_first|, of pixels in L2.

        1 is a straight cross-fade of the first into the last image.
        """
        paths, left = divmod(len(samples), self.frames)
        if left:
            notice(f"path_ratio is of {paths} whole paths of {self.frames} frames; {left} samples more are in none")
        ratios, frames = [], np.empty((0, *samples.image_shape), np.uint8)
        for block in samples.blocks():
            frames = np.concatenate([frames, block])
            whole = len(frames) // self.frames
            ratios += path_ratios(torch.from_numpy(frames[: whole * self.frames]).unflatten(0, (whole, self.frames)))
            frames = frames[whole * self.frames :]
        still = sum(math.isnan(ratio) for ratio in ratios[:paths])
        if still:
            notice(f"path_ratio leaves out {still} of {paths} paths, whose ends are the same image")
        values = torch.full((paths, self.frames), math.nan, dtype=torch.float64)
        values[:, 0] = torch.tensor(ratios[:paths], dtype=torch.float64)  # a path counts once, at its first frame
        return {"path_ratio": PerSample(values.flatten())} if still < paths else {}

    def sheet(self, sampler, images: Tensor) -> Sheet:
        """The first paths, one a row; of conditions, with the labels of their ends."""
        paths = min(PATHS_SHOWN, len(images) // self.frames)
        labels, names = sampler.condition(range(2 * paths)).labels, dict(enumerate(class_names(sampler.model)))
        ends = [] if labels is None or self.of == "noise" else [names.get(label, label) for label in labels.tolist()]
        rows = [f"{first} to {second}" for first, second in zip(ends[::2], ends[1::2])]
        shares = [f"{frame / (self.frames - 1):.2g}" for frame in range(self.frames)]
        return Sheet(images[: paths * self.frames].unflatten(0, (paths, self.frames)), shares, rows, moving=True)


def path_ratios(paths: Tensor) -> list[float]:
    """Of images (P, F, H, W, C) the length of each path over its straight line; NaN where that is 0."""
    x = paths.flatten(2).double()
    lengths, straight = x.diff(dim=1).norm(dim=2).sum(1), (x[:, -1] - x[:, 0]).norm(dim=1)
    return torch.where(straight > 0, lengths / straight, math.nan).tolist()
