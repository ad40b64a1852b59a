"""Reads the JSON files that ditexp writes: a record is valid as a whole, or not used at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from ditexp.files.reading import JSON_BYTES, UnfitFile, opened, parse_json
from ditexp.terminal.notices import in_line

NUMBER = (int, float)

# What tells the images that a result of a run or of an evaluation rests on.
_SOURCE = {"fingerprint": [str]}
RESTS_ON = {"id": [str], "sample_id": [str], "protocol": [{"images": [_SOURCE], "reference": [_SOURCE]}]}
# Of a sample set: what readers use of set.json, and what a run writes there besides; a block's manifest.
ABOUT = {
    "identity": {"block_size": int, "image_shape": list},
    "num_samples": int,
    "id": [str],
    "config": [dict],
    "command": [str],
    "provenance": [{"time": [str], "commit": [str]}],
}
WHOLE_ABOUT = ABOUT | {"command": str, "provenance": {"time": str}}
COSTS = ("images", "velocity_rows", "network_rows", "seconds", "peak_memory_mb")
MANIFEST = {
    "bytes": int,
    "mtime_ns": int,
    "sha256": str,
    "written": NUMBER,
    "cost": dict.fromkeys(COSTS, NUMBER),
    "maker": dict,
}


def read_record(path: Path, shape: dict) -> dict:
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
    if isinstance(shape, list):
        return "" if value is None else misfit(value, shape[0], name)
    if isinstance(shape, tuple):
        return min((misfit(value, one, name) for one in shape), key=len)
    if not isinstance(shape, dict):
        return "" if isinstance(value, shape) else f"{name} is not of type {shape.__name__}"
    if not isinstance(value, dict):
        return f"{name} is no object"
    for key, part in shape.items():
        for inner in value if key is ... else [key]:
            if inner not in value and not isinstance(part, list):
                return f"{inner} is missing"
            if wrong := misfit(value.get(inner), part, ascii(inner)[1:-1][:40]):
                return wrong
    return ""
