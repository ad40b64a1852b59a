from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ditexp.condition.base import Conditioner
from ditexp.core import FlowModel, TextModel
from ditexp.values import Condition, LabelMeaning


@dataclass(frozen=True)
class Unconditional(Conditioner):
    """The model's null condition for every sample: no class, or the empty prompt."""

    def check(self, model: FlowModel) -> None:
        if model.num_classes and not model.has_null:
            raise ValueError(
                "condition=unconditional needs a null condition, but this model was trained without label dropout: "
                "choose condition=balanced"
            )

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        return LabelMeaning(None, why_not="samples of condition=unconditional have no class: choose condition=balanced")

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        """The empty prompt for a text model, the null class for a model of classes, else nothing."""
        if isinstance(model, TextModel):
            return model.encode([""] * len(indices))
        return model.null(Condition(torch.zeros(len(indices), dtype=torch.int64))) if model.num_classes else Condition()
