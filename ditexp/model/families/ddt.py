"""DDT (Wang et al. 2025): an encoder modulates a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ditexp.model.architecture import PATCHES
from ditexp.model.ddt import DDT as Network
from ditexp.model.ddt import W1, infer_ddt
from ditexp.model.families.family import XL_2, Family
from ditexp.model.prediction import Prediction, Velocity

ENCODER = "s_embedder."


def predict_velocity(known: Mapping[str, Any]) -> Prediction:
    return Velocity()


DDT = Family(
    name="ddt",
    title="DDT",
    has=(PATCHES, f"{ENCODER}proj.weight", W1, "blocks.0.adaLN_modulation.0.weight"),
    network=Network,
    infer=infer_ddt,
    sizes=("encoder_depth", "input_size"),
    published={**XL_2, "encoder_depth": 22, "mlp_width": 3072},
    predict=predict_velocity,
    at_noise=(0, -1),
)
