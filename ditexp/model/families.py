"""The published families of models: how to know their files, and what no file tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ditexp.checks import choice, number
from ditexp.model.architecture import BOTTLENECK, HEAD, PATCHES, QK_NORM, ROTATIONS
from ditexp.model.prediction import Data, Prediction, Velocity

GATED = "blocks.0.mlp.w12.weight"
NORM = "blocks.0.norm1.weight"
IN_CONTEXT = "in_context_posemb"
PROJECTORS = "projectors."
STATISTICS = "bn.running_mean"
NOISE_SCALES = {512: 2.0}  # of JiT by its images' side in pixels; 1 at 256


@dataclass(frozen=True, kw_only=True)
class Family:
    """A published family of models.

    name: the value of model.family. title: in messages.
    has: names of weights in all of its files. any_of: it has one of these at least, if there are any. lacks: beginnings
    of names in none of its files. variance: whether the head also predicts a variance; None: in some files.
    dropped: beginnings of names that sampling does not need.
    fixed: arguments of `infer_architecture` that no weight tells.
    arguments: of its training script, in a checkpoint's `args`; they and settings of the same name choose the
    prediction. predict: the prediction of those that are known, with the images' side as `side`.
    output_at_noise: the correlation of a trained network's output with its input where that is noise alone: near 1 if
    it predicts noise, -1 if it predicts data - noise, None if it is unknown.
    """

    name: str
    title: str
    has: tuple[str, ...] = (PATCHES,)
    any_of: tuple[str, ...] = ()
    lacks: tuple[str, ...] = (BOTTLENECK, IN_CONTEXT)
    variance: bool | None = None
    dropped: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    predict: Callable[[Mapping[str, Any]], Prediction]
    output_at_noise: float | None

    def misfit(self, weights: Mapping[str, Tensor]) -> str | None:
        """The first thing that none of its files has, or lacks; None if there is nothing."""
        for key in self.has:
            if key not in weights:
                return f"it has no {key}"
        for start in self.lacks:
            if found := next((key for key in weights if key.startswith(start)), None):
                return f"it has {found}"
        if self.any_of and not any(key in weights for key in self.any_of):
            return f"it has none of {', '.join(self.any_of)}"
        if self.variance is not None and has_variance(weights) is not self.variance:
            rows = weights[HEAD].shape[0]
            expected = 2 * rows if self.variance else rows // 2
            return f"{HEAD} has {rows} rows, not {expected} {'with' if self.variance else 'without'} a variance"
        return None

    def is_dropped(self, key: str) -> bool:
        return key.startswith(self.dropped) if self.dropped else False


def has_variance(weights: Mapping[str, Tensor]) -> bool:
    """Whether the head has two channels for each channel of the input."""
    patches = weights.get(PATCHES)
    if patches is None or patches.dim() != 4 or HEAD not in weights or not weights[HEAD].dim():
        return False
    return weights[HEAD].shape[0] == 2 * patches[0].numel()


def predict_velocity(known: Mapping[str, Any]) -> Prediction:
    return Velocity()


def predict_reversed_velocity(known: Mapping[str, Any]) -> Prediction:
    choice("path-type", known.get("path_type", "linear"), ("linear",))
    return Velocity(reversed=True)


def predict_data(known: Mapping[str, Any]) -> Prediction:
    scale = known.get("noise_scale", NOISE_SCALES.get(known["side"], 1.0))
    t_eps = known.get("t_eps", Data.t_eps)
    return Data(t_eps=number("t_eps", t_eps, above=0), scale=number("model.noise_scale", scale, above=0))


PLAIN = (NORM, GATED, "feat_rope.", BOTTLENECK, IN_CONTEXT)  # what SiT's blocks don't have

SIT = Family(
    name="sit",
    title="SiT",
    lacks=(PROJECTORS, "bn.", "decoder_blocks.", QK_NORM, *PLAIN),
    arguments=("path_type", "prediction"),
    predict=predict_velocity,
    output_at_noise=-1,
)
DIT = Family(
    name="dit",
    title="DiT",
    lacks=SIT.lacks,
    variance=True,
    predict=predict_velocity,
    output_at_noise=1,
)
REPA = Family(
    name="repa",
    title="REPA",
    lacks=PLAIN,
    variance=False,
    dropped=(PROJECTORS, "bn."),
    arguments=("path_type",),
    predict=predict_reversed_velocity,
    output_at_noise=1,
)
LIGHTNINGDIT = Family(
    name="lightningdit",
    title="LightningDiT",
    any_of=(NORM, GATED, ROTATIONS, QK_NORM),
    lacks=(PROJECTORS, "bn.", "decoder_blocks.", BOTTLENECK, IN_CONTEXT),
    dropped=("feat_rope.",),
    predict=predict_velocity,
    output_at_noise=-1,
)
JIT = Family(
    name="jit",
    title="JiT",
    has=(BOTTLENECK, "x_embedder.proj2.weight", NORM, GATED, QK_NORM),
    lacks=(PATCHES, PROJECTORS, "blocks.0.attn.q_norm.bias"),
    variance=False,
    dropped=("feat_rope.", "feat_rope_incontext."),
    fixed={"rms": "rms_float32", "rope": True, "float32_logits": True},
    arguments=("noise_scale", "t_eps"),
    predict=predict_data,
    output_at_noise=None,
)
FAMILIES = {family.name: family for family in (SIT, DIT, REPA, LIGHTNINGDIT, JIT)}


def fitting(weights: Mapping[str, Tensor]) -> list[Family]:
    """The families whose files these weights could be from."""
    return [family for family in FAMILIES.values() if family.misfit(weights) is None]


def chosen_family(weights: Mapping[str, Tensor], given: str | None, *, name: str) -> Family:
    """The family that is given, or the one that alone has such weights. name: the file in messages.

    Raises ValueError if the weights contradict it, or fit several or none.
    """
    found = fitting(weights)
    titles = " or ".join(family.title for family in found)
    if given is not None:
        family = FAMILIES[choice("model.family", given, FAMILIES)]
        if wrong := family.misfit(weights):
            more = f"; it looks like {titles}" if found else ""
            raise ValueError(f"{name} is not a {family.title}: {wrong}{more}")
        return family
    if len(found) == 1:
        return found[0]
    if not found:
        reason = next(filter(None, (family.misfit(weights) for family in FAMILIES.values())))
        raise ValueError(f"{name} is of no known family: {reason}; known are {', '.join(FAMILIES)}")
    names = "|".join(family.name for family in found)
    raise ValueError(f"{name} may be {titles}, whose files look alike: say which by model.family={names}")
