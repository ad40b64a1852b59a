"""A file that holds one tensor: .npy, .safetensors, or .pt, which is never unpickled as code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ditexp.checkpoint.container import read_state
from ditexp.files.content import unchanged
from ditexp.files.npz import npy_header
from ditexp.files.reading import opened, unfit

FILE_BYTES = 2**28
KIND, REMEDY = "a file of one tensor", "save one tensor of real, finite numbers"


def read_tensor(path: str, name: str) -> tuple[Tensor, str]:
    """The tensor as float32, and the sha256 of the file. name: of the file in messages.

    Raises ValueError if the file is missing or unreadable, holds no single tensor of real numbers, or NaN or Inf.
    """
    opened(path, KIND, most=FILE_BYTES, name=name).close()  # refuses a large file before it is hashed
    with unchanged(path) as sha256:
        found = READERS[Path(path).suffix](path, name)
        tensors = list(found.values()) if isinstance(found, dict) else [found]
        if len(tensors) != 1 or not isinstance(tensors[0], Tensor) or tensors[0].is_complex():
            raise unfit(name, "holds no single tensor of real numbers", REMEDY)
        tensor = tensors[0].to(torch.float32, copy=True)  # what is read is mapped from the file
    if not tensor.isfinite().all():
        raise unfit(name, "holds NaN or Inf", REMEDY)
    return tensor, sha256


def read_npy(path: str, name: str) -> Tensor:
    try:
        with opened(path, KIND, name=name) as file:
            header = npy_header(file)
            content = file.read(min(header.bytes, FILE_BYTES) + 1)
        if len(content) != header.bytes or header.dtype.hasobject:
            raise ValueError(f"it has {len(content):,} bytes for {header.shape} of {header.dtype}")
        array = np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
        return torch.from_numpy(np.array(array, dtype=header.dtype.newbyteorder("=")))
    except (TypeError, ValueError) as error:  # TypeError: a dtype that torch lacks
        raise unfit(name, f"is damaged, or holds code ({error})", REMEDY) from None


def read_saved(path: str, name: str) -> Any:
    return read_state(Path(path), KIND, name=name, remedy=REMEDY)[0]


READERS = {".npy": read_npy, ".safetensors": read_saved, ".pt": read_saved}
