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


@dataclass(frozen=True, kw_only=True)
class Family:
    """A published family of models.

    name: the value of model.family. title: in messages.
    has: names of weights in all of its files. any_of: it has one of these at least, if there are any. lacks: beginnings
    of names in none of its files. variance: whether the head also predicts a variance; None: in some files.
    dropped: beginnings of names that sampling does not need.
    network: the class of the network; its state dict has the names of the files. infer: its arguments from the weights,
    called with them and with num_heads, num_classes and in_context_start, None for those that are not given, and
    `fixed`, what no weight tells; see `infer_architecture` and its errors.
    of_two_times: whether the network is a FlowMapModel's, which PretrainedFlowMap loads.
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
    network: type[LabelNetwork] = DiT
    infer: Callable[..., dict[str, Any]] = infer_architecture
    fixed: Mapping[str, Any] = field(default_factory=dict)
    of_two_times: bool = False
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
