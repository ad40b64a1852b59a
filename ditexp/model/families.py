"""The published families of models: how to know their files, and what no file tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ditexp.checks import choice, number
from ditexp.files.reading import LINE, unfit
from ditexp.model.architecture import BOTTLENECK, HEAD, PATCHES, QK_NORM, ROTATIONS
from ditexp.model.paths import Discrete
from ditexp.model.prediction import Data, Noise, Prediction, Velocity, sit_prediction
from ditexp.terminal.notices import in_line

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
    at_noise: the time that a network is given where its input is noise alone, and the sign of the correlation of its
    output with its input there; None if they hardly correlate.
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
    at_noise: tuple[float, int] | None

    def misfit(self, weights: Mapping[str, Tensor]) -> str | None:
        """The first thing that none of its files has, or lacks; None if there is nothing."""
        for key in self.has:
            if key not in weights:
                return f"it has no {key}"
        for start in self.lacks:
            if found := next((key for key in weights if key.startswith(start)), None):
                return f"it has {found}"
        if self.any_of and not any(key in weights for key in self.any_of):
            return f"it has none of {', '.join(self.any_of[:2])}, ..."
        if self.variance is not None and has_variance(weights) is not self.variance:
            rows = len(weights[HEAD]) if weights[HEAD].dim() else 0
            expected = 2 * rows if self.variance else rows // 2
            return f"{HEAD} has {rows} rows, not {expected} {'with' if self.variance else 'without'} a variance"
        return None

    def prediction(self, args: Mapping[str, Any], given: Mapping[str, Any], *, side: int, name: str) -> Prediction:
        """What a network predicts. args: the training's. given: settings, None for those that are not. side: in pixels.

        Raises ValueError, with the file's name, for a value that is wrong or that the family has no use for.
        """
        settings = {key: value for key, value in given.items() if value is not None}
        if strange := next((key for key in settings if key not in self.arguments), None):
            raise ValueError(f"model.{strange}={settings[strange]}: {self.title} has no {strange}: leave it null")
        try:
            return self.predict({"side": side, **self.trained_with(args), **settings})
        except ValueError as error:
            raise ValueError(in_line(f"{name}: {error}", LINE)) from None

    def trained_with(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the training's arguments that choose the prediction."""
        transport = args.get("transport")  # LightningDiT's part of a configuration
        known = {**args, **transport} if isinstance(transport, dict) else args
        return {key: known[key] for key in self.arguments if known.get(key) is not None}

    def is_dropped(self, key: str) -> bool:
        return key.startswith(self.dropped)


def has_variance(weights: Mapping[str, Tensor]) -> bool:
    """Whether the head has two channels for each channel of the input."""
    patches = weights.get(PATCHES)
    if patches is None or patches.dim() != 4 or HEAD not in weights or not weights[HEAD].dim():
        return False
    return weights[HEAD].shape[0] == 2 * math.prod(patches.shape[1:])


def predict_velocity(known: Mapping[str, Any]) -> Prediction:
    return sit_prediction(path_type=known.get("path_type", "Linear"), prediction=known.get("prediction", "velocity"))


def predict_noise(known: Mapping[str, Any]) -> Prediction:
    return Noise(Discrete())


def predict_reversed_velocity(known: Mapping[str, Any]) -> Prediction:
    choice("path_type", known.get("path_type", "linear"), ("linear",))
    return Velocity(reversed=True)


def predict_data(known: Mapping[str, Any]) -> Prediction:
    scale = known.get("noise_scale", NOISE_SCALES.get(known["side"], 1.0))
    t_eps = known.get("t_eps", Data.t_eps)
    return Data(t_eps=number("t_eps", t_eps, above=0), scale=number("noise_scale", scale, above=0))


PLAIN = (NORM, GATED, "feat_rope.", BOTTLENECK, IN_CONTEXT)  # what SiT's blocks don't have

SIT = Family(
    name="sit",
    title="SiT",
    lacks=(PROJECTORS, "bn.", QK_NORM, *PLAIN),
    arguments=("path_type", "prediction"),
    predict=predict_velocity,
    at_noise=(0, -1),
)
DIT = Family(
    name="dit",
    title="DiT",
    lacks=SIT.lacks,
    variance=True,
    predict=predict_noise,
    at_noise=(999, 1),
)
REPA = Family(
    name="repa",
    title="REPA",
    lacks=PLAIN,
    variance=False,
    dropped=(PROJECTORS, "bn."),
    arguments=("path_type",),
    predict=predict_reversed_velocity,
    at_noise=(1, 1),
)
LIGHTNINGDIT = Family(
    name="lightningdit",
    title="LightningDiT",
    any_of=(NORM, GATED, ROTATIONS, QK_NORM),
    lacks=(PROJECTORS, "bn.", BOTTLENECK, IN_CONTEXT),
    dropped=("feat_rope.",),
    arguments=("path_type", "prediction"),
    predict=predict_velocity,
    at_noise=(0, -1),
)
JIT = Family(
    name="jit",
    title="JiT",
    has=(BOTTLENECK, "x_embedder.proj2.weight", NORM, GATED, QK_NORM),
    lacks=(PATCHES, PROJECTORS, "blocks.0.attn.q_norm.bias"),
    dropped=("feat_rope.", "feat_rope_incontext."),
    fixed={"rms": "rms_float32", "rope": True, "float32_logits": True},
    arguments=("noise_scale", "t_eps"),
    predict=predict_data,
    at_noise=None,
)
FAMILIES = {family.name: family for family in (SIT, DIT, REPA, LIGHTNINGDIT, JIT)}


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the `decoder_blocks` of early files of REPA as the further `blocks` that they are."""
    encoder = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})

    def name(key: str) -> str:
        kind, number, rest = [*key.split(".", 2), "", ""][:3]
        is_later = kind == "decoder_blocks" and number.isdecimal() and len(number) < 5
        return f"blocks.{encoder + int(number)}.{rest}" if is_later else key

    return {name(key): value for key, value in weights.items()}


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
            remedy = f"it looks like {titles}" if found else "give another file"
            raise unfit(name, f"is not a {family.title}: {wrong}", remedy)
        return family
    if len(found) == 1:
        return found[0]
    if not found:
        reason = next(filter(None, (family.misfit(weights) for family in FAMILIES.values())))
        raise unfit(name, f"is of no known family: {reason}", f"known are {', '.join(FAMILIES)}")
    names = "|".join(family.name for family in found)
    raise ValueError(f"{name} may be {titles}, whose files look alike: say which by model.family={names}")
