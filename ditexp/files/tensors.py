"""Files of tensors whose bytes depend on nothing but what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ditexp.files.reading import UnfitFile, opened, unfit

HEADER_BYTES = 2**24  # some 100,000 tensors


@contextmanager
def opened_tensors(path: Path | str, kind: str, *, remedy: str, name: str | None = None) -> Iterator[safe_open]:
    """A safetensors file whose tensors are read when they are asked for.

    kind: what it is to be, with its article. name: of the file in messages. Raises ValueError, also for what
    safetensors raises in the body.
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
    except Exception as error:  # SafetensorError, and what is raised for types that torch lacks
        raise unfit(name or path, f"is not {kind} ({error})", remedy) from None


def shape_in(file: safe_open, name: str) -> tuple[int, ...]:
    """Of a tensor, from the header. Raises SafetensorError if it isn't there."""
    return tuple(file.get_slice(name).get_shape())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file with the keys of its metadata in order, which safetensors leaves to chance.

    Its own `save_file` would also write to a temporary file beside `path`, whose name tells no process and which only
    its owner can read. The file begins with the header's length, 8 bytes little-endian, and the header, JSON padded
    with spaces; offsets of tensors count from its end.
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
