"""What all kinds of guidance share: how strong they are, at which times, and on which channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ditexp.core import FlowModel, VelocityField
from ditexp.terminal.notices import notice
from ditexp.values import Condition

# w(t) / w of each profile, t in [0, 1].
PROFILES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 2 * t,
    "cosine": lambda t: 1 - math.cos(math.pi * t),
    "power_cosine": lambda t: (1 - math.cos(math.pi * t**4)) / 2,
}

UNITS = ("t", "sigma", "steps")

# A time this close to an end of the interval is at it: float32 rounds times by up to 3e-8.
CLOSE = 1e-7


@dataclass(frozen=True, kw_only=True)
class Guided:
    """Moves a model's velocity c away from that of a worse one, u: v = (1 + w) c - w u where nothing else is said.

    A kind is what u is (`velocities`) and how the two are combined (`combine`). Where w = 0, u is not evaluated.

    weight, scale: exactly one of w (off at 0) and s = 1 + w (off at 1, as papers print it); afterwards both are set.

    profile: how w depends on t. "constant"; "linear", 2 t w, and "cosine", (1 - cos(pi t)) w, whose mean over t is w
    (Wang et al. 2024, arXiv 2404.13040, section 4, in our t); "power_cosine", (1 - cos(pi t^4)) w / 2, which rises to w
    (Gao et al. 2023, "Masked Diffusion Transformer", arXiv 2303.14389, with its code's power).

    interval: [low, high], outside of which w = 0; None: everywhere. interval_in: what its ends are.
    "t": low <= t < high, and t = 1 too if high is 1. Where time runs from data to noise an interval is mirrored: REPA's
    t <= 0.7 is [0.3, 1] here.
    "sigma": low < sigma <= high with sigma = (1 - t) / t, the noise per unit of data, as in Kynkaanniemi et al. 2024
    (arXiv 2404.07724); 0 and inf are the ends. The same half-open interval of t.
    "steps": low <= step < high, counted from 0, which stands for the times from the start of step `low` to that of step
    `high`: what counts is the time of an evaluation. So Heun's second one is guided in step low - 1, and not in step
    high - 1; REPA's Heun decides once a step.

    guided_channels: only so many channels, from the first on, are guided; the others stay conditional. None: all. DiT,
    SiT and LightningDiT guide 3.
    """

    worse: ClassVar[str] = "the unconditional velocity"  # what u is, in words

    weight: float | None = None
    scale: float | None = None
    profile: str = "constant"
    interval: tuple[float, float] | None = None
    interval_in: str = "t"
    guided_channels: int | None = None

    def __post_init__(self):
        self.set_strength()
        for name, choices in (("profile", PROFILES), ("interval_in", UNITS)):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"guidance.{name}={value}: choose from {', '.join(choices)}")
        if self.interval is not None:
            object.__setattr__(self, "interval", ends(self.interval, self.interval_in))
        channels = self.guided_channels
        if channels is not None and (not isinstance(channels, int) or isinstance(channels, bool) or channels < 1):
            raise ValueError(f"guidance.guided_channels={channels}: give a whole number of at least 1, or null for all")

    def set_strength(self) -> None:
        if (self.weight is None) == (self.scale is None):
            given = "both are given" if self.weight is not None else "neither is given"
            raise ValueError(
                "guidance takes exactly one of guidance.weight (w, off at 0) and guidance.scale (s = 1 + w, off at 1); "
                f"{given}"
            )
        name = "scale" if self.weight is None else "weight"
        value = number(f"guidance.{name}", getattr(self, name))
        # Rounded, so that scale=1.4 is weight=0.4 and not 0.3999999999999999.
        weight = value if name == "weight" else round(value - 1, 12)
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "scale", 1 + weight)

    def on(self, grid: Sequence[float] | None) -> Guided:
        """The same with its interval in t, so that one interval has one sample set, however it was spelled.

        grid: where the steps lie, or None if the solver chooses them. Raises ValueError for steps that don't exist.
        """
        if self.interval is None:
            return replace(self, scale=None, interval_in="t")
        low, high = self.interval
        if self.interval_in == "sigma":
            low, high = 1 / (1 + high), 1 / (1 + low)
        elif self.interval_in == "steps":
            low, high = (start_of_step(end, grid, "guidance.interval") for end in (low, high))
        interval = (settled(low), settled(high))
        return replace(self, scale=None, interval=None if interval == (0, 1) else interval, interval_in="t")

    def check(self, model: FlowModel) -> None:
        """Raise ValueError if the model cannot be guided so; a notice where it would be guided the other way round."""
        if self.weight < 0:
            effect = "draws the velocity towards" if self.weight >= -1 else "drives the velocity past"
            notice(
                f"guidance.scale={self.scale:g} (guidance.weight={self.weight:g}) {effect} {self.worse}, and away from "
                "the model's own under its condition: guidance begins above scale 1 (weight 0)"
            )
        if self.guided_channels is not None and self.guided_channels > model.sample_shape[0]:
            raise ValueError(
                f"guidance.guided_channels={self.guided_channels}, but this model has {model.sample_shape[0]}: give at "
                "most that, or null for all"
            )

    def bind(self, model: FlowModel, condition: Condition) -> VelocityField:
        if self.weight == 0:
            return lambda x, t: model(x, t, condition)
        assert self.interval is None or self.interval_in == "t", "on(grid) comes first"

        def field(x: Tensor, t: Tensor) -> Tensor:
            rows, w = self.guided(t, x)
            if rows is None:
                return model(x, t, condition)
            conditional, unconditional = self.velocities(model, condition, x, t, rows)
            part, velocity = (rows, slice(self.guided_channels)), conditional.clone()
            velocity[part] = self.combine(
                conditional[part], unconditional[:, part[1]], w, x=x[part], t=per_sample(t[rows], x)
            )
            return velocity

        return field

    def guided(self, t: Tensor, x: Tensor) -> tuple[Tensor | slice | None, Tensor | float]:
        """Which rows of x (B, ...) at times t (B,) have a w other than 0 (None: not one), and that w.

        Found on the CPU where it depends on t. A GPU must be waited for in any case, since the size of the network's
        batch depends on it; and torch's functions round with a number's place in a tensor, so that a sample would
        depend on its batch.
        """
        if self.interval is None and self.profile == "constant":
            return slice(None), self.weight
        weights = [self.weight_at(time) for time in t.tolist()]
        rows = [row for row, w in enumerate(weights) if w]
        if not rows:
            return None, 0.0
        w = self.weight if self.profile == "constant" else per_sample(x.new_tensor([weights[row] for row in rows]), x)
        return torch.tensor(rows, device=x.device), w

    def weight_at(self, t: float) -> float:
        low, high = self.interval or (0, 1)
        inside = low - CLOSE <= t and (t < high - CLOSE or high == 1)
        return self.weight * PROFILES[self.profile](t) if inside else 0.0

    def velocities(
        self, model: FlowModel, condition: Condition, x: Tensor, t: Tensor, rows: Tensor | slice
    ) -> tuple[Tensor, Tensor]:
        """c of all samples (B, ...) and u of those in `rows` (R, ...)."""
        raise NotImplementedError

    def combine(self, c: Tensor, u: Tensor, w: Tensor | float, *, x: Tensor, t: Tensor) -> Tensor:
        """The guided velocity. c, u and x: (R, ...), the guided channels of guided samples; w and t: (R, 1, ...)."""
        return (1 + w) * c - w * u


def ends(interval: Sequence[float], unit: str) -> tuple[float, float]:
    """The interval as two numbers. Raises ValueError unless it is [low, high] within what its unit has."""
    most = {"t": 1, "sigma": math.inf, "steps": math.inf}[unit]
    try:
        low, high = (float(end) for end in interval)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if unit == "steps" and low.is_integer() and high.is_integer():
        low, high = int(low), int(high)
    if not 0 <= low < high <= most or (unit == "steps" and not isinstance(high, int)):
        what = "whole numbers" if unit == "steps" else "numbers"
        given = list(interval) if isinstance(interval, Sequence) and not isinstance(interval, str) else interval
        raise ValueError(
            f"guidance.interval={given}: give [low, high], {what} with 0 <= low < high"
            f"{' <= 1' if most == 1 else ''} (guidance.interval_in={unit}), or null for everywhere"
        )
    return low, high


def start_of_step(step: int, grid: Sequence[float] | None, setting: str) -> float:
    """t where a step of the grid starts; the step after the last one starts at 1."""
    if grid is None:
        raise ValueError(f"{setting} is in steps, which an adaptive solver has not: give it in t ({setting}_in=t)")
    if step >= len(grid):
        raise ValueError(f"{setting} goes to step {step}, but there are {len(grid) - 1}, counted from 0")
    return grid[step]


def settled(t: float) -> float:
    """Without the last digits, in which spellings of the same time differ."""
    return round(float(t), 9)


def number(setting: str, value: float) -> float:
    """The value of a setting. Raises ValueError unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{setting}={value}: give a number")
    return float(value)


def per_sample(values: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...) in x's dtype, to go with x (B, ...)."""
    return values.view(-1, *[1] * (x.dim() - 1)).to(x.dtype)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The scalar product of each sample of a and b (B, ...): (B,) float64."""
    return (a.double() * b.double()).flatten(1).sum(1)
