"""A model of two times that is known exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from ditexp.model.analytic import GaussianMixture
from ditexp.values import Condition, append_dims, required


class GaussianFlowMap(GaussianMixture):
    """The flow from noise to one isotropic Gaussian for each class, and the average of its velocity between two times.

    With x_1 ~ N(m, s^2 I), x_t has mean t m and standard deviation d_t = sqrt(t^2 s^2 + (1 - t)^2), and the flow keeps
    (x_t - t m) / d_t.
    """

    def __init__(self, **settings) -> None:
        super().__init__(**{"components": 1, **settings})
        self.identity = {**self.identity, "model": "gaussian_flow_map"}

    def average_velocity(self, x: Tensor, t: Tensor, condition: Condition, until: Tensor) -> Tensor:
        means = self.means[required(condition.labels), 0].to(x)
        start, end = append_dims(t, x), append_dims(until, x)
        moved = end * means + self.deviation(end) / self.deviation(start) * (x - start * means)
        return (moved - x) / (end - start)

    def deviation(self, t: Tensor) -> Tensor:
        return torch.hypot(t * self.std, 1 - t)
