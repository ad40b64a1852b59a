from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ditexp.checks import flag, number, whole
from ditexp.core import Conditioner, Data, FlowModel
from ditexp.task.base import Classify, Samples, Task, blocks_of
from ditexp.task.direction import BetweenClasses, Direction, batches, read_direction
from ditexp.task.pixels import check_pixels
from ditexp.values import Condition, LabelMeaning, PerSample, Sheet, root_mean

if TYPE_CHECKING:
    from ditexp.sampler import Sampler

MAX_RECONSTRUCTED = 256  # originals that the round trip is measured on
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Edit(Task):
    """Takes images to noise, changes something, and brings them back.

    Sample i starts from image i of the data, modulo their number. The sampler's own solver takes it from t = 1 to its
    noise at t = 0 (`Sampler.invert`), under the condition of `source`; then from t = 0 to t = 1 under the condition of
    the run. What changes is the condition, or the noise, or both.

    direction: moves the noise. {3: 8} moves images of class 3 by the mean noise of 8s minus the mean noise of 3s;
    {a three: an eight} moves all images, by the mean noises of images drawn with these prompts; a path, by the tensor
    of that file. None: the noise stays. strength: how many times the direction is added. count: the number of images
    in a mean. The direction is computed once a process, in `prepare`, and is no sample's cost.

    guided: whether guidance acts on the way to the noise, too. By default it does not, because guided sampling starts
    at standard normal noise, and the guided flow taken backwards ends at something else.
    """

    decoding_facts: ClassVar[tuple[str, ...]] = ("codec",)  # it encodes images

    data: Data
    source: Conditioner
    direction: Direction | Mapping | str | None = None
    strength: float = 1.0
    count: int = 64
    guided: bool = False

    class_scores: ClassVar[tuple[str, ...]] = ("target_share",)
    moves: ClassVar[Tensor | None] = None  # of each class, set by `prepare`; no setting, hence not in the set's id

    def __post_init__(self) -> None:
        number("task.strength", self.strength)
        whole("task.count", self.count, minimum=1)
        flag("task.guided", self.guided)
        if self.direction is None and self.strength != 1:
            raise ValueError(f"task.strength={self.strength} multiplies a direction: give task.direction, too")
        if isinstance(self.direction, Mapping | str):
            object.__setattr__(self, "direction", read_direction(self.direction))

    @property
    def chosen_direction(self) -> Direction | None:
        """`direction`, after __post_init__ has read it."""
        assert not isinstance(self.direction, Mapping | str)
        return self.direction

    def check(self, sampler: Sampler) -> None:
        if sampler.solver.stochastic:
            raise ValueError(
                f"task=edit goes to noise and back by one path, but {type(sampler.solver).__name__} adds noise to it: "
                "choose a solver of the ODE, such as solver=heun"
            )
        image, label = self.data[0]
        check_pixels(image.shape, sampler, task="edit")
        if not isinstance(label, Tensor):
            raise ValueError("task=edit needs images with labels or none; these have captions: choose data=digits")
        try:
            self.source.check(sampler.model)
        except ValueError as error:
            raise ValueError(f"task.source: {error}") from None
        if self.chosen_direction is not None:
            self.chosen_direction.check(sampler, self)

    def prepare(self, sampler: Sampler) -> None:
        if self.chosen_direction is not None:
            object.__setattr__(self, "moves", self.strength * self.chosen_direction.find(sampler, self))

    def __call__(self, sampler: Sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        with sampler.preparation():
            images, labels = self.originals(indices)
        x = self.to_noise(sampler, images.to(sampler.device), indices)
        if self.moves is not None:
            x = x + self.moves[labels]
        condition = sampler.condition(indices)
        return sampler.integrate(x, condition, indices), self.targets(condition, labels)

    def originals(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1] and labels (B,), on the CPU."""
        images, labels = zip(*(self.data[index % len(self.data)] for index in indices))
        return torch.stack(images), torch.stack(labels)

    def source_condition(self, sampler: Sampler, indices: Sequence[int]) -> Condition:
        return sampler.condition(indices, self.source)

    def to_noise(self, sampler: Sampler, x: Tensor, indices: Sequence[int]) -> Tensor:
        """x (B, *sample_shape) at t = 1 -> the noise that leads there under the source condition."""
        return self.inward(sampler).invert(x, self.source_condition(sampler, indices))

    def reconstructed(self, sampler: Sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The noise of the originals, and x at t = 1 if nothing is changed: (B, *sample_shape) both."""
        noise = self.to_noise(sampler, self.originals(indices)[0].to(sampler.device), indices)
        condition = self.source_condition(sampler, indices)
        return noise, self.inward(sampler).integrate(noise, condition, indices)

    def inward(self, sampler: Sampler) -> Sampler:
        """The sampler of the way to the noise."""
        return sampler if self.guided else sampler.unguided()

    def units(self, indices: Sequence[int]) -> list[int]:
        """The image that each sample starts from: results of one image are not independent."""
        return [index % len(self.data) for index in indices]

    def label_meaning(self, model: FlowModel) -> LabelMeaning | None:
        """With a direction between classes, labels are classes of the data."""
        if not isinstance(self.direction, BetweenClasses):
            return None
        classes = self.direction.targets(self.data.labels.unique()).unique().tolist()
        return LabelMeaning(classes, self.data.num_classes, tuple(self.data.class_names))

    def targets(self, condition: Condition, labels: Tensor) -> Tensor | None:
        """The classes (B,) that images with these labels should become. None: nothing says."""
        of_direction = None if self.chosen_direction is None else self.chosen_direction.targets(labels)
        return condition.labels if of_direction is None else of_direction

    def changing(self, sampler: Sampler, labels: Tensor, targets: Tensor | None) -> Tensor:
        """(B,) bool: which images should change class. All of them if their labels cannot be compared with targets."""
        if targets is not None and not self.label_meaning(sampler.model):
            names = zip(self.data.class_names, sampler.model.class_names)
            are_classes = sampler.conditioner.label_meaning(sampler.model).classes is not None
            if not are_classes or any(ours != theirs for ours, theirs in names):
                targets = None
        return to_change(labels, targets)

    def scores(
        self, sampler: Sampler, samples: Samples, classes: Tensor | None, classify: Classify | None
    ) -> dict[str, float | PerSample]:
        """Three scores to read together: little change is no merit if the target is missed, and vice versa.

        reconstruction_rmse: of the round trip of the first 256 originals, under the source condition with nothing
        changed: the error of the inversion. change_rmse: from originals to results, as pixels. Both in [-1, 1].
        target_share: the fraction of the images that should change class (of all, if none should) that the feature
        network takes for the target class; only if both are known.
        """
        sampler.move()
        scores: dict[str, float | PerSample] = {
            "reconstruction_rmse": PerSample(self.reconstruction_errors(sampler, len(samples)), root_mean)
        }
        changes, labels = self.changes(sampler, samples)
        scores["change_rmse"] = PerSample(changes, root_mean)
        if classes is not None and (reached := self.reached(sampler, labels, classes)) is not None:
            scores["target_share"] = reached
        return scores

    def reconstruction_errors(self, sampler: Sampler, count: int) -> Tensor:
        """(N,) float64: the mean square error of the round trip of each of the first originals, N <= count."""
        squares = []
        for batch in batches(range(min(MAX_RECONSTRUCTED, count, len(self.data)))):
            _, back = self.reconstructed(sampler, batch)
            difference = back - self.originals(batch)[0].to(back)
            squares.append(difference.double().square().flatten(1).mean(1).cpu())
        sampler.take_cost()  # it is no sample's
        return torch.cat(squares)

    def changes(self, sampler: Sampler, samples: Samples) -> tuple[Tensor, Tensor]:
        """(N,) float64: the mean square change of each result; and the labels (N,) of the originals."""
        squares, labels = [], []
        for indices, block in blocks_of(samples):
            images, own = self.originals(indices)
            results = block.permute(0, 3, 1, 2).double()
            difference = (results - sampler.decode(images).double()) / 127.5
            squares.append(difference.square().flatten(1).mean(1))
            labels.append(own)
        return torch.cat(squares), torch.cat(labels)

    def reached(self, sampler: Sampler, labels: Tensor, classes: Tensor) -> PerSample | None:
        """The fraction of results that have become what they should. labels, classes (N,): of originals and results."""
        targets = self.targets(sampler.condition(range(len(labels))).to("cpu"), labels)
        if targets is None or is_null(sampler.model, targets).any():
            return None
        changing = self.changing(sampler, labels, targets)
        return PerSample((classes == targets).double().masked_fill(~changing, math.nan))

    def sheet(self, sampler: Sampler, images: Tensor) -> Sheet:
        """The first images that should change: the original, its noise, the round trip, and the result."""
        sampler.move()
        indices = range(len(images))
        originals, labels = self.originals(indices)
        targets = self.targets(sampler.condition(indices).to("cpu"), labels)
        shown = self.changing(sampler, labels, targets).nonzero()[:SHOWN, 0].tolist()
        noise, back = (sampler.decode(x).cpu() for x in self.reconstructed(sampler, shown))
        sampler.take_cost()
        columns = [sampler.decode(originals[shown]), noise, back, images[shown]]
        if (rows := sampler.conditioner.captions(shown)) is None:
            ends = labels, *(() if targets is None else (targets,))
            rows = [caption(sampler.model, *(int(end[i]) for end in ends)) for i in shown]
        names = ("image", "noise", "nothing changed", "edited")
        return Sheet(torch.stack(columns, dim=1), columns=names, rows=rows)


def to_change(labels: Tensor, targets: Tensor | None) -> Tensor:
    """(B,) bool: which images should change class; all of them, if none should or there are no targets."""
    changing = torch.ones_like(labels, dtype=torch.bool) if targets is None else targets != labels
    return changing if changing.any() else ~changing


def is_null(model: FlowModel, labels: Tensor) -> Tensor:
    """(B,) bool: which labels stand for the null condition."""
    return labels == model.num_classes if model.num_classes else torch.zeros_like(labels, dtype=torch.bool)


def caption(model: FlowModel, *labels: int) -> str:
    """What an image was and what it should become: "2 -> 3", or the names of the classes."""
    names = dict(enumerate(model.class_names))
    known = [str(names.get(label, label)) for label in labels if label in range(model.num_classes)]
    return " -> ".join(dict.fromkeys(known))
