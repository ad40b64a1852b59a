from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ditexp.checks import notice_fewer_classes
from ditexp.condition.base import Conditioner
from ditexp.core import Data, FlowModel
from ditexp.values import Condition, LabelMeaning


@dataclass(frozen=True)
class Original(Conditioner):
    """The label of the image that a task starts from: sample i has image i of the data, modulo their number.

    shift: added to the label, modulo the number of classes of the data; for edits that turn a 2 into a 3.
    """

    data: Data
    shift: int = 0

    def check(self, model: FlowModel) -> None:
        if not isinstance(self.shift, int) or isinstance(self.shift, bool):
            raise ValueError(f"condition.shift={self.shift}: give a whole number")
        if not model.num_classes or not self.data.num_classes:
            what = "this model has no classes" if not model.num_classes else "these images have no labels"
            raise ValueError(f"condition=original uses the images' labels, but {what}: choose condition=unconditional")
        if self.data.num_classes > model.num_classes:
            raise ValueError(
                f"condition=original: the images have {self.data.num_classes} classes, this model "
                f"{model.num_classes}: choose condition=unconditional"
            )
        notice_fewer_classes(self.data, model)
        for label, (of_images, of_model) in enumerate(zip(self.data.class_names, model.class_names)):
            if of_images != of_model:
                raise ValueError(
                    f"condition=original: class {label} of the images is {of_images}, of the model {of_model}: give "
                    "the class folders that the model was trained on, or choose condition=unconditional"
                )

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        names = tuple(model.class_names or self.data.class_names)
        return LabelMeaning(tuple(range(self.data.num_classes)), model.num_classes, names)

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        """Labels (B,) int64."""
        labels = self.data.labels[torch.tensor(indices) % len(self.data.labels)]
        return Condition((labels + self.shift) % self.data.num_classes)
