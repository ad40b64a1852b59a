"""Settings whose values have the wrong type: text where a number belongs, or something else where text does."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import MISSING, DictConfig
from omegaconf.errors import InterpolationToMissingValueError

from ditexp.cli.nodes import Key, Setting
from ditexp.cli.signatures import arguments_of

TEXTS = (str, Path, str | Path)
NUMBERS = (int, float, int | None, float | None, int | float)
WRITTEN: dict[str, object] = {  # as they are written in source
    "str": str,
    "Path": Path,
    "str | Path": str | Path,
    "Path | str": str | Path,
    "int": int,
    "float": float,
    "int | None": int | None,
    "float | None": float | None,
    "int | float": int | float,
}
NAMES_AND_PATHS = ("outputs", "study", "images", "out", "folder")  # settings of commands themselves


def wrong_names(cfg: DictConfig, known: dict[str, Any]) -> Iterator[str]:
    """Check a command's own names and paths. known: its keys; one whose default is None may stay unset."""
    for key in NAMES_AND_PATHS:
        if key in known and key in cfg and (cfg[key] is not None or known[key] is not None):
            yield from wrong_text(cfg, key, key)


def wrong_text(container: Any, key: Key, name: str) -> Iterator[str]:
    """Make a text of a whole number, which a name may look like; yield a mistake for any other value."""
    value = container[key]
    if isinstance(value, int) and not isinstance(value, bool):
        container[key] = str(value)
    elif value is None or value == "":
        yield f"{name}={'null' if value is None else repr(value)}: give a name or a path"
    elif not isinstance(value, str):
        yield f"{name}={value} is not text; text that looks like a number needs two kinds of quotes: \"{name}='1.5'\""


def wrong_types(settings: Iterable[Setting]) -> Iterator[str]:
    """Check the settings of components against the annotations of their constructors, as far as these are simple."""
    for setting in settings:
        kind = types_of(setting.target).get(str(setting.key)) if setting.target else None
        if kind is None or setting.raw == MISSING:
            continue
        if kind in TEXTS and not is_plain_text(setting.raw):
            with suppress(InterpolationToMissingValueError):  # the setting that it refers to is missed by itself
                yield from wrong_text(setting.container, setting.key, setting.name)
        elif kind in NUMBERS and isinstance(setting.raw, str):
            value = setting.value()
            if isinstance(value, str) and re.fullmatch(r"[-+.\deE_]*\d", value):
                reference = re.fullmatch(r"\$\{([\w.]+)\}", setting.raw)
                yield f"{reference[1] if reference else setting.name}='{value}' is text: give a number, without quotes"


def is_plain_text(raw: object) -> bool:
    """Whether a value is a text that says something, with nothing to fill in."""
    return isinstance(raw, str) and raw != "" and "${" not in raw


@functools.cache
def types_of(target: str) -> dict[str, object]:
    """The annotations of a class's or function's arguments, as far as they can be found and are simple."""
    if (known := arguments_of(target)) is not None:
        return {name: WRITTEN[kind] for name, kind in known.items() if kind in WRITTEN}
    try:
        found = get_object(target)
        return typing.get_type_hints(found.__init__ if inspect.isclass(found) else found)
    except Exception:  # whatever a user's module raises when it is imported, or names that it imports for checks alone
        return {}
