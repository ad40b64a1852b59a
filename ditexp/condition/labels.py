"""Class labels: balanced, in order or random."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ditexp.checks import whole
from ditexp.condition.base import Conditioner
from ditexp.core import FlowModel, TextModel
from ditexp.noise import LABEL, generator
from ditexp.terminal.notices import notice
from ditexp.values import Condition, LabelMeaning


@dataclass(frozen=True)
class Labels(Conditioner):
    """classes: the labels to choose from, or None for all of the model's."""

    classes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.classes is not None:
            if not isinstance(self.classes, Sequence) or isinstance(self.classes, str):
                raise ValueError(f"condition.classes={self.classes}: give a list of labels, as [0,7], or null for all")
            object.__setattr__(self, "classes", tuple(self.classes))  # Hydra's lists cannot enter the set's id

    def check(self, model: FlowModel) -> None:
        if isinstance(model, TextModel):
            raise ValueError("this model takes text, not labels: choose condition=prompts or condition=unconditional")
        self.notice_untrained(model)
        if self.classes is None:
            return
        if not model.num_classes:
            raise ValueError(f"condition.classes={list(self.classes)}, but this model is unconditional: leave it out")
        known = range(model.num_classes)
        wrong = [label for label in self.classes if type(label) is not int or label not in known]
        if wrong or not self.classes:
            raise ValueError(
                f"condition.classes={list(self.classes)}: labels of this model run from 0 to {model.num_classes - 1}"
            )

    def notice_untrained(self, model: FlowModel) -> None:
        """Print a notice if classes are chosen that the training data did not have."""
        named = len(model.class_names) or model.num_classes
        if any(type(label) is int and named <= label < model.num_classes for label in self.chosen(model)):
            notice(
                f"this model was trained on {named} of its {model.num_classes} classes: those from {named} on are noise"
            )

    def chosen(self, model: FlowModel) -> Sequence[int]:
        return range(model.num_classes) if self.classes is None else self.classes

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        if not model.num_classes:
            return LabelMeaning(None, why_not="this model has no classes")
        return LabelMeaning(tuple(sorted(set(self.chosen(model)))), model.num_classes, tuple(model.class_names))

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        """Labels (B,) int64; none for an unconditional model."""
        if not model.num_classes:
            return Condition()
        classes = self.chosen(model)
        labels = [classes[self.choose(seed, index, len(classes))] for index in indices]
        return Condition(torch.tensor(labels, dtype=torch.int64))

    @abstractmethod
    def choose(self, seed: int, index: int, count: int) -> int:
        """The place of sample `index`'s label in the list of classes, in [0, count)."""
        ...


@dataclass(frozen=True)
class Balanced(Labels):
    """The classes in turn: in the first N samples, for any N, class counts differ by one at most."""

    def choose(self, seed: int, index: int, count: int) -> int:
        return index % count


@dataclass(frozen=True)
class InOrder(Labels):
    """Class after class, `per_class` samples of each: 0, 0, ..., 1, 1, ..., and from the first class again.

    JiT and DDT draw 50,000 samples of 1000 classes so, 50 of each. Fewer samples have the first classes alone.
    """

    per_class: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("condition.per_class", self.per_class, minimum=1)

    def choose(self, seed: int, index: int, count: int) -> int:
        return index // self.per_class % count


@dataclass(frozen=True)
class Random(Labels):
    """A class drawn independently for each sample, as in the scripts of SiT and DiT."""

    def choose(self, seed: int, index: int, count: int) -> int:
        return int(generator(seed, index, LABEL).integers(count))
