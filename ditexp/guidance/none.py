from __future__ import annotations

from dataclasses import dataclass

from ditexp.core import FlowModel, VelocityField
from ditexp.values import Condition


@dataclass(frozen=True)
class NoGuidance:
    """The model's own velocity: one network evaluation per velocity."""

    def check(self, model: FlowModel) -> None:
        pass

    def bind(self, model: FlowModel, condition: Condition) -> VelocityField:
        return lambda x, t: model(x, t, condition)
