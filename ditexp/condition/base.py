"""What all conditioners share."""

from __future__ import annotations

from collections.abc import Sequence

from ditexp.core import FlowModel
from ditexp.values import LabelMeaning


class Conditioner:
    """Chooses the condition of each sample by its index alone."""

    def check(self, model: FlowModel) -> None:
        """Raise ValueError if the model does not fit."""

    def captions(self, indices: Sequence[int]) -> list[str] | None:
        """The condition of each sample in words."""
        return None

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        kind = type(self).__name__
        return LabelMeaning(None, why_not=f"{kind} doesn't say what its labels are: give it a label_meaning")
