from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ditexp.core import Conditioner, Data, FlowModel, Labelled, class_names
from ditexp.task.base import Task
from ditexp.task.direction import BetweenClasses, Direction, batches, read_direction
from ditexp.task.pixels import check_pixels
from ditexp.values import Condition, LabelMeaning, PerSample, Sheet, root_mean

RECONSTRUCTED = 256  # originals that the round trip is measured on, at most
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Edit(Task):
    """Takes images to noise, changes something, and brings them back.

    Sample i begins with image i of the data, which go round. Its noise is where the sampler's own solver comes to from
    t = 1 to t = 0 (`Sampler.invert`), under the condition of `source`; then the solver runs from t = 0 to t = 1 under
    the run's own condition. What changes is the condition, or the noise, or both.

    direction: of the noise: {3: 8} moves images of class 3 by the mean noise of 8s minus that of 3s; {a three: an
    eight} all images, by the mean noise of images drawn under these prompts; a path, by the tensor of that file. None:
    the noise stays. strength: how many times the direction is added. count: how many images a mean is taken of.
    It is found once a process, in `prepare`, and is no sample's cost.

    guided: whether guidance acts on the way to the noise, too. It doesn't act there by default, since what is sampled
    with guidance starts at standard normal noise, and a guided flow runs back to something else.
    """

    data: Data
    source: Conditioner
    direction: Direction | Mapping | str | None = None
    strength: float = 1.0
    count: int = 64
    guided: bool = False

    class_scores: ClassVar[tuple[str, ...]] = ("target_share",)
    moves: ClassVar[Tensor | None] = None  # of each class, once `prepare` has found them

    def __post_init__(self):
        is_number = isinstance(self.strength, int | float) and not isinstance(self.strength, bool)
        if not is_number or not math.isfinite(self.strength):
            raise ValueError(f"task.strength={self.strength}: give a finite number")
        if not isinstance(self.count, int) or isinstance(self.count, bool) or self.count < 1:
            raise ValueError(f"task.count={self.count}: give a whole number of at least 1")
        if not isinstance(self.guided, bool):
            raise ValueError(f"task.guided={self.guided}: choose true or false")
        if self.direction is not None:
            object.__setattr__(self, "direction", read_direction(self.direction))
        elif self.strength != 1:
            raise ValueError(f"task.strength={self.strength} is that of a direction: give task.direction, too")

    def check(self, sampler) -> None:
        if getattr(sampler.solver, "stochastic", False):
            raise ValueError(
                f"task=edit goes to noise and back by one path, but {type(sampler.solver).__name__} adds noise to it: "
                "choose a solver of the ODE, such as solver=heun"
            )
        image, label = self.data[0]
        check_pixels(image.shape, sampler.model, task="edit")
        if not isinstance(label, Tensor):
            raise ValueError(
                "task=edit takes images with labels, or with none; these have captions: choose data=digits"
            )
        try:
            self.source.check(sampler.model)
        except ValueError as error:
            raise ValueError(f"task.source: {error}") from None
        if self.direction is not None:
            self.direction.check(sampler, self)

    def prepare(self, sampler) -> None:
        if self.direction is not None:
            object.__setattr__(self, "moves", self.strength * self.direction.find(sampler, self))

    def __call__(self, sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        with sampler.preparation():
            images, labels = self.originals(indices)
        x = self.to_noise(sampler, images.to(sampler.device), indices)
        if self.moves is not None:
            x = x + self.moves[labels]
        condition = sampler.condition(indices)
        return sampler.integrate(x, condition, indices), self.targets(condition, labels)

    def units(self, indices: Sequence[int]) -> list[int]:
        """Results of one image are not independent."""
        return [index % len(self.data) for index in indices]

    def originals(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [-1, 1] and labels (B,), on the CPU."""
        images, labels = zip(*(self.data[index % len(self.data)] for index in indices))
        return torch.stack(images), torch.stack(labels)

    def source_condition(self, sampler, indices: Sequence[int]) -> Condition:
        return sampler.condition(indices, self.source)

    def to_noise(self, sampler, x: Tensor, indices: Sequence[int]) -> Tensor:
        """x (B, *sample_shape) at t = 1 -> what leads there under the source condition."""
        return self.on_the_way_in(sampler).invert(x, self.source_condition(sampler, indices))

    def reconstructed(self, sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The originals' noise, and x at t = 1 when nothing is changed: (B, *sample_shape) both."""
        noise = self.to_noise(sampler, self.originals(indices)[0].to(sampler.device), indices)
        condition = self.source_condition(sampler, indices)
        return noise, self.on_the_way_in(sampler).integrate(noise, condition, indices)

    def on_the_way_in(self, sampler):
        return sampler if self.guided else sampler.unguided()

    def label_meaning(self, model: FlowModel) -> LabelMeaning | None:
        """Of a direction between classes: labels are the data's."""
        if not isinstance(self.direction, BetweenClasses):
            return None
        classes = self.direction.targets(self.data.labels.unique()).unique().tolist()
        return LabelMeaning(classes, self.data.num_classes, class_names(self.data))

    def targets(self, condition: Condition, labels: Tensor) -> Tensor | None:
        """The classes (B,) that images of these labels are to be of; None if nothing says."""
        of_direction = None if self.direction is None else self.direction.targets(labels)
        return condition.labels if of_direction is None else of_direction

    def in_classes_of_data(self, sampler, targets: Tensor | None) -> Tensor | None:
        """The targets if they can be compared with the data's labels, else None."""
        if self.label_meaning(sampler.model):
            return targets
        conditioner, pairs = sampler.conditioner, zip(class_names(self.data), class_names(sampler.model))
        of_classes = (
            not isinstance(conditioner, Labelled) or conditioner.label_meaning(sampler.model).classes is not None
        )
        return targets if of_classes and all(ours == theirs for ours, theirs in pairs) else None

    def scores(
        self, sampler, samples, classes: Tensor | None, classify: Callable[[Tensor], Tensor] | None
    ) -> dict[str, PerSample]:
        """Beside each other, since little change is no merit where the target isn't reached, and the other way round.

        reconstruction_rmse: of the round trip of the first originals, 256 at most, under the source condition with
        nothing changed: the error of the inversion. change_rmse: of results to originals, as pixels. Both in [-1, 1].
        target_share: of the images that are to change class (of all, if none is), those that the feature network takes
        for one of the target class; where targets and network tell.
        """
        sampler.model.to(sampler.device)
        squares = []
        for batch in batches(range(min(RECONSTRUCTED, len(samples), len(self.data)))):
            _, back = self.reconstructed(sampler, batch)
            difference = back - self.originals(batch)[0].to(back)
            squares.append(difference.double().square().flatten(1).mean(1).cpu())
        scores = {"reconstruction_rmse": PerSample(torch.cat(squares), root_mean)}
        sampler.take_cost()

        changes, count, labels = [], 0, []
        for block in samples.blocks():
            indices = range(count, min(count + len(block), len(samples)))
            images, own = self.originals(indices)
            results = torch.from_numpy(block[: len(indices)]).permute(0, 3, 1, 2).double()
            difference = (results - sampler.model.decode(images).double()) / 127.5
            changes.append(difference.square().flatten(1).mean(1))
            count += len(indices)
            labels.append(own)
        scores["change_rmse"] = PerSample(torch.cat(changes), root_mean)
        if classes is not None and (reached := self.reached(sampler, torch.cat(labels), classes)) is not None:
            scores["target_share"] = reached
        return scores

    def reached(self, sampler, labels: Tensor, classes: Tensor) -> PerSample | None:
        """The share of results, of these classes (N,), that are what the originals, of these labels, were to become."""
        targets = self.targets(sampler.condition(range(len(labels))).to("cpu"), labels)
        if targets is None or is_null(sampler.model, targets).any():
            return None
        changing = to_change(labels, self.in_classes_of_data(sampler, targets))
        return PerSample((classes == targets).double().masked_fill(~changing, math.nan))

    def sheet(self, sampler, images: Tensor) -> Sheet:
        sampler.model.to(sampler.device)
        indices = range(len(images))
        originals, labels = self.originals(indices)
        targets = self.targets(sampler.condition(indices).to("cpu"), labels)
        shown = to_change(labels, self.in_classes_of_data(sampler, targets)).nonzero()[:SHOWN, 0].tolist()
        noise, back = (sampler.model.decode(x).cpu() for x in self.reconstructed(sampler, shown))
        sampler.take_cost()
        columns = [sampler.model.decode(originals[shown]), noise, back, images[shown]]
        if hasattr(sampler.conditioner, "captions"):
            rows = sampler.conditioner.captions(shown)
        else:
            ends = labels, *(() if targets is None else (targets,))
            rows = [caption(sampler.model, *(end[i].item() for end in ends)) for i in shown]
        names = ("image", "noise", "nothing changed", "edited")
        return Sheet(torch.stack(columns, dim=1), columns=names, rows=rows)


def to_change(labels: Tensor, targets: Tensor | None) -> Tensor:
    """(B,) bool: which images are to change class; all, if none is, or nothing says."""
    changing = torch.ones_like(labels, dtype=torch.bool) if targets is None else targets != labels
    return changing if changing.any() else ~changing


def is_null(model: FlowModel, labels: Tensor) -> Tensor:
    """(B,) bool: which labels are that of the null condition."""
    return labels == model.num_classes if model.num_classes else torch.zeros_like(labels, dtype=torch.bool)


def caption(model: FlowModel, *labels: int) -> str:
    """What an image was and what it is to be: "2 -> 3", or by the names of the classes."""
    names = dict(enumerate(class_names(model)))
    known = [str(names.get(label, label)) for label in labels if label in range(model.num_classes)]
    return " -> ".join(dict.fromkeys(known))
