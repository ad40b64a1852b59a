"""Python's values as overrides of the configuration, so that they are checked as what is typed is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ditexp.cli.overrides import parse, parses, quoted

# An option by its name, or with settings: {"name": "dopri5", "rtol": 1e-5}.
Choice = str | Mapping[str, object]


def option(group: str, chosen: Choice) -> list[str]:
    """The overrides that choose an option of a group, with its settings. Raises ValueError if it has no name."""
    settings = {"name": chosen} if isinstance(chosen, str) else dict(chosen)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"{group}={chosen}: give a name, or a dictionary with one, as {{'name': '...', ...}}")
    return [f"{group}={name}", *(override(f"{group}.{key}", value) for key, value in settings.items())]


def override(key: str, value: object) -> str:
    """One override. Raises ValueError for a value that no configuration holds."""
    return f"{key}={text_of(key, value)}"


def text_of(key: str, value: object) -> str:
    """A value in Hydra's grammar; parsing it gives the same value."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        is_plain = parses(f"key={value}") and parse(f"key={value}").value() == value
        return value if is_plain else quoted(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{text_of(key, name)}:{text_of(key, one)}" for name, one in value.items()) + "}"
    if isinstance(value, Sequence | np.ndarray):
        return "[" + ",".join(text_of(key, one) for one in value) + "]"
    raise ValueError(f"{key}={value}: give a number, a text, a list or a dictionary, not {type(value).__name__}")
