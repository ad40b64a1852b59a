"""Class labels: balanced or random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ditexp.condition.base import Conditioner
from ditexp.core import FlowModel, class_names
from ditexp.noise import LABEL, generator
from ditexp.terminal.notices import notice
from ditexp.values import Condition, LabelMeaning


@dataclass(frozen=True)
class Labels(Conditioner):
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
        self.tell_of_untrained(model)
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

    def tell_of_untrained(self, model: FlowModel) -> None:
        """A notice of classes that the training data did not have."""
        named = len(class_names(model)) or model.num_classes
        chosen = range(model.num_classes) if self.classes is None else self.classes
        if any(type(label) is int and named <= label < model.num_classes for label in chosen):
            notice(
                f"this model was trained on {named} of its {model.num_classes} classes: those from {named} on are noise"
            )

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        if not model.num_classes:
            return LabelMeaning(None, why_not="this model has no classes")
        classes = range(model.num_classes) if self.classes is None else sorted(set(self.classes))
        return LabelMeaning(tuple(classes), model.num_classes, class_names(model))

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
