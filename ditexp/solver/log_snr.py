"""What solvers in log-SNR share: Euler's step, and the correction of a polynomial through the predicted data.

With log-SNR l = log(t / (1 - t)) and predicted data D = x + (1 - t) v, the flow dx/dt = v from s to t is exactly

    x_t = (1 - t) / (1 - s) x_s + (1 - t) integral of D d(e^l),    e^l = t / (1 - t)

(Lu et al. 2022, "DPM-Solver++", arXiv 2211.01095, proposition 4.1, for alpha = t and sigma = 1 - t). With D constant
it is (1 - t) / (1 - s) x_s + (t - s) / (1 - s) D = x_s + (t - s) v_s: first-order DPM-Solver++, which is DDIM, is
Euler's method on this path. To be finite and exact at t = 0 and 1, every step is written as Euler's plus a correction:

    x_t = x_s + (t - s) v_s + t sum_j w_j (D_j - D_s),    sum_j w_j u_j^m = J_m,    u = (l - l_s) / h,  h = l_t - l_s

with J_m(h) = h * integral over u in [0, 1] of e^(-h (1 - u)) u^m, which integrates the polynomial in l through D_s and
the D_j exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ditexp.checks import choice
from ditexp.solver.base import FixedStep
from ditexp.solver.runge_kutta import weighted


class Point(NamedTuple):
    """A point of the path: its log-SNR, and the data (B, ...) predicted there."""

    log_snr: float
    data: Tensor


@dataclass(frozen=True)
class LogSNR(FixedStep):
    """A solver whose polynomials are in log-SNR.

    nominal_order: the order in the paper. It is reached on grids that are smooth in log-SNR, such as equal steps in
    log-SNR from t = 0.05 to 0.95. variant: how the integral is approximated, see each solver.

    order: 2, whatever the nominal order, on a grid that reaches t = 0 and 1, since log-SNR is infinite there. On steps
    i/N with t ~ (i/N)^p near 0 and 1 - t ~ (1 - i/N)^q near 1, the steps near an end keep their length in log-SNR,
    p / i, as N grows. D is smooth in t, and dD/dt = (1 - t) dv/dt, so the i-th step from either end, with a polynomial
    through k points, has an error of about t^2 h^(k+1) or (1 - t)^2 h^(k+1), that is N^-2p i^(2p-k-1). In total,
    together with the steps at the ends, which are Euler's, the order is min(k, 2p, 2q), less a factor of log N if
    k = 2p or k = 2q: two on uniform steps (p = q = 1), where 2M has the logarithm; k on `cosine` (p = q = 2).
    """

    order = 2
    nominal_orders: ClassVar[tuple[int, ...]] = (2, 3)
    variants: ClassVar[tuple[str, ...]]

    nominal_order: int = 2
    variant: str = ""

    def __post_init__(self) -> None:
        choice("solver.nominal_order", self.nominal_order, self.nominal_orders)
        choice("solver.variant", self.variant, self.variants)

    def moments(self, h: float, count: int) -> Sequence[float]:
        """J_1 ... J_count, or what the method uses in their place. h > 0 may be infinite."""
        return exact_moments(h, count)[1:]

    def beyond_euler(self, start: Point, others: Sequence[Point], target: float) -> Tensor | float:
        """sum_j w_j (D_j - D_s) of a step from `start` to the log-SNR `target`. others: nearest to the start first.

        A point at t = 0 is infinitely far away, and in that limit drops out together with the highest moment; if it is
        the only one, Euler's step remains. A step to t = 1 is infinitely long and would extrapolate the polynomial
        without bound: it too is Euler's, as in all other implementations.
        """
        h = target - start.log_snr
        moments = self.moments(h, len(others))
        positions = [1.0 if point.log_snr == target else (point.log_snr - start.log_snr) / h for point in others]
        near = [position for position in positions if math.isfinite(position)]
        if not near or target == math.inf:
            return 0.0
        powers = torch.tensor([[u**m for u in near] for m in range(1, len(near) + 1)], dtype=torch.float64)
        weights = torch.linalg.solve(powers, torch.tensor(moments[: len(near)], dtype=torch.float64))
        return weighted(weights.tolist(), [point.data - start.data for point, _ in zip(others, near)])


def exact_moments(h: float, count: int) -> list[float]:
    """J_0 ... J_count, by parts: J_0 = 1 - e^-h, J_m = 1 - m / h J_(m-1).

    Rounding errors are about eps / h^m, but J_m multiplies m-th differences of D, which are about h^m.
    """
    found = [-math.expm1(-h)]
    for m in range(1, count + 1):
        found.append(1 - m / h * found[-1])
    return found


def log_snr_at(t: float) -> float:
    """log(t / (1 - t)): -inf at t = 0, inf at t = 1."""
    if t in (0, 1):
        return math.inf if t else -math.inf
    return math.log(t / (1 - t))


def time_at(log_snr: float) -> float:
    return 1 / (1 + math.exp(-log_snr))
