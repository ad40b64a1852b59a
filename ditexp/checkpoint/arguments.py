"""The arguments of a training that a checkpoint holds, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ditexp.checkpoint.record import Record

KEYS = ("args", "config", "cfg", "hyper_parameters")
MAX_VALUES, MAX_DEPTH, MAX_TEXT = 1000, 5, 1000


def training_arguments(state: object) -> dict[str, Any]:
    """The arguments that a training script saved beside its weights, by their names; empty if there are none.

    Namespaces and other objects become dictionaries of their fields, and classes their names. What is long or deeply
    nested is left out.
    """
    found: dict[str, Any] = {}
    left = [MAX_VALUES]
    for key in KEYS:
        value = plain(state.get(key), left, 0) if isinstance(state, Mapping) else None
        found |= value if isinstance(value, dict) else {}
    return found


def plain(value: object, left: list[int], depth: int) -> Any:
    """The value in numbers, texts, lists and dictionaries. left: how many more values may be read."""
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, Record):
        if value.fields:
            return plain(value.fields, left, depth)
        if value.kind.startswith("pathlib.") and value.arguments:
            parts = [part[:MAX_TEXT] for part in value.arguments[:20] if isinstance(part, str)]
            return "/".join(parts).replace("//", "/", 1)
        return value.kind[:MAX_TEXT]
    if isinstance(value, Mapping):
        items = zip(value.items(), range(max(left[0], 0)))
        return {key[:MAX_TEXT]: plain(inner, left, depth + 1) for (key, inner), _ in items if isinstance(key, str)}
    if isinstance(value, list | tuple):
        return [plain(inner, left, depth + 1) for inner in value[: max(left[0], 0)]]
    return None
