"""Walking a configuration: OmegaConf's nodes, and the dictionaries and lists that they are made of."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf, base
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

# OmegaConf parses the text of a ${...} whenever its value is asked for: half of the work of checking a cell.
base.parse = functools.lru_cache(maxsize=1024)(base.parse)  # ty: ignore[invalid-assignment]

OF_HYDRA = frozenset({"_target_", "_partial_", "_args_", "_recursive_", "_convert_"})  # Hydra's keys of any component

Key = str | int
Keys = tuple[Key, ...]  # the path to a value, from the root


@dataclass(frozen=True)
class Setting:
    """One entry of a composed configuration, `root`."""

    root: DictConfig
    path: Keys
    raw: Any  # as it is written: an interpolation is its text, ${...}
    target: str | None  # the class or function that this is an argument of

    @property
    def key(self) -> Key:
        return self.path[-1]

    @property
    def name(self) -> str:
        return dotted(self.path)

    @property
    def container(self) -> Any:
        """The DictConfig or ListConfig that holds it; the two declare different types of keys."""
        return select(self.root, self.path[:-1])

    def value(self) -> Any:
        """The value with its interpolations filled in. Raises OmegaConf's errors where that fails."""
        return self.container[self.key]

    def replace(self, value: object) -> None:
        self.container[self.key] = value


def settings_of(node: DictConfig) -> list[Setting]:
    """Every entry of a configuration: dictionaries and lists, and then what they hold."""
    return list(entries_below(node, plain(node), ()))


def entries_below(root: DictConfig, raw: dict[str, Any] | list[Any], path: Keys) -> Iterator[Setting]:
    target = raw.get("_target_") if isinstance(raw, dict) else None
    for key, value in items(raw):
        yield Setting(root, (*path, key), value, target if isinstance(target, str) else None)
        if isinstance(value, dict | list):
            yield from entries_below(root, value, (*path, key))


def plain(node: DictConfig) -> dict[str, Any]:
    """A node as dictionaries and lists, with interpolations as they are written."""
    container: Any = OmegaConf.to_container(node)  # declared as a union of all that any node gives
    return container


def resolve(value: Any) -> Any:
    """A node as dictionaries and lists, with interpolations filled in; any other value as it is.

    What refers to a missing value is missing, too.
    """
    if not OmegaConf.is_config(value):
        return value
    try:
        return OmegaConf.to_container(value, resolve=True)
    except InterpolationToMissingValueError:
        keys = range(len(value)) if isinstance(value, ListConfig) else list(value)
        found = {key: MISSING if refers_to_missing(value, key) else resolve(value[key]) for key in keys}
        return list(found.values()) if isinstance(value, ListConfig) else found


def refers_to_missing(node: Any, key: Key) -> bool:
    try:
        node[key]
    except (InterpolationToMissingValueError, MissingMandatoryValue):
        return True
    return False


def items(raw: dict[str, Any] | list[Any]) -> Iterable[tuple[Key, Any]]:
    return raw.items() if isinstance(raw, dict) else enumerate(raw)


def leaves_of(raw: object, path: Keys = ()) -> Iterator[tuple[Keys, object]]:
    """The values below dictionaries and lists, each with its path."""
    if not isinstance(raw, dict | list):
        yield path, raw
    else:
        for key, value in items(raw):
            yield from leaves_of(value, (*path, key))


def select(raw: Any, path: Keys) -> Any:
    for key in path:
        raw = raw[key]
    return raw


def dotted(path: Keys) -> str:
    return ".".join(map(str, path))
