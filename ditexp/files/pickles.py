"""Reads files of torch.save without running code in them: tensors, and Python's own containers, numbers and texts.

torch.load(weights_only=True) runs no code either, but it allocates buffers as large as a pickle demands, and tensors of
10^12 elements that all share one number. Here a pickle may name only torch's tensors and OrderedDict, and no tensor has
more elements than its storage, which is in the file.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ditexp.files.reading import UnfitFile, opened_zip, unfit

PICKLE_BYTES = 2**26
DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}


def read_pickled(path: Path | str, kind: str, *, remedy: str, name: str | None = None) -> Any:
    """The value that torch.save wrote to a file, with tensors on the CPU.

    kind: what the file should be, with its article. name: the file's name in messages. Raises ValueError for a file
    that is missing, damaged, in torch's format from before 1.6, or that names anything but the above.
    """
    try:
        with opened_zip(path, kind, remedy=remedy, name=name) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise pickle.UnpicklingError("it is compressed, which torch.save does not do")
            found = [member for member in members if member.filename.split("/")[1:] == ["data.pkl"]]
            if len(found) != 1 or found[0].file_size > PICKLE_BYTES:
                raise pickle.UnpicklingError("it has no data.pkl, or one that is too large")
            content = archive.read(found[0])
            return Reader(archive, found[0].filename.removesuffix("data.pkl"), content).load()
    except UnfitFile:
        raise
    except Exception as error:  # Python's unpickler raises nearly anything
        raise unfit(name or path, f"cannot be read ({error})", remedy) from None


# The unpickler that is written in Python: the one in C allocates as much as a pickle demands.
class Reader(pickle._Unpickler):
    """root: the folder of the archive that holds `data/`, the storages."""

    def __init__(self, archive: zipfile.ZipFile, root: str, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.archive, self.root = archive, root
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Callable | torch.dtype:
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): tensor_of,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it holds code, {module}.{name}, which is never run")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        if key not in self.storages:  # several tensors may share one
            content = self.archive.read(f"{self.root}data/{key}")
            if len(content) != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"it has {len(content):,} bytes for {count:,} numbers of {dtype}")
            empty = torch.empty(0, dtype=dtype)  # which frombuffer refuses to make
            self.storages[key] = torch.frombuffer(bytearray(content), dtype=dtype) if content else empty
        return self.storages[key]


def tensor_of(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """Raises RuntimeError if the tensor leaves its storage, UnpicklingError if it has more elements than that."""
    if math.prod(size) > len(storage):
        raise pickle.UnpicklingError(f"it has a tensor of shape {size} of {len(storage):,} numbers")
    return storage.as_strided(size, stride, offset)
