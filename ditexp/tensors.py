"""Files of tensors whose bytes depend on nothing but what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


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
