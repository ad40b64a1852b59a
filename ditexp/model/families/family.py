"""What a family of published models is: how to know its files, and what no file says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ditexp.files.reading import LINE
from ditexp.model.architecture import BOTTLENECK, HEAD, PATCHES, infer_architecture
from ditexp.model.dit import DiT
from ditexp.model.label_network import LabelNetwork
from ditexp.model.prediction import Prediction
from ditexp.terminal.notices import in_line

IN_CONTEXT = "in_context_posemb"
SPAN, TOKENS = "r_embedder.", "omega_tokens"  # of networks of two times
XL_2: Mapping[str, Any] = {
    "input_size": 32,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 1152,
    "depth": 28,
    "num_heads": 16,
    "num_classes": 1000,
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A published family of models.

    name: the value of model.family. title: in messages. variant_of: the name of a family that can read its files, too.
    has: names of weights in all of its files. any_of: it has one of these at least, if there are any. lacks: beginnings
    of names in none of its files. variance: whether the head also predicts a variance; None: in some files.
    dropped: beginnings of names that sampling does not need.
    network: the class of the network; its state dict has the names of the files. infer: its arguments from the weights,
    called with them and with num_heads, num_classes and in_context_start, None for those that are not given, `sizes`,
    further settings of the model, if they are given, and `fixed`, what no weight tells; see `infer_architecture` and
    its errors. published: the network's arguments for a size that is published, on which plans without a file count.
    of_two_times: whether the network is a FlowMapModel's, which PretrainedFlowMap loads.
    arguments: of its training script, in a checkpoint's `args`; they and settings of the same name choose the
    prediction. predict: the prediction of those that are known, with the images' side as `side`.
    at_noise: the time that a network is given where its input is noise alone, and the sign of the correlation of its
    output with its input there; None if they hardly correlate.
    """

    name: str
    title: str
    variant_of: str | None = None
    has: tuple[str, ...] = (PATCHES,)
    any_of: tuple[str, ...] = ()
    lacks: tuple[str, ...] = (BOTTLENECK, IN_CONTEXT)
    variance: bool | None = None
    dropped: tuple[str, ...] = ()
    network: type[LabelNetwork] = DiT
    infer: Callable[..., dict[str, Any]] = infer_architecture
    sizes: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=lambda: XL_2)
    of_two_times: bool = False
    arguments: tuple[str, ...] = ()
    predict: Callable[[Mapping[str, Any]], Prediction]
    at_noise: tuple[float, int] | None

    def architecture(self, weights: Mapping[str, Tensor], **settings: Any) -> dict[str, Any]:
        """The network's arguments, see `infer`. settings: None for those that are not given.

        Raises ValueError for settings that the family has no use for, besides those of `infer`.
        """
        known = {key: settings.pop(key, None) for key in ("num_heads", "num_classes", "in_context_start")}
        given = {key: value for key, value in settings.items() if value is not None}
        self.require_known(given, self.sizes)
        return self.infer(weights, **known, **given, **self.fixed)

    def require_known(self, settings: Mapping[str, Any], known: tuple[str, ...]) -> None:
        if strange := next((key for key in settings if key not in known), None):
            raise ValueError(f"model.{strange}={settings[strange]}: {self.title} has no {strange}: leave it null")

    @property
    def with_article(self) -> str:
        return f"{'an' if self.title[0] in 'AEIOUaeiou' else 'a'} {self.title}"

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
        self.require_known(settings, self.arguments)
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
