from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ditexp.checks import tell_of_fewer_classes
from ditexp.condition.base import Conditioner
from ditexp.core import Data, FlowModel, class_names
from ditexp.values import Condition, LabelMeaning


@dataclass(frozen=True)
class Original(Conditioner):
    """The label of the image that a task begins with: sample i belongs to image i of the data, which go round.

    shift: added to the label, modulo the number of the data's classes; for edits that make a 3 of a 2.
    """

    data: Data
    shift: int = 0

    def check(self, model: FlowModel) -> None:
        if not isinstance(self.shift, int) or isinstance(self.shift, bool):
            raise ValueError(f"condition.shift={self.shift}: give a whole number")
        if not model.num_classes or not self.data.num_classes:
            what = "this model is not one of classes" if not model.num_classes else "these images have no labels"
            raise ValueError(f"condition=original takes the images' labels, but {what}: choose condition=unconditional")
        if self.data.num_classes > model.num_classes:
            raise ValueError(
                f"condition=original: the images have {self.data.num_classes} classes, this model "
                f"{model.num_classes}: choose condition=unconditional"
            )
        tell_of_fewer_classes(self.data, model)

        for label, names in enumerate(zip(class_names(self.data), class_names(model))):
            if names[0] != names[1]:
                raise ValueError(
                    f"condition=original: class {label} of the images is {names[0]}, of the model {names[1]}: give the "
                    "class folders that the model was trained on, or choose condition=unconditional"
                )

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        names = class_names(model) or class_names(self.data)
        return LabelMeaning(tuple(range(self.data.num_classes)), model.num_classes, names)

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        labels = self.data.labels[torch.tensor(indices) % len(self.data.labels)]
        return Condition((labels + self.shift) % self.data.num_classes)
