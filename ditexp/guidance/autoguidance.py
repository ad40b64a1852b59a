from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ditexp.core import EvaluatedModel, FlowModel
from ditexp.guidance.base import Guided
from ditexp.values import Condition


@dataclass(frozen=True, kw_only=True)
class Autoguidance(Guided):
    """Guidance by a bad version of the model (Karras et al. 2024, arXiv 2406.02507): u is a weaker model's velocity.

        v = (1 + w) v(x, t, condition) - w v_weak(x, t, condition)

    Both have the same condition, so an unconditional model can be guided too. EDM2's `guidance` is the scale. Every
    evaluation of either network counts as one forward, although the weak one is cheaper.

    weak: a smaller or less trained model of the same samples and classes.
    """

    worse: ClassVar[str] = "the velocity of the weaker model"

    weak: FlowModel

    def check(self, model: FlowModel) -> None:
        super().check(model)
        self.same("sample_shape", self.weak.sample_shape, model.sample_shape)
        self.same("num_classes", self.weak.num_classes, model.num_classes)
        for label, (weak, strong) in enumerate(zip(self.weak.class_names, model.class_names)):
            self.same(f"as class {label}", weak, strong)

    def same(self, fact: str, weak: object, strong: object) -> None:
        if weak != strong:
            raise ValueError(
                f"guidance.weak has {fact} {weak}, the model {strong}: give a weaker model of the same data"
            )

    def conditions(self, model: EvaluatedModel, condition: Condition) -> Condition:
        return condition  # of both models

    def velocities(
        self, model: EvaluatedModel, conditions: Condition, x: Tensor, t: Tensor, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        weak, c = model.beside(self.weak), model(x, t, conditions)
        return c, weak(x, t, conditions) if rows is None else weak(x[rows], t[rows], conditions.take(rows))
