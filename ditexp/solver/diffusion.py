"""Diffusion coefficients w_t: how much noise the SDE adds at time t, and its score term removes again.

dx = [v + w_t s / 2] dt + sqrt(w_t) dW, t from 0 (noise) to 1 (data) along the rectified-flow path, s the score. Every
w_t >= 0 leaves the marginals of x_t unchanged (SiT: Ma et al. 2024, arXiv 2401.08740, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

# Formulas in (t, norm) under the names of SiT's code; `linear` is `sigma` on this path.
CHOSEN: dict[str, Callable[[float, float], float]] = {
    "constant": lambda t, norm: norm,
    "sigma": lambda t, norm: norm * (1 - t),
    "linear": lambda t, norm: norm * (1 - t),
    "decreasing": lambda t, norm: 0.25 * (norm * math.cos(math.pi * t) + 1) ** 2,
    "increasing_decreasing": lambda t, norm: norm * math.sin(math.pi * t) ** 2,
}
# Those derived from theory: the same SDE in either normalisation.
DERIVED = ("sbdm", "kl", "kl_eta")
FORMS = (*CHOSEN, *DERIVED)
NORMALISATIONS = ("paper", "code")


def coefficient(form: str, t: float, *, norm: float, normalisation: str, eta: float | None) -> float:
    """w_t at t in [0, 1], in the paper's normalisation; infinite for sbdm and kl at t = 0.

    normalisation: the equation that a chosen formula belongs to. SiT's code has dx = [v + w s] dt + sqrt(2 w) dW, so
    its w is half of the paper's.
    """
    if form in CHOSEN:
        return (2 if normalisation == "code" else 1) * CHOSEN[form](t, norm)
    if norm == 0:
        return 0.0
    return norm * (kl(t) if eta is None else kl_eta(t, eta))


def kl(t: float) -> float:
    """2 (1 - t) / t, which minimizes SiT's bound on the KL divergence to the data; sbdm's is the same on this path.

    An error e of the velocity makes an error of (1 + w / w_kl) e in the drift, and an error e of the score one of
    (w_kl + w) / 2 e. Either way the bound, the integral of the squared error of the drift over 2 w, has its minimum at
    w = w_kl.
    """
    return 2 * (1 - t) / t if t else math.inf


def kl_eta(t: float, eta: float) -> float:
    """w_kl / sqrt(1 + 2 eta w_kl^2), which minimizes that bound plus a cost of eta w, in units of the loss."""
    return 2 * (1 - t) / math.sqrt(t**2 + 8 * eta * (1 - t) ** 2)
