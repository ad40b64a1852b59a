"""Dataclasses to and from values of JSON."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def encode(value: Any) -> Any:
    """A dataclass as JSON has it, without the fields that are None by default."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: (vars(value)[field.name], field.default) for field in dataclasses.fields(value)}
        return {
            name: encode(inner) for name, (inner, default) in fields.items() if not (inner is None and default is None)
        }
    return str(value) if isinstance(value, Path) else value


def decode(kind: Any, value: Any, name: str = "it") -> Any:
    """`value` as a `kind`. Raises ValueError that says what is wrong with it.

    kind: a dataclass; str, int, float, Path or Any; dict[str, kind], list[kind], kind | None or Literal of texts. A
    dataclass ignores keys that it has no field for; null stands for a field's default. name: of the value in errors.
    """
    if dataclasses.is_dataclass(kind):
        return decode_fields(kind, value, name)
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = (arg for arg in args if arg is not NoneType)
        return None if value is None else decode(inner, value, name)
    if origin is Literal:
        return checked(value, value in args, name, f"one of {', '.join(args)}")
    if origin is dict:
        checked(value, isinstance(value, dict), name, "an object")
        return {key: decode(args[1], inner, shown(key)) for key, inner in value.items()}
    if origin is list:
        return [decode(args[0], inner, name) for inner in checked(value, isinstance(value, list), name, "a list")]
    if kind is Path:
        return Path(checked(value, isinstance(value, str), name, "of type str"))
    if kind is Any:
        return value
    types = (int, float) if kind is float else kind
    is_right = isinstance(value, types) and (kind is bool or not isinstance(value, bool))
    return checked(value, is_right, name, f"of type {kind.__name__}")


def decode_fields(cls: Any, value: Any, name: str) -> Any:
    checked(value, isinstance(value, dict), name, "an object")
    fields = {}
    for field in dataclasses.fields(cls):
        given, kind = value.get(field.name), hints(cls)[field.name]
        has_default = not field.default is field.default_factory is dataclasses.MISSING
        if given is None and not has_default and NoneType not in get_args(kind):
            raise ValueError(f"{field.name} is missing")
        if given is not None or not has_default:
            fields[field.name] = decode(kind, given, field.name)
    return cls(**fields)


@cache
def hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def checked(value: Any, is_right: bool, name: str, what: str) -> Any:
    if not is_right:
        raise ValueError(f"{name} is not {what}")
    return value


def shown(key: str) -> str:
    """A key, short and printable."""
    return ascii(key)[1:-1][:40]
