"""Dataclasses to and from values of JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Decoder = Callable[[Any, str], Any]  # of a value and its name in errors


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
    return decoder_of(kind)(value, name)


@cache
def decoder_of(kind: Any) -> Decoder:
    """Many values are of few kinds, so each kind is looked into once."""
    if dataclasses.is_dataclass(kind):
        return decoder_of_fields(kind)
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = (decoder_of(arg) for arg in args if arg is not NoneType)
        return lambda value, name: None if value is None else inner(value, name)
    if origin is Literal:
        choices = f"one of {', '.join(args)}"
        return lambda value, name: checked(value, value in args, name, choices)
    if origin is dict:
        inner = decoder_of(args[1])
        return lambda value, name: {
            key: inner(one, shown(key))
            for key, one in checked(value, isinstance(value, dict), name, "an object").items()
        }
    if origin is list:
        inner = decoder_of(args[0])
        return lambda value, name: [inner(one, name) for one in checked(value, isinstance(value, list), name, "a list")]
    if kind is Path:
        return lambda value, name: Path(checked(value, isinstance(value, str), name, "of type str"))
    if kind is Any:
        return lambda value, name: value
    return decoder_of_plain(kind)


def decoder_of_plain(kind: type) -> Decoder:
    """kind: str, bool, int or float. No bool is a number, but an int is a float."""
    types, is_bool, what = (int, float) if kind is float else kind, kind is bool, f"of type {kind.__name__}"
    return lambda value, name: checked(
        value, isinstance(value, types) and (is_bool or not isinstance(value, bool)), name, what
    )


def decoder_of_fields(cls: Any) -> Decoder:
    hints = get_type_hints(cls)
    fields = []  # name, decoder, whether it has a default, whether it needs a value
    for field in dataclasses.fields(cls):
        has_default = not field.default is field.default_factory is dataclasses.MISSING
        is_needed = not has_default and NoneType not in get_args(hints[field.name])
        fields.append((field.name, decoder_of(hints[field.name]), has_default, is_needed))

    def decode_fields(value: Any, name: str) -> Any:
        checked(value, isinstance(value, dict), name, "an object")
        found = {}
        for field, inner, has_default, is_needed in fields:
            given = value.get(field)
            if given is None and is_needed:
                raise ValueError(f"{field} is missing")
            if given is not None or not has_default:
                found[field] = inner(given, field)
        return cls(**found)

    return decode_fields


def checked(value: Any, is_right: bool, name: str, what: str) -> Any:
    if not is_right:
        raise ValueError(f"{name} is not {what}")
    return value


def shown(key: str) -> str:
    """A key, short and printable."""
    return ascii(key)[1:-1][:40]
