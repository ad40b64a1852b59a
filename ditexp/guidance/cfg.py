from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.core import Condition, FlowModel, VelocityField


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598) of all channels.

    v = (1 + w) v_cond - w v_uncond. Give exactly one of weight w (off at 0) and scale s = 1 + w (off at 1, as
    papers print it); afterwards both are set. Both networks run as one batch of twice the size; with w = 0 only
    the conditional one runs.
    """

    weight: float | None = None
    scale: float | None = None

    def __post_init__(self):
        if (self.weight is None) == (self.scale is None):
            given = "both are given" if self.weight is not None else "neither is given"
            raise ValueError(
                f"guidance=cfg takes exactly one of guidance.weight (w, off at 0) and guidance.scale (s = 1 + w, "
                f"off at 1); {given}"
            )
        weight = self.weight if self.weight is not None else self.scale - 1
        object.__setattr__(self, "weight", float(weight))
        object.__setattr__(self, "scale", float(1 + weight))

    def check(self, model: FlowModel) -> None:
        if self.weight and not model.has_null:
            reason = "was trained without label dropout" if model.num_classes else "is unconditional"
            raise ValueError(f"guidance=cfg needs a null condition, but this model {reason}: use guidance=none")

    def bind(self, model: FlowModel, condition: Condition) -> VelocityField:
        if self.weight == 0:
            return lambda x, t: model(x, t, condition)
        both = Condition.cat(condition, model.null(condition))

        def field(x: Tensor, t: Tensor) -> Tensor:
            conditional, unconditional = model(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
            return (1 + self.weight) * conditional - self.weight * unconditional

        return field
