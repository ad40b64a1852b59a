"""Files of tensors whose bytes depend on nothing but what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file with the keys of its metadata in order, which `save_file` leaves to chance.

    The file begins with the header's length, 8 bytes little-endian, and the header, JSON padded with spaces; offsets of
    tensors count from its end, so that it can be written again in place.
    """
    save_file(dict(tensors), path, dict(metadata))
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(ordered) <= length
        file.seek(8)
        file.write(ordered.ljust(length))
