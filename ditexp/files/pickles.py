"""Files of torch.save, read without running what is in them: tensors, and Python's own containers, numbers and texts.

torch.load(weights_only=True) runs no code of a file either, but it makes buffers as large as a pickle asks for, and
tensors of a million times a million elements that are one number. Here a pickle names nothing but torch's tensors and
an OrderedDict, and no tensor has more elements than its storage, which is in the file.
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
    """What torch.save wrote to a file; tensors are on the CPU.

    kind: what it is to be, with its article. name: of the file in messages. Raises ValueError for a file that is
    missing, damaged, in the format of torch before 1.6, or names anything else than the above.
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


# Python's unpickler that is written in Python: the other one allocates as much as a pickle asks for.
class Reader(pickle._Unpickler):
    """root: the folder in the archive that the storages are below."""

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

    def persistent_load(self, given: Any) -> Tensor:
        _, dtype, key, _, count = given
        if key not in self.storages:
            content = self.archive.read(f"{self.root}data/{key}")
            if len(content) != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"it has {len(content):,} bytes for {count:,} numbers of {dtype}")
            empty = torch.empty(0, dtype=dtype)  # which frombuffer refuses to make
            self.storages[key] = torch.frombuffer(bytearray(content), dtype=dtype) if content else empty
        return self.storages[key]


def tensor_of(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """Raises RuntimeError if it is not within the storage, UnpicklingError if it shows numbers twice."""
    if math.prod(size) > len(storage):
        raise pickle.UnpicklingError(f"it has a tensor of shape {size} of {len(storage):,} numbers")
    return storage.as_strided(size, stride, offset)
