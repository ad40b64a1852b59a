from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ditexp.checks import flag, number, whole
from ditexp.core import Conditioner, Data, FlowModel
from ditexp.pixels import to_pixels
from ditexp.task.base import Classify, Samples, Task, blocks_of
from ditexp.task.direction import BetweenClasses, Direction, batches, read_direction
from ditexp.task.originals import check_images, check_solver, encoded, makes_latents, originals
from ditexp.values import Condition, LabelMeaning, PerSample, Sheet, root_mean

if TYPE_CHECKING:
    from ditexp.sampler import Sampler

MAX_RECONSTRUCTED = 256  # originals that the round trip is measured on
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Edit(Task):
    """Takes images to noise, changes something, and brings them back.

    Sample i starts from image i of the data, modulo their number, encoded if the model makes latents. The sampler's own
    solver takes it from t = 1 to its noise at t = 0 (`Sampler.invert`), under the condition of `source`; then from
    t = 0 to t = 1 under the condition of the run. What changes is the condition, or the noise, or both.

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
        check_solver(sampler, task="edit")
        check_images(self.data, sampler, task="edit")
        if not isinstance(self.data[0][1], Tensor):
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
        x = self.to_noise(sampler, encoded(self.data, sampler, indices), indices)
        labels = self.labels(indices)
        if self.moves is not None:
            x = x + self.moves[labels]
        condition = sampler.condition(indices)
        return sampler.integrate(x, condition, indices), self.targets(condition, labels)

    def labels(self, indices: Sequence[int]) -> Tensor:
        """The labels (B,) of the originals, on the CPU."""
        return self.data.labels[[index % len(self.data) for index in indices]]

    def source_condition(self, sampler: Sampler, indices: Sequence[int]) -> Condition:
        return sampler.condition(indices, self.source)

    def to_noise(self, sampler: Sampler, x: Tensor, indices: Sequence[int]) -> Tensor:
        """x (B, *sample_shape) at t = 1 -> the noise that leads there under the source condition."""
        return self.inward(sampler).invert(x, self.source_condition(sampler, indices))

    def reconstructed(self, sampler: Sampler, x: Tensor, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The noise of encoded originals, and x at t = 1 if nothing is changed: (B, *sample_shape) both."""
        noise = self.to_noise(sampler, x, indices)
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
        """Scores to read together: little change is no merit if the target is missed, and vice versa.

        reconstruction_rmse: of the round trip of the first 256 originals, under the source condition with nothing
        changed: the error of the inversion, in the model's own space. vae_rmse, for models of latents: what the
        autoencoder alone changes in the same originals, as pixels. change_rmse: from originals to results, as pixels;
        it includes what the autoencoder changes. Pixels are in [-1, 1].
        target_share: the fraction of the images that should change class (of all, if none should) that the feature
        network takes for the target class; only if both are known.
        """
        sampler.move()
        squares = self.round_trips(sampler, len(samples)) | {"change_rmse": self.changes(samples)}
        scores: dict[str, float | PerSample] = {name: PerSample(each, root_mean) for name, each in squares.items()}
        labels = self.labels(range(len(samples)))
        if classes is not None and (reached := self.reached(sampler, labels, classes)) is not None:
            scores["target_share"] = reached
        return scores

    def round_trips(self, sampler: Sampler, count: int) -> dict[str, Tensor]:
        """(N,) float64: mean squares of reconstruction_rmse and vae_rmse, of the first originals, N <= count."""
        of_inversion, of_vae = [], []
        for batch in batches(range(min(MAX_RECONSTRUCTED, count, len(self.data)))):
            x = encoded(self.data, sampler, batch)
            of_inversion.append(mean_squares(self.reconstructed(sampler, x, batch)[1] - x))
            if makes_latents(sampler):
                of_vae.append(self.changes_of(sampler.decode(x), batch))
        sampler.take_cost()  # it is no sample's
        squares = {"reconstruction_rmse": torch.cat(of_inversion)}
        return squares | ({"vae_rmse": torch.cat(of_vae)} if of_vae else {})

    def changes(self, samples: Samples) -> Tensor:
        """(N,) float64: the mean square change of each result."""
        return torch.cat([self.changes_of(block.permute(0, 3, 1, 2), indices) for indices, block in blocks_of(samples)])

    def changes_of(self, pixels: Tensor, indices: Sequence[int]) -> Tensor:
        """(B,) float64: the mean square differences of pixels (B, C, H, W) uint8 from their originals, in [-1, 1]."""
        return mean_squares((pixels.cpu().double() - self.pixels(indices).double()) / 127.5)

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """The originals (B, C, H, W) uint8."""
        return to_pixels(originals(self.data, indices))

    def reached(self, sampler: Sampler, labels: Tensor, classes: Tensor) -> PerSample | None:
        """The fraction of results that have become what they should. labels, classes (N,): of originals and results."""
        targets = self.targets(sampler.condition(range(len(labels))).to("cpu"), labels)
        if targets is None or is_null(sampler.model, targets).any():
            return None
        changing = self.changing(sampler, labels, targets)
        return PerSample((classes == targets).double().masked_fill(~changing, math.nan))

    def sheet(self, sampler: Sampler, images: Tensor) -> Sheet:
        """The first images that should change: the original, its noise, the round trip, and the result.

        For models of latents also the original encoded and decoded, before its noise.
        """
        sampler.move()
        indices = range(len(images))
        labels = self.labels(indices)
        targets = self.targets(sampler.condition(indices).to("cpu"), labels)
        shown = self.changing(sampler, labels, targets).nonzero()[:SHOWN, 0].tolist()
        x = encoded(self.data, sampler, shown)
        noise, back = self.reconstructed(sampler, x, shown)
        states = {"encoded, decoded": x} if makes_latents(sampler) else {}
        states |= {"noise": noise, "nothing changed": back}
        columns = {name: sampler.decode(state).cpu() for name, state in states.items()}
        columns = {"image": self.pixels(shown), **columns, "edited": images[shown]}
        sampler.take_cost()
        if (rows := sampler.conditioner.captions(shown)) is None:
            ends = labels, *(() if targets is None else (targets,))
            rows = [caption(sampler.model, *(int(end[i]) for end in ends)) for i in shown]
        return Sheet(torch.stack(list(columns.values()), dim=1), columns=list(columns), rows=rows)


def mean_squares(differences: Tensor) -> Tensor:
    """(N,) float64 on the CPU: the mean square of each (N, ...)."""
    return differences.double().square().flatten(1).mean(1).cpu()


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
