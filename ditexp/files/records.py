"""JSON files that ditexp writes: a record is written and valid as a whole, or not used at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ditexp.files.atomic import atomic, make_way
from ditexp.files.json_values import shown
from ditexp.files.reading import JSON_BYTES, UnfitFile, opened, parse_json
from ditexp.terminal.notices import in_line

NUMBER = (int, float)


def write_record(path: Path, facts: Mapping[str, Any]) -> None:
    """Write JSON-able facts to a file, which is whole or not there; a folder in its place is renamed."""
    make_way(path)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=2))


def read_record(path: Path, shape: Mapping[Any, Any]) -> dict[str, Any]:
    """The JSON object in a file, checked against a shape (see `misfit`).

    Raises FileNotFoundError, or ValueError that names the file and what is wrong with it.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        with opened(path, "a record", most=JSON_BYTES) as file:
            data = file.read()
        found = parse_json(data.decode("utf-8"))
        wrong = misfit(found, shape)
    except UnfitFile as error:
        wrong = error.wrong
    except UnicodeDecodeError:
        wrong = "it is not UTF-8"
    except ValueError as error:
        wrong = str(error) if data else "it is empty"
    if wrong:
        raise ValueError(in_line(f"{path} is damaged ({in_line(wrong, 80)})"))
    return found


def misfit(value: Any, shape: Any, name: str = "it") -> str:
    """What is wrong with a value read from JSON; "" if it has this shape.

    shape: a type; a tuple of alternatives; {key: shape}; {...: shape} for all values of an object; or [shape] for a
    value that may be absent or null.
    """
    if isinstance(shape, type):  # first, since most shapes are types
        return "" if isinstance(value, shape) else f"{shown(name)} is not of type {shape.__name__}"
    if isinstance(shape, list):
        return "" if value is None else misfit(value, shape[0], name)
    if isinstance(shape, tuple):
        return min((misfit(value, one, name) for one in shape), key=len)
    if not isinstance(value, dict):
        return f"{shown(name)} is no object"
    for key, part in shape.items():
        for inner in value if key is ... else [key]:
            if inner not in value and not isinstance(part, list):
                return f"{inner} is missing"
            if wrong := misfit(value.get(inner), part, inner):
                return wrong
    return ""
