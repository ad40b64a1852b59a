"""The base class of all conditioners."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ditexp.core import FlowModel
from ditexp.values import Condition, LabelMeaning


class Conditioner(ABC):
    """Chooses the condition of each sample by its index alone, so that it does not depend on the batch.

    Only `__call__` is required. By default every model fits, samples have no captions, and labels are no classes.
    """

    def check(self, model: FlowModel) -> None:
        """Raise ValueError if the model does not fit."""
        return  # every model does

    @abstractmethod
    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        """The condition of the samples with these indices, on the CPU."""
        ...

    def captions(self, indices: Sequence[int]) -> list[str] | None:
        """The condition of each sample in words. None: it has none."""
        return None

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        """What the labels stand for, so that metrics do not take them for classes that they are not."""
        name = type(self).__name__
        return LabelMeaning(
            None, why_not=f"{name} doesn't say what its labels are: give it a label_meaning, see condition/base.py"
        )
