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

    def velocities(
        self, model: EvaluatedModel, condition: Condition, x: Tensor, t: Tensor, rows: Tensor | slice
    ) -> tuple[Tensor, Tensor]:
        both = Condition.cat(condition, model.null(condition.take(rows)))
        velocity = model(torch.cat([x, x[rows]]), torch.cat([t, t[rows]]), both)
        return velocity[: len(x)], velocity[len(x) :]
