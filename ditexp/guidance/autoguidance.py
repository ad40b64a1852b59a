from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ditexp.core import FlowModel, class_names
from ditexp.guidance.base import Guided
from ditexp.values import Condition


@dataclass(frozen=True, kw_only=True)
class Autoguidance(Guided):
    """Guidance by a bad version of the model (Karras et al. 2024, arXiv 2406.02507): u is a weaker model's velocity.

    v = (1 + w) c - w u, both under the same condition, so that an unconditional model can be guided too. EDM2's
    `guidance` is the scale. Every evaluation of either network counts as one forward, though the weak one is cheaper.

    weak: a smaller or less trained model of the same samples and classes.
    """

    worse: ClassVar[str] = "the weaker model's"

    weak: FlowModel

    def check(self, model: FlowModel) -> None:
        super().check(model)
        for name in ("sample_shape", "num_classes"):
            ours, theirs = getattr(model, name), getattr(self.weak, name)
            if ours != theirs:
                raise ValueError(
                    f"guidance.weak has {name} {theirs} and the model {ours}: give a weaker model of the same data"
                )
        for label, (ours, theirs) in enumerate(zip(class_names(model), class_names(self.weak))):
            if ours != theirs:
                raise ValueError(
                    f"guidance.weak calls class {label} {theirs} and the model {ours}: give a weaker model of the same "
                    "data"
                )

    def velocities(
        self, model: FlowModel, condition: Condition, x: Tensor, t: Tensor, rows: Tensor | slice
    ) -> tuple[Tensor, Tensor]:
        weak = model.beside(self.weak)
        return model(x, t, condition), weak(x[rows], t[rows], condition.take(rows))
