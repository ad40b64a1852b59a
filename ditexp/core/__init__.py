"""The protocols between the parts of ditexp. They import torch and value types only.

Time runs from t = 0 (noise) to t = 1 (data) along the rectified-flow path x_t = (1 - t) x_0 + t x_1, whose
velocity is v = x_1 - x_0 and whose samples solve dx/dt = v(x, t) (Liu et al. 2022, "Flow Straight and Fast").
"""

from __future__ import annotations

from ditexp.core.data import Data, Feature, TextFeature
from ditexp.core.fields import FlowMap, GuidedVelocity, Projection, StepNoise, VelocityField
from ditexp.core.models import (
    VAE,
    BetweenModel,
    Codec,
    EvaluatedModel,
    FlowMapModel,
    FlowModel,
    ModuleModel,
    ResizableModel,
    TextModel,
    VarianceModel,
)
from ditexp.core.sampling import Conditioner, Guidance, PromptedConditioner, Schedule, Solver
from ditexp.core.transformers import (
    Cache,
    CacheState,
    EncoderWalk,
    PartedModel,
    TransformerBlock,
    TransformerModel,
    Walk,
)

# Part of the id of every sample set. Raise it when a change to the built-in solvers, schedules, guidance, noise or
# models changes pixels, so that old sets are not reused for the new numerics.
NUMERICS_VERSION = 2


__all__ = [
    "NUMERICS_VERSION",
    "VAE",
    "BetweenModel",
    "Cache",
    "CacheState",
    "Codec",
    "Conditioner",
    "Data",
    "EncoderWalk",
    "EvaluatedModel",
    "Feature",
    "FlowMap",
    "FlowMapModel",
    "FlowModel",
    "Guidance",
    "GuidedVelocity",
    "ModuleModel",
    "PartedModel",
    "Projection",
    "PromptedConditioner",
    "ResizableModel",
    "Schedule",
    "Solver",
    "StepNoise",
    "TextFeature",
    "TextModel",
    "TransformerBlock",
    "TransformerModel",
    "VarianceModel",
    "VelocityField",
    "Walk",
]
