"""A file in the process's address space: only the parts that are used are read from disk."""

from __future__ import annotations

import mmap
from pathlib import Path

import torch
from torch import Tensor

from ditexp.files.reading import open_regular


class MappedFile:
    """The bytes of a file, which must not be empty. Nothing that is written into its tensors reaches the file."""

    def __init__(self, path: Path) -> None:
        with open_regular(path) as file:
            self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def __len__(self) -> int:
        return len(self.content)

    def numbers(self, dtype: torch.dtype, start: int, count: int) -> Tensor:
        """The `count` numbers from a byte on, (count,). Raises ValueError if they are not all in the file."""
        size = count * dtype.itemsize
        if start < 0 or count < 0 or start + size > len(self.content):
            raise ValueError(f"it claims {size:,} bytes at {start:,}, but has {len(self.content):,}")
        if not count:  # which frombuffer refuses
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self.content, dtype=dtype, count=count, offset=start)
