"""Checks of the user's settings. Each mistake is one line with the value, the choices and the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ditexp.terminal.notices import notice

if TYPE_CHECKING:
    from ditexp.core import Data, FlowModel

T = TypeVar("T")
LARGEST = 2**63 - 1  # numpy turns larger whole numbers into floats


class ConfigError(ValueError):
    """The user's settings are wrong. Each line is one mistake, with the value, the choices and the remedy."""


def whole(name: str, value: object, *, minimum: int, maximum: int = LARGEST) -> int:
    """The value of the setting `name`. Raises ValueError unless it is a whole number from minimum to maximum."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        without = ", without quotes" if isinstance(value, str) and value.isdecimal() else ""
        raise ValueError(f"{name}={value}: give a whole number of at least {minimum}{without}")
    if value > maximum:
        raise ValueError(f"{name}={value}: give a whole number of at most {maximum:,}")
    return value


def number(
    name: str,
    value: object,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """The value of the setting `name`. Raises ValueError unless it is a finite number within the bounds.

    minimum, maximum: bounds that it may equal. above, below: bounds that it may not equal.
    """
    bounds = {"of at least": minimum, "above": above, "of at most": maximum, "below": below}
    words = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or (minimum is not None and value < minimum)
        or (maximum is not None and value > maximum)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        raise ValueError(f"{name}={value}: give a number{f' {words}' if words else ''}")
    return float(value)


def choice(name: str, value: T, choices: Iterable[T]) -> T:
    """The value of the setting `name`. Raises ValueError unless it is one of the choices."""
    known = list(choices)
    if value not in known:
        raise ValueError(f"{name}={value}: choose from {', '.join(map(str, known))}")
    return value


def flag(name: str, value: object) -> bool:
    """The value of the setting `name`. Raises ValueError unless it is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value}: choose true or false")
    return value


def is_name(text: str) -> bool:
    """Whether a text can name one thing in a folder, and is not a path."""
    return text not in ("", ".", "..") and Path(text).name == text


def notice_fewer_classes(data: Data, model: FlowModel) -> None:
    """Print a notice if labels of data condition a model that has more classes."""
    if 0 < data.num_classes < model.num_classes:
        notice(
            f"the images have {data.num_classes} classes and the model {model.num_classes}: labels 0 to "
            f"{data.num_classes - 1} of the images become the model's first {data.num_classes} classes"
        )
