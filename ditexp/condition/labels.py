"""Class labels: balanced or random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ditexp.core import Condition, FlowModel
from ditexp.noise import LABEL, generator


@dataclass(frozen=True)
class Labels:
    """classes: the labels to choose from, or None for all of the model's."""

    classes: Sequence[int] | None = None

    def __post_init__(self):
        if self.classes is not None:
            if not isinstance(self.classes, Sequence) or isinstance(self.classes, str):
                raise ValueError(f"condition.classes={self.classes}: give a list of labels, as [0,7], or null for all")
            object.__setattr__(self, "classes", tuple(self.classes))  # a list of Hydra's cannot enter the set's id

    def check(self, model: FlowModel) -> None:
        if hasattr(model, "encode"):
            raise ValueError("this model takes text, not labels: choose condition=prompts or condition=unconditional")
        if self.classes is None:
            return
        if not model.num_classes:
            raise ValueError(f"condition.classes={list(self.classes)}, but this model is unconditional: leave it out")
        wrong = [label for label in self.classes if label not in range(model.num_classes)]
        if wrong or not self.classes:
            raise ValueError(
                f"condition.classes={list(self.classes)}: labels of this model run from 0 to {model.num_classes - 1}"
            )

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        """Labels (B,) int64 of the samples with these indices; none for an unconditional model."""
        if not model.num_classes:
            return Condition()
        classes = range(model.num_classes) if self.classes is None else self.classes
        chosen = [classes[self.choose(seed, index, len(classes))] for index in indices]
        return Condition(torch.tensor(chosen, dtype=torch.int64))

    def choose(self, seed: int, index: int, count: int) -> int:
        """A number in [0, count) for sample `index`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Balanced(Labels):
    """The classes in turn: every prefix of the set is balanced to within one sample a class."""

    def choose(self, seed: int, index: int, count: int) -> int:
        return index % count


@dataclass(frozen=True)
class Random(Labels):
    """A class drawn independently for each sample, as SiT's and DiT's scripts do."""

    def choose(self, seed: int, index: int, count: int) -> int:
        return int(generator(seed, index, LABEL).integers(count))
