from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ditexp.metric.base import output
from ditexp.values import Features


@dataclass(frozen=True)
class LabelAccuracy:
    """The share of samples that the feature network takes for what they were made under: their label.

    For a network whose logits are of these classes: of ditexp's own, feature=digits. Raises ValueError for a label that
    is none of them. A network that had no part in
    training the sampled model is an independent judge, of adherence and not of diversity or beauty.
    """

    uses: ClassVar[str] = "logits"
    reference: ClassVar[None] = None
    needs_labels: ClassVar[bool] = True

    def check(self, *, fake: int, real: int | None) -> None:
        """Any number of samples will do."""

    def __call__(self, fake: Features, real: Features | None = None) -> dict[str, float]:
        logits = output(fake, self.uses, metric="label_accuracy")
        if wrong := fake.labels[(fake.labels < 0) | (fake.labels >= logits.shape[1])].tolist():
            raise ValueError(
                f"label_accuracy got samples of label {wrong[0]}, but the network has {logits.shape[1]} classes"
            )
        return {"label_accuracy": (logits.argmax(1) == fake.labels).double().mean().item()}
