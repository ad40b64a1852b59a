"""Safetensors files whose bytes depend only on what is in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ditexp.files.atomic import atomic
from ditexp.files.reading import UnfitFile, opened, parse_json, unfit

HEADER_BYTES = 2**24  # enough for 100,000 tensors


@contextmanager
def opened_tensors(path: Path | str, kind: str, *, remedy: str, name: str | None = None) -> Generator[safe_open]:
    """Open a safetensors file; each tensor is read when the body asks for it.

    kind: what the file should be, with its article. name: the file's name in messages. Raises ValueError, also for
    errors of safetensors in the body.
    """
    with opened(path, kind, name=name, remedy=remedy) as file:
        length = int.from_bytes(file.read(8), "little")
    if length > HEADER_BYTES:
        raise unfit(name or path, f"is not {kind} (its header takes {length:,} bytes)", remedy)
    try:
        with safe_open(path, "pt") as file:
            yield file
    except UnfitFile:
        raise
    except Exception as error:  # SafetensorError, and others for types that torch lacks
        raise unfit(name or path, f"is not {kind} ({error})", remedy) from None


def shape_in(file: safe_open, name: str) -> tuple[int, ...]:
    """A tensor's shape, from the header. Raises SafetensorError if there is no such tensor."""
    return tuple(file.get_slice(name).get_shape())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with the keys of its metadata in order; safetensors writes them in any order.

    safetensors' own `save_file` also writes a temporary file beside `path` that names no process and that only its
    owner can read. The format: the header's length (8 bytes, little-endian), the header (JSON, padded with spaces),
    then the tensors, whose offsets count from the header's end.
    """
    data = memoryview(save(dict(tensors), dict(metadata)))
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8:end]))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    assert len(ordered) <= end - 8
    with open(path, "wb") as file:
        for part in (data[:8], ordered.ljust(end - 8), data[end:]):
            file.write(part)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically, with the sha256 of each tensor in its metadata."""
    hashes = {name: _sha256(tensor) for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        write_tensors(temporary, tensors, {**(metadata or {}), "sha256": json.dumps(hashes)})


def load_tensors(path: Path, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """The tensors of a file that `save_tensors` wrote. names: which; None: all.

    Raises ValueError if the file or a tensor is missing or damaged.
    """
    with opened_tensors(path, "a file of tensors", remedy="make it again") as file:
        try:
            hashes = parse_json((file.metadata() or {})["sha256"])
            tensors = {name: file.get_tensor(name) for name in (hashes if names is None else names)}
            wrong = [name for name, tensor in tensors.items() if hashes[name] != _sha256(tensor)]
        except (KeyError, TypeError, ValueError) as error:
            raise unfit(path, f"is damaged ({error})", "make it again") from None
    if wrong:
        raise unfit(path, f"is damaged (wrong checksum of {wrong[0]})", "make it again")
    return tensors


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy()).hexdigest()
