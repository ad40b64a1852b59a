"""How often the feature network recognises the class that a sample was made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ditexp.metric.base import SampleMean, output
from ditexp.values import Features


@dataclass(frozen=True)
class LabelAccuracy(SampleMean):
    """The fraction of samples whose label is the class with the largest logit.

    The logits must be over the classes of the labels; among ditexp's networks those of feature=digits are. The score
    measures adherence to the label, not diversity or image quality, and only a network that had no part in training the
    sampled model is an independent judge. Raises ValueError without labels, and for a label that is not one of the
    network's classes.
    """

    name: ClassVar[str] = "label_accuracy"
    uses = "logits"
    needs_labels = True

    def values(self, fake: Features) -> Tensor:
        """1 for a sample that is recognised, 0 for others."""
        logits, labels = output(fake, self.uses, metric="label_accuracy"), fake.labels
        if labels is None:
            raise ValueError("label_accuracy needs the labels of the samples, but they have none: leave it out")
        if wrong := labels[(labels < 0) | (labels >= logits.shape[1])].tolist():
            raise ValueError(
                f"label_accuracy got samples of label {wrong[0]}, but the network has {logits.shape[1]} classes"
            )
        return logits.argmax(1).eq(labels).double()
