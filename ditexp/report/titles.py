"""What a sweep varies, in a few words, for the titles of reports, pictures and tracked runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ditexp.report.tables.column import is_finite, plain
from ditexp.report.tables.columns import varies
from ditexp.result import SETTING_GROUPS, SETTING_VALUES, Result
from ditexp.terminal.units import plural

ORDER = (*SETTING_GROUPS, "compat", *SETTING_VALUES)  # of names in a title
DEFAULT_STUDY = "default"  # the study of results that belong to none
MAX_NAMES = 4  # of settings in a title
MAX_VALUES = 4  # of the only setting that varies


def swept(results: Sequence[Result]) -> str:
    """What varies between results, such as `solver × steps (3 × 3)` or `solver × guidance.scale 1 to 4, 3 seeds`.

    The name of their study comes first. The text is plain; empty without results.
    """
    if not results:
        return ""
    settings = settings_of(results)
    names = [name for name in varied(results) if name != "seed"]
    seeds = len(values_of("seed", settings))
    cells = len({tuple(plain(each.get(name)) for name in names) for each in settings})
    if names:
        text = in_words(names, settings, cells)
    else:
        steps = settings[0].get("steps")
        text = ", ".join([f"{settings[0]['solver']}", *([plural(steps, "step")] if steps is not None else [])])
        text = f"one cell: {text}" if seeds < 2 else text
    text += f", {seeds} seeds" if seeds > 1 else ""
    studies = {result.study for result in results} - {"", DEFAULT_STUDY}
    return f"{studies.pop()}: {text}" if len(studies) == 1 else text


def varied(results: Sequence[Result]) -> list[str]:
    """The names of the settings in which results differ: components and their settings, values, the seed last."""
    settings = settings_of(results)
    names = [name for name in dict.fromkeys(name for each in settings for name in each) if varies(name, settings)]
    places = {name: i for i, name in enumerate(ORDER)}
    return sorted(names, key=lambda name: (name == "seed", places.get(name.partition(".")[0], len(ORDER))))


def settings_of(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [{"num_samples": result.requested_samples, **result.settings} for result in results]


def in_words(names: Sequence[str], settings: Sequence[Mapping[str, Any]], cells: int) -> str:
    """cells: the number of different ones. Only a full grid has its size in the text."""
    values = {name: values_of(name, settings) for name in names}
    if len(names) == 1:
        texts = list(map(plain, values[names[0]]))
        few = len(texts) <= MAX_VALUES and sum(map(len, texts)) <= 50
        return f"{names[0]} {', '.join(texts)}" if few else f"{names[0]}{range_of(names[0], values)} ({len(texts)})"
    ranges = ["" if name == "steps" else range_of(name, values) for name in names[:MAX_NAMES]]
    text = " × ".join(f"{name}{shown}" for name, shown in zip(names, ranges))
    if more := len(names[MAX_NAMES:]):
        return f"{text} and {plural(more, 'more setting')}, {cells} cells"
    if math.prod(map(len, values.values())) > cells:
        return f"{text}, {cells} cells"
    return text if any(ranges) else f"{text} ({' × '.join(str(len(each)) for each in values.values())})"


def range_of(name: str, values: Mapping[str, Sequence[Any]]) -> str:
    """ " 1 to 4" for a setting whose values are numbers."""
    numbers = [value for value in values[name] if value is not None]
    if len(numbers) < 2 or not all(map(is_number, numbers)):
        return ""
    return f" {plain(min(numbers))} to {plain(max(numbers))}"


def values_of(name: str, settings: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The different values of a setting, in order; None if some results lack it."""
    return list({plain(each.get(name)): each.get(name) for each in settings}.values())


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value)
