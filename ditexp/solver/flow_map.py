from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ditexp.core import FlowMap, StepNoise, VelocityField
from ditexp.solver.base import FixedStep, Step


@dataclass(frozen=True)
class FlowMapJumps(FixedStep):
    """Jumps along the flow of a model of two times: x <- x + (t1 - t0) u(x, t0, t1), one evaluation a jump.

    u is the average velocity between t0 and t1 (Geng et al. 2025, arXiv 2505.13447, equation 10). With an exact u every
    grid gives the same samples, also that of one step; so there is no order.
    """

    uses_flow_map = True

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Step:
        assert isinstance(field, FlowMap), "bind checks it"
        return partial(jump, field)


def jump(field: FlowMap, x: Tensor, t0: float, t1: float) -> Tensor:
    return x + (t1 - t0) * field.average(x, t0, t1)
