"""What the networks of two times have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.core import Walk
from ditexp.model.label_network import LabelNetwork


@dataclass(frozen=True)
class InnerGuidance:
    """Guidance that a network was trained with, and is told the strength of (Geng et al. 2025, arXiv 2512.02012).

    omega: its scale; 1 is none. start, end: where it acts, in the network's time, which runs from data at 0 to noise at
    1.
    """

    omega: float = 1.0
    start: float = 0.0
    end: float = 1.0


class FlowMapNetwork(LabelNetwork):
    """A network of two times, its own and one that lies `span` away in the direction of the data."""

    @abstractmethod
    def average(
        self, x: Tensor, t: Tensor, span: Tensor, labels: Tensor | None = None, guidance: InnerGuidance | None = None
    ) -> Tensor:
        """What it predicts of the way from time t (B,) over `span` (B,), at x (B, C, H, W): like x.

        labels: as of `outputs`. guidance: None for none; a network whose guidance is fixed has no use for it.
        """

    def outputs(self, x: Tensor, t: Tensor, labels: Tensor | None = None, walk: Walk | None = None) -> Tensor:
        """The same over a span of 0, without guidance."""
        return self.average(x, t, torch.zeros_like(t), labels)
