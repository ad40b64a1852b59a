from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ditexp.core import EvaluatedModel, FlowModel
from ditexp.values import Condition, times_of


@dataclass(frozen=True)
class ModelField:
    """A model's own velocity for a batch with one condition."""

    model: EvaluatedModel
    condition: Condition

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        return self.model(x, times_of(x, t), self.condition)

    def average(self, x: Tensor, t: float, until: float) -> Tensor:
        """The average velocity between two times, if the model is one of two times."""
        return self.model(x, times_of(x, t), self.condition, until=times_of(x, until))

    def take(self, rows: Tensor) -> ModelField:
        return replace(self, condition=self.condition.take(rows))


@dataclass(frozen=True)
class NoGuidance:
    """The model's own velocity: one network evaluation per velocity."""

    start = 0.0
    interval = None
    weak = None

    def on(self, grid: Sequence[float] | None) -> NoGuidance:
        return self

    def check(self, model: FlowModel) -> None:
        pass

    def bind(self, model: EvaluatedModel, condition: Condition) -> ModelField:
        return ModelField(model, condition)
