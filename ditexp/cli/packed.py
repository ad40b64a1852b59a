"""Configurations of many cells, in little memory."""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from omegaconf import DictConfig

Key = TypeVar("Key", bound=Hashable)
Other = TypeVar("Other", bound=Hashable)


class Packed(Mapping[Key, DictConfig]):
    """Configurations, each held as bytes and made again when it is asked for: changes of what it gives are not kept.

    A thousand cells take 20 MB so, and 150 MB as Hydra composes them.
    """

    def __init__(self) -> None:
        self._packed: dict[Key, bytes] = {}

    def add(self, key: Key, cfg: DictConfig) -> None:
        self._packed[key] = pickle.dumps(cfg)

    def update(self, others: Packed[Key]) -> None:
        self._packed |= others._packed

    def under(self, keys: Iterable[Other]) -> Packed[Other]:
        """The same configurations under other keys, given in their order."""
        found: Packed[Other] = Packed()
        found._packed = dict(zip(keys, self._packed.values(), strict=True))
        return found

    def __getitem__(self, key: Key) -> DictConfig:
        return pickle.loads(self._packed[key])

    def __iter__(self) -> Iterator[Key]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, key: object) -> bool:
        return key in self._packed
