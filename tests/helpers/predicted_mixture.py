"""A mixture whose exact velocity is known, behind a network that predicts something else on another path."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ditexp.model.analytic import GaussianMixture
from ditexp.model.paths import Discrete, Exponential, Linear, Path, Trigonometric
from ditexp.model.prediction import Angular, DataOnPath, Noise, OnPath, Score, VelocityOnPath
from ditexp.values import Condition, append_dims


class PredictedMixture(GaussianMixture):
    """The mixture's velocity, by way of what a perfect network with this prediction would return."""

    def __init__(self, prediction: OnPath, **settings) -> None:
        super().__init__(**settings)
        self.prediction = prediction
        self.start, self.start_std = prediction.start, prediction.start_std
        self.identity = {**self.identity, **prediction.identity}

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        z, time = self.prediction.inputs(x, t)
        return self.prediction.velocity(self.network(z, time, condition), x, t)

    def exact(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return super().__call__(x, t, condition)

    def network(self, z: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The output at z = alpha data + sigma noise and the path's time, in float64 within."""
        numbers = time.double().numpy()
        a, s = (torch.from_numpy(part) for part in alpha_sigma(self.prediction.path, numbers))
        alpha, sigma = append_dims(a, z), append_dims(s, z)
        x, t = z.double() / (alpha + sigma), a / (a + s)
        v = super().__call__(x, t, condition)
        data, noise = x + append_dims(1 - t, x) * v, x - append_dims(t, x) * v
        match self.prediction:
            case Noise():
                output = noise
            case Score():
                output = -noise / sigma
            case DataOnPath():
                output = data
            case Angular():
                output = alpha * noise - sigma * data
            case VelocityOnPath():
                d_alpha, d_sigma = (append_dims(part, z) for part in rates(self.prediction.path, numbers))
                output = d_alpha * data + d_sigma * noise
            case _:
                raise TypeError(f"{self.prediction} is not known here")
        return output.to(z.dtype)


def alpha_sigma(path: Path, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients of a path, by its definition and apart from ditexp's code."""
    match path:
        case Linear():
            return time, 1 - time
        case Trigonometric():
            return np.sin(math.pi / 2 * time), np.cos(math.pi / 2 * time)
        case Exponential():
            log_alpha = -((1 - time) ** 2) * (20 - 0.1) / 4 - (1 - time) * 0.1 / 2
        case Discrete():
            log_alpha = np.interp(time, np.arange(path.steps), np.log(alphas_cumprod(path)) / 2)
        case _:
            raise TypeError(f"{path} is not known here")
    return np.exp(log_alpha), np.sqrt(-np.expm1(2 * log_alpha))


def rates(path: Path, time: np.ndarray) -> tuple[Tensor, Tensor]:
    """The derivatives of alpha and sigma with respect to the path's time, by central differences."""
    h = 1e-6
    after, before = alpha_sigma(path, time + h), alpha_sigma(path, time - h)
    alpha, sigma = ((one - other) / (2 * h) for one, other in zip(after, before))
    return torch.from_numpy(alpha), torch.from_numpy(sigma)


@cache
def alphas_cumprod(path: Discrete) -> np.ndarray:
    """abar of each index."""
    if path.betas == "linear":
        betas = np.array([1e-4 + (0.02 - 1e-4) * i / (path.steps - 1) for i in range(path.steps)])
    else:
        remaining = [math.cos((i / path.steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(path.steps + 1)]
        betas = np.array([min(1 - after / before, 0.999) for before, after in pairwise(remaining)])
    return np.cumprod(1 - betas)
