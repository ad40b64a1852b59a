"""A trained MeanFlow, iMF or pMF from its checkpoint: a model of two times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ditexp.checks import number
from ditexp.model.families.flow_maps import RECIPES
from ditexp.model.flow_map_network import FlowMapNetwork, InnerGuidance
from ditexp.model.labelled import Labelled, given
from ditexp.model.prediction import Data
from ditexp.model.published import Published, load_published
from ditexp.pixels import Pixels
from ditexp.terminal.notices import notice
from ditexp.values import Condition


class PretrainedFlowMap(Labelled[FlowMapNetwork]):
    """The average velocity of a published model of two times, from its checkpoint.

    checkpoint, weights, num_heads, num_classes: as of PretrainedDiT. family: meanflow, imf or pmf; None to recognise
    it.
    omega: the scale of the guidance that iMF and pMF have inside; 1 is none. interval: (low, high), the times in [0, 1]
    at which it acts, where 0 is noise; their scripts' time runs from data to noise, so their [0.4, 0.65] is
    [0.35, 0.6] here. The network is told both, whatever the steps. None for what the authors sample a model of this
    size with, in one step. MeanFlow's guidance is fixed in training.
    noise_scale: of pMF, the standard deviation of its noise; None for that of the published model of this size.
    Raises ValueError for a file that is missing, damaged, contains code, or is no such model, and for settings that its
    network has no use for.
    """

    start, start_std = 0.0, 1.0

    def __init__(
        self,
        *,
        checkpoint: str,
        family: str | None = None,
        weights: str | None = None,
        num_heads: int | None = None,
        num_classes: int | None = None,
        omega: float | None = None,
        interval: Sequence[float] | None = None,
        noise_scale: float | None = None,
    ) -> None:
        found = load_published(
            checkpoint,
            family=family,
            weights=weights,
            num_heads=num_heads,
            num_classes=num_classes,
            of_two_times=True,
        )
        assert isinstance(found.network, FlowMapNetwork), "as of_two_times says"
        self.family, self.network = found.family, found.network
        chosen = with_recipe(found, {"omega": omega, "interval": interval, "noise_scale": noise_scale})
        self.prediction = found.prediction(**chosen)
        self.guidance = inner_guidance(chosen["omega"], chosen["interval"]) if chosen["omega"] is not None else None
        side, channels = self.network.input_size, self.network.in_channels
        self.sample_shape = (channels, side, side)
        scale = self.prediction.scale if isinstance(self.prediction, Data) else 1.0
        self.codec = Pixels((side, side, channels), scale) if channels in (1, 3) else None
        self.num_classes, self.has_null = self.network.num_classes, self.network.has_null
        self.class_names = found.contents.trained.class_names
        self.identity = found.identity(self.prediction)
        if self.guidance:
            self.identity |= {"omega": float(chosen["omega"]), "interval": list(map(float, chosen["interval"]))}
        found.announce(checkpoint)
        if self.guidance and omega is None and interval is None:
            notice(
                f"{found.name} is guided with model.omega={chosen['omega']:g} and model.interval={chosen['interval']}, "
                "as its authors do in one step"
            )

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return self.average_velocity(x, t, condition, t)

    def average_velocity(self, x: Tensor, t: Tensor, condition: Condition, until: Tensor) -> Tensor:
        x_given, time = self.prediction.inputs(x, t)
        output = self.network.average(x_given, time, until - t, given(condition), self.guidance)
        return self.prediction.velocity(output, x, t)


def with_recipe(found: Published, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, completed by what the authors sample a model of this size with, where its family has them.

    Raises ValueError if no published model has this size.
    """
    network, chosen = found.network, dict(settings)
    depth, width, patch = len(network.blocks), network.hidden_size, network.patch_size
    recipe = RECIPES.get((depth, width, patch))
    for key in found.family.arguments:
        if chosen[key] is None and recipe is None:
            raise ValueError(
                f"model.{key} is needed: no published {found.family.title} has {depth} blocks of width {width} and "
                f"patches of {patch}"
            )
        if chosen[key] is None and recipe is not None:
            chosen[key] = recipe.settings[key]
    return chosen


def inner_guidance(omega: float, interval: Sequence[float]) -> InnerGuidance:
    """In the network's time. Raises ValueError for other numbers than a scale of at least 1 and two times in order."""
    number("model.omega", omega, minimum=1)
    ends = list(interval) if isinstance(interval, Sequence) and not isinstance(interval, str) else []
    if len(ends) != 2:
        raise ValueError(f"model.interval={interval}: give [low, high], two times between 0 (noise) and 1 (data)")
    low = number("model.interval", ends[0], minimum=0, maximum=1)
    high = number("model.interval", ends[1], minimum=low, maximum=1)
    return InnerGuidance(omega, 1 - high, 1 - low)
