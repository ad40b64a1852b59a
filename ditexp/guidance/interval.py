"""At which times guidance acts, the units and ends of its interval, and how its weight depends on time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

UNITS = ("t", "sigma", "steps")
# Whether the low end and the high end belong to the interval.
CLOSED = {"left": (True, False), "right": (False, True), "both": (True, True), "neither": (False, False)}

# A time this close to an end of the interval is at that end: float32 rounds times by up to 3e-8.
CLOSE = 1e-7

# w(t) / w of each profile, t in [0, 1].
PROFILES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 2 * t,
    "cosine": lambda t: 1 - math.cos(math.pi * t),
    "power_cosine": lambda t: (1 - math.cos(math.pi * t**4)) / 2,
}


def is_inside(t: float, interval: tuple[float, float], closed: str) -> bool:
    """Whether t is in the interval; its ends 0 and 1 always are. closed: one of CLOSED."""
    low, high = interval
    has_low, has_high = CLOSED[closed]
    begun = low == 0 or (t >= low - CLOSE if has_low else t > low + CLOSE)
    ended = high != 1 and (t > high + CLOSE if has_high else t >= high - CLOSE)
    return begun and not ended


def ends(interval: Sequence[float], unit: str) -> tuple[float, float]:
    """The interval as two numbers. Raises ValueError unless it is [low, high] within the bounds of its unit."""
    maximum = {"t": 1, "sigma": math.inf, "steps": math.inf}[unit]
    try:
        low, high = (float(end) for end in interval)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    are_whole = low % 1 == 0 and high % 1 == 0
    if not 0 <= low < high <= maximum or (unit == "steps" and not are_whole):
        what = "whole numbers" if unit == "steps" else "numbers"
        given = list(interval) if isinstance(interval, Sequence) and not isinstance(interval, str) else interval
        raise ValueError(
            f"guidance.interval={given}: give [low, high], {what} with 0 <= low < high"
            f"{' <= 1' if maximum == 1 else ''} (guidance.interval_in={unit}), or null for everywhere"
        )
    return low, high


def start_of_step(step: int, grid: Sequence[float] | None, setting: str) -> float:
    """The time at which a step of the grid starts; the one after the last starts at 1, wherever the grid ends."""
    if grid is None:
        raise ValueError(
            f"{setting} is in steps, but an adaptive solver has no fixed steps: give it in t ({setting}_in=t)"
        )
    if step >= len(grid):
        raise ValueError(f"{setting} goes to step {step}, but there are {len(grid) - 1}, counted from 0")
    return grid[step] if step < len(grid) - 1 else 1.0


def rounded(t: float) -> float:
    """The time without its last digits, which depend on the unit that it was given in."""
    return round(float(t), 9)
