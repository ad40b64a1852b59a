"""What a case of the fuzz is, and the network that its files are about."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from tests.helpers.hostile_files import Make
from tests.helpers.networks import tiny_dit

HEAD = "final_layer.linear.weight"
PROJECTION = "blocks.0.attn.proj.weight"


@dataclass(frozen=True)
class Case:
    """A file, and what comes of it.

    make: writes it. accepted: whether a model is made of it. words: that the refusal has. settings: of the model.
    """

    make: Make
    accepted: bool = False
    words: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


Cases = dict[str, Case]


def refused(make: Make, *words: str, **settings: Any) -> Case:
    return Case(make, False, words, settings)


def accepted(make: Make, **settings: Any) -> Case:
    return Case(make, True, (), settings)


@functools.cache
def weights() -> dict[str, Tensor]:
    return tiny_dit().state_dict()


def torch_bytes(state: object, *, old: bool = False, protocol: int = 2) -> bytes:
    """A file of torch.save. old: as torch wrote it before 1.6."""
    torch.save(state, buffer := io.BytesIO(), pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def safetensors_bytes() -> bytes:
    return save(weights())


def as_torch(state: Callable[[], object], *, old: bool = False, protocol: int = 2) -> Make:
    """state: makes what is saved, once the file is written."""
    return lambda path: path.write_bytes(torch_bytes(state(), old=old, protocol=protocol))


def with_weight(value: Callable[[], object], key: str = PROJECTION) -> Make:
    """The network's weights, one of them replaced or added."""
    return as_torch(lambda: weights() | {key: value()})


def a_file(path: Path) -> None:
    path.write_bytes(torch_bytes(weights()))
