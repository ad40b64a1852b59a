"""The network of MeanFlow (Geng et al. 2025, arXiv 2505.13447) in its PyTorch port, a SiT with a second time.

State-dict keys and arithmetic are those of https://github.com/zhuyu-cs/MeanFlow.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ditexp.model.dit import DiT
from ditexp.model.flow_map_network import FlowMapNetwork, InnerGuidance
from ditexp.model.layers import TimestepEmbedder
from ditexp.values import required


class MeanFlowDiT(FlowMapNetwork, DiT):
    """The average velocity u(x, t, span, label), noise - data, at t from data at 0 to noise at 1.

    r_embedder: of the span t - r, not of r. For the arguments see Transformer.
    """

    kind = "meanflow"

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.r_embedder = TimestepEmbedder(self.hidden_size)

    def average(
        self, x: Tensor, t: Tensor, span: Tensor, labels: Tensor | None = None, guidance: InnerGuidance | None = None
    ) -> Tensor:
        c = self.t_embedder(t) + self.r_embedder(span)
        if self.num_classes:
            labels = required(labels)
            c = c + (labels if labels.is_floating_point() else self.y_embedder(labels))
        return self.transform(x, c)
