from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.core import EvaluatedModel, FlowModel
from ditexp.guidance.base import Guided
from ditexp.values import Condition


@dataclass(frozen=True, kw_only=True)
class ClassifierFree(Guided):
    """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598): u is the model's velocity without a condition.

        v = (1 + w) v(x, t, condition) - w v(x, t, null)

    Conditional and unconditional rows run as one batch.
    """

    weak = None

    def check(self, model: FlowModel) -> None:
        super().check(model)
        if self.weight and not model.has_null:
            reason = "was trained without label dropout" if model.num_classes else "is unconditional"
            raise ValueError(f"this guidance needs a null condition, but this model {reason}: use guidance=none")

    def conditions(self, model: EvaluatedModel, condition: Condition) -> Condition:
        return Condition.cat(condition, model.null(condition))

    def velocities(
        self, model: EvaluatedModel, conditions: Condition, x: Tensor, t: Tensor, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if rows is not None:
            every = torch.cat([torch.arange(len(x), device=x.device), rows])
            conditions = conditions.take(torch.cat([every[: len(x)], rows + len(x)]))
            velocity = model(x[every], t[every], conditions)
        else:
            velocity = model(torch.cat([x, x]), torch.cat([t, t]), conditions)
        return velocity[: len(x)], velocity[len(x) :]
