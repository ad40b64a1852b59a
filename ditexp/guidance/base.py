"""What all kinds of guidance share: how strong they are, at which times, and on which channels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ditexp.checks import choice, number, whole
from ditexp.core import EvaluatedModel, FlowMapModel, FlowModel, VelocityField
from ditexp.guidance.interval import CLOSED, PROFILES, UNITS, ends, is_inside, rounded, start_of_step
from ditexp.guidance.none import ModelField
from ditexp.terminal.notices import notice
from ditexp.values import Condition, added, append_dims, number_like, times_of

DECIDED_PER = ("evaluation", "step")


@dataclass(frozen=True, kw_only=True)
class Guided(ABC):
    """Moves a model's velocity c away from a worse velocity u: v = (1 + w) c - w u, unless a kind overrides `combine`.

    A kind defines u (`velocities`) and how the two are combined (`combine`). u is not evaluated where w = 0.

    weight, scale: exactly one of w (off at 0) and s = 1 + w (off at 1, as papers print it). Afterwards both are set.

    profile: how w depends on t. "constant"; "linear", 2 t w, and "cosine", (1 - cos(pi t)) w, whose mean over t is w
    (Wang et al. 2024, arXiv 2404.13040, section 4, in our t); "power_cosine", (1 - cos(pi t^4)) w / 2, which rises to w
    (Gao et al. 2023, "Masked Diffusion Transformer", arXiv 2303.14389, with the power of its code).

    interval: [low, high]; elsewhere w = 0. None: guidance acts everywhere. interval_in: the unit of its ends.
    "t": low <= t < high. If time runs from data to noise, an interval is mirrored: REPA's t <= 0.7 is [0.3, 1] here.
    "sigma": low < sigma <= high with sigma = (1 - t) / t, the noise per unit of data, as in Kynkaanniemi et al. 2024
    (arXiv 2404.07724); 0 and inf are the ends. It is the same half-open interval of t.
    "steps": low <= step < high, counted from 0: the times from the start of step `low` to the start of step `high`.

    interval_closed: which of the interval's ends in t belong to it: left (as above), right, both (REPA, RAE) or neither
    (JiT, DDT). The ends t = 0 and t = 1 always do.
    decided_per: "evaluation", at its own time. Heun's second evaluation is at the end of its step and counts as that
    later time: it is guided in step low - 1, and not in step high - 1. "step": all evaluations of a step have the
    weight of its start, as in REPA; this needs fixed steps.

    guided_channels: the number of channels that are guided, from the first on; the others stay conditional. None: all.
    DiT, SiT and LightningDiT guide 3.
    """

    worse: ClassVar[str] = "the unconditional velocity"  # u, in words

    weight: float | None = None
    scale: float | None = None
    profile: str = "constant"
    interval: tuple[float, float] | None = None
    interval_in: str = "t"
    interval_closed: str = added("left")
    decided_per: str = added("evaluation")
    guided_channels: int | None = None

    def __post_init__(self) -> None:
        self.set_strength()
        choice("guidance.profile", self.profile, PROFILES)
        choice("guidance.interval_in", self.interval_in, UNITS)
        choice("guidance.interval_closed", self.interval_closed, CLOSED)
        choice("guidance.decided_per", self.decided_per, DECIDED_PER)
        if self.interval is not None:
            object.__setattr__(self, "interval", ends(self.interval, self.interval_in))
        if self.guided_channels is not None:
            whole("guidance.guided_channels", self.guided_channels, minimum=1)

    def set_strength(self) -> None:
        if self.scale is None and self.weight is not None:
            weight = number("guidance.weight", self.weight)
        elif self.weight is None and self.scale is not None:
            # Rounded, so that scale=1.4 is weight=0.4 and not 0.3999999999999999.
            weight = round(number("guidance.scale", self.scale) - 1, 12)
        else:
            given = "both are given" if self.weight is not None else "neither is given"
            raise ValueError(
                "guidance needs exactly one of guidance.weight (w, off at 0) and guidance.scale (s = 1 + w, off at 1); "
                f"{given}"
            )
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "scale", 1 + weight)

    @property
    def w(self) -> float:
        """The weight, whether it or the scale was given."""
        assert self.weight is not None, "set_strength comes first"
        return self.weight

    @property
    def start(self) -> float:
        """The time at which samples begin to move."""
        return 0.0

    def on(self, grid: Sequence[float] | None) -> Self:
        """The same guidance with its interval in t, so that one interval has one sample set in whatever unit.

        grid: the times of the steps, or None if the solver is adaptive. Raises ValueError for steps that don't exist.
        """
        if self.interval is None:
            return self.simplified(None)
        low, high = self.interval
        if self.interval_in == "sigma":
            low, high = 1 / (1 + high), 1 / (1 + low)
        elif self.interval_in == "steps":
            low, high = (start_of_step(int(end), grid, "guidance.interval") for end in (low, high))
        interval = (rounded(low), rounded(high))
        if self.decided_per == "step" and grid is None:
            raise ValueError(
                "guidance.decided_per=step needs a solver with fixed steps, but this one is adaptive: choose evaluation"
            )
        return self.simplified(None if interval == (0, 1) else interval)

    def simplified(self, interval: tuple[float, float] | None) -> Self:
        """The same guidance with this interval in t, and without settings that have no effect on it."""
        settings: dict[str, Any] = {"scale": None, "interval": interval, "interval_in": "t"}
        if interval is None:
            settings["interval_closed"] = "left"
            if self.profile == "constant":
                settings["decided_per"] = "evaluation"
        return replace(self, **settings)

    def check(self, model: FlowModel) -> None:
        """Raise ValueError if the model cannot be guided in this way. Print a notice for a weight below 0."""
        if isinstance(model, FlowMapModel):
            raise ValueError(
                f"guidance: {type(self).__name__} can't guide {type(model).__name__}, a model of two times, whose "
                "guidance is inside the network: choose guidance=none"
            )
        if self.w < 0:
            effect = "draws the velocity towards" if self.w >= -1 else "drives the velocity past"
            notice(
                f"guidance.scale={self.scale:g} (guidance.weight={self.weight:g}) {effect} {self.worse}, away from "
                "the model's conditional velocity: guidance begins above scale 1 (weight 0)"
            )
        if self.guided_channels is not None and self.guided_channels > model.sample_shape[0]:
            raise ValueError(
                f"guidance.guided_channels={self.guided_channels}, but this model has {model.sample_shape[0]}: give at "
                "most that, or null for all"
            )

    def bind(self, model: EvaluatedModel, condition: Condition) -> VelocityField:
        if self.weight == 0:
            return ModelField(model, condition)
        assert self.interval is None or self.interval_in == "t", "on(grid) comes first"
        return GuidedField(self, model, condition, self.conditions(model, condition))

    def chosen(self, t: float | Tensor, x: Tensor) -> tuple[Tensor | None, Tensor | float]:
        """Which rows of x (B, ...) have a w other than 0 (None: all), and that w, a plain 0 if no row has one.

        Computed on the CPU if it depends on t. Where each sample has its own time, a GPU must be waited for: the size
        of the network's batch depends on it, and torch's functions round by an element's position in the tensor.
        """
        if self.interval is None and self.profile == "constant":
            return None, self.w
        if not isinstance(t, Tensor):
            w = self.weight_at(number_like(x, t).item())
            return None, number_like(x, w) if w and self.profile != "constant" else w
        weights = [self.weight_at(time) for time in t.tolist()]
        rows = [row for row, w in enumerate(weights) if w]
        if not rows:
            return None, 0.0
        if self.profile == "constant":
            return torch.tensor(rows, device=x.device), self.w
        return torch.tensor(rows, device=x.device), append_dims(x.new_tensor([weights[row] for row in rows]), x)

    def weight_at(self, t: float) -> float:
        inside = self.interval is None or is_inside(t, self.interval, self.interval_closed)
        return self.w * PROFILES[self.profile](t) if inside else 0.0

    @abstractmethod
    def conditions(self, model: EvaluatedModel, condition: Condition) -> Condition:
        """What `velocities` conditions on, made once for all evaluations of a batch with this condition."""

    @abstractmethod
    def velocities(
        self, model: EvaluatedModel, conditions: Condition, x: Tensor, t: Tensor, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """c of all samples (B, ...), and u of the samples in `rows` (R, ...), None for all. t: (B,)."""

    def combine(self, c: Tensor, u: Tensor, w: Tensor | float, *, x: Tensor, t: Tensor) -> Tensor:
        """The guided velocity. c, u and x: (R, ...), the guided channels of guided samples.

        t: (R, 1, ...). w: one for all, a number or (), or like t.
        """
        return (1 + w) * c - w * u


@dataclass(frozen=True)
class GuidedField:
    """The guided velocity of a batch with one condition.

    conditions: of `Guided.conditions`. decided_at: the time that decides on w; None: each its own.
    """

    guidance: Guided
    model: EvaluatedModel
    condition: Condition
    conditions: Condition
    decided_at: float | None = None

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        """The guided velocity; what the model returns beyond the channels of x is c's."""
        guidance, times = self.guidance, times_of(x, t)
        rows, w = guidance.chosen(t if self.decided_at is None else self.decided_at, x)
        if isinstance(w, float) and w == 0:
            return self.model(x, times, self.condition)
        c, u = guidance.velocities(self.model, self.conditions, x, times, rows)
        channels = slice(guidance.guided_channels or x.shape[1])
        part = (slice(None) if rows is None else rows, channels)
        guided = guidance.combine(c[part], u[:, channels], w, x=x[part], t=append_dims(times[part[0]], x).to(x.dtype))
        if guided.shape == c.shape and rows is None:
            return guided
        velocity = c.clone()
        velocity[part] = guided
        return velocity

    def of_step(self, start: float) -> GuidedField:
        return replace(self, decided_at=start) if self.guidance.decided_per == "step" else self

    def doubled(self, x: Tensor, t: float) -> Tensor:
        """If not all channels are guided, the null half needs u also where w = 0."""
        if self.guidance.guided_channels is None:
            return torch.cat([self(x, t)] * 2)
        times = times_of(x, t)
        c, u = self.guidance.velocities(self.model, self.conditions, x, times, None)
        channels = slice(self.guidance.guided_channels)
        w = number_like(x, self.guidance.weight_at(number_like(x, t).item()))
        of_times = append_dims(times, x).to(x.dtype)
        guided, null = c.clone(), u.clone()
        guided[:, channels] = self.guidance.combine(c[:, channels], u[:, channels], w, x=x[:, channels], t=of_times)
        null[:, channels] = guided[:, channels]
        return torch.cat([guided, null])

    def take(self, rows: Tensor) -> GuidedField:
        condition = self.condition.take(rows)
        return replace(self, condition=condition, conditions=self.guidance.conditions(self.model, condition))


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The scalar product of each sample of a and b (B, ...): (B,) float64."""
    return (a.double() * b.double()).flatten(1).sum(1)
