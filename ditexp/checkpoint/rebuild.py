"""Rebuilds what is known in pickles of torch: tensors, torch's and Python's own containers, and NumPy's numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ditexp.checkpoint.record import Record, UnusableTensor

MAX_DIMENSIONS = 16
STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "QInt8Storage": torch.int8,
    "QInt32Storage": torch.int32,
    "QUInt8Storage": torch.uint8,
    "ShortStorage": torch.int16,
    "UntypedStorage": torch.uint8,
}
DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
NUMPY = re.compile("[<>=|]?([biuf][1248])")


class Damaged(ValueError):
    """A file that contradicts its own format; the message begins with "it"."""


@dataclass(frozen=True)
class Storage:
    """Numbers that tensors share, (count,). None: they are not known yet."""

    numbers: Tensor | None


def dtype_of_storage(kind: object) -> torch.dtype:
    """The type of the numbers in a storage of this class, a Record. Raises Damaged."""
    name = kind.kind if isinstance(kind, Record) else ""
    module, _, last = name.rpartition(".")
    if module.partition(".")[0] != "torch" or last.lstrip("_") not in STORAGES:
        raise Damaged(f"it has a storage of the unknown type {name or type(kind).__name__}")
    return STORAGES[last.lstrip("_")]


def rebuilt(kind: str, arguments: tuple) -> Any:
    """What a call in a pickle gives: an object of a known kind, or a Record. Raises Damaged if it makes no sense."""
    if kind in UNUSABLE:
        return UnusableTensor(UNUSABLE[kind])
    try:
        return KNOWN[kind](*arguments) if kind in KNOWN else Record(kind, arguments)
    except Damaged:
        raise
    except (ArithmeticError, RuntimeError, TypeError, ValueError):
        raise Damaged(f"it makes no {kind} of what it has for one") from None


def tensor_of(storage: object, offset: object, size: object, stride: object, *_: object) -> Tensor | UnusableTensor:
    """Raises Damaged if the tensor leaves its storage, or has more elements."""
    if not isinstance(storage, Storage) or not all(isinstance(one, tuple) for one in (size, stride)):
        raise Damaged("it has a tensor without a storage, a size or strides")
    assert isinstance(size, tuple) and isinstance(stride, tuple)
    whole = [offset, *size, *stride]
    if any(type(one) is not int or one < 0 for one in whole) or len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise Damaged(f"it has a tensor of shape {shown(size)}, strides {shown(stride)} and offset {shown(offset)}")
    numbers = storage.numbers
    if numbers is None:
        return UnusableTensor("has no values yet")
    assert isinstance(offset, int)
    last = offset + sum((one - 1) * step for one, step in zip(size, stride))
    if math.prod(size) > len(numbers) or (math.prod(size) and last >= len(numbers)):
        raise Damaged(f"it has a tensor of shape {shown(size)} in a storage of {len(numbers):,} numbers")
    return numbers.as_strided(size, stride, offset)


def tensor_of_bytes(storage: object, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor | UnusableTensor:
    """As tensor_of, with a storage of bytes; the type of the numbers is the third of the rest."""
    dtype = DTYPES.get(rest[2].kind if len(rest) > 2 and isinstance(rest[2], Record) else "")
    if dtype is None or not isinstance(storage, Storage):
        raise Damaged("it has a tensor of an unknown type")
    if storage.numbers is None:
        return UnusableTensor("has no values yet")
    return tensor_of(Storage(storage.numbers.view(dtype)), offset, size, stride)


def tensor_of_class(function: Any, kind: object, arguments: Any, *_: object) -> Any:
    """A tensor of a subclass of Tensor, as a plain one."""
    if not isinstance(function, Record) or not isinstance(arguments, tuple):
        raise Damaged("it has a tensor of a class without a tensor")
    if function.kind == SUBCLASS:
        raise Damaged("it has a tensor of a class in another")
    return rebuilt(function.kind, arguments)


def shown(value: object) -> str:
    """A shape in a message. Anything else may be too long, or contain itself."""
    if isinstance(value, tuple) and len(value) <= MAX_DIMENSIONS and all(type(one) is int for one in value):
        return str(value)
    return str(value) if type(value) is int else "unknown"


def number_of(dtype: object, content: object = None, *_: object) -> Any:
    """NumPy's scalar, as a number of Python; a Record for another type."""
    kind = dtype.arguments[0] if isinstance(dtype, Record) and dtype.arguments else None
    found = NUMPY.fullmatch(kind) if isinstance(kind, str) else None
    if not found or not isinstance(content, bytes | str):
        return Record("numpy.scalar", (dtype, content))
    data = content.encode("latin-1") if isinstance(content, str) else content
    return np.frombuffer(data, found[1].replace("b1", "?"), count=1)[0].item()


def bytes_of(text: object = "", encoding: object = "latin1", *_: object) -> bytes:
    """Bytes, as protocols 0 to 2 write them: text in an encoding."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Damaged("it has bytes in an unknown encoding")
    return text.encode("latin-1")


def items_of(*arguments: object) -> list:
    """A set, as a list, which needs no hashes."""
    given = arguments[0] if arguments else []
    if not isinstance(given, list | tuple):
        raise Damaged("it has a set of what is no list")
    return list(given)


def mapping_of(*arguments: Any) -> dict:
    """An OrderedDict, which Python 2 makes of a list of pairs."""
    pairs = arguments[0] if arguments and not isinstance(arguments[0], Record) else []  # a Record: defaultdict's type
    if not isinstance(pairs, list | tuple):
        raise Damaged("it has a dictionary of what is no list")
    return {key_of(key): value for key, value in pairs}


def key_of(key: object) -> Any:
    """A key of a dictionary. Raises Damaged for a kind that takes long to hash, or cannot be hashed."""
    flat = key if isinstance(key, tuple) and len(key) <= MAX_DIMENSIONS else (key,)
    if any(type(one) not in (str, int, float, bool, bytes, type(None)) for one in flat):
        raise Damaged(f"it has a dictionary with {type(key).__name__} as a key")
    return key


SUBCLASS = "torch._tensor._rebuild_from_type_v2"
KNOWN: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": tensor_of,
    "torch._utils._rebuild_tensor_v2": tensor_of,
    "torch._utils._rebuild_tensor_v3": tensor_of_bytes,
    "torch._utils._rebuild_parameter": lambda data=None, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data=None, *_: data,
    "torch.nn.parameter.Parameter": lambda data=None, *_: data,
    SUBCLASS: tensor_of_class,
    "torch.Size": lambda size=(), *_: tuple(size) if isinstance(size, list) else size,
    "collections.OrderedDict": mapping_of,
    "collections.defaultdict": mapping_of,
    "_codecs.encode": bytes_of,
    **{f"{module}.{name}": items_of for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "list")},
    **{f"{module}.multiarray.scalar": number_of for module in ("numpy.core", "numpy._core")},
}
UNUSABLE = {
    "torch._utils._rebuild_sparse_tensor": "is sparse",
    "torch._utils._rebuild_sparse_csr_tensor": "is sparse",
    "torch._utils._rebuild_qtensor": "is quantized",
    "torch._utils._rebuild_nested_tensor": "is nested",
    "torch._utils._rebuild_meta_tensor_no_storage": "has no values (meta device)",
    "torch._utils._rebuild_wrapper_subclass": "is of a class of its own",
    "torch._utils._rebuild_device_tensor_from_numpy": "is of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "is of another device",
    "torch._utils._rebuild_xla_tensor": "is of another device",
    "torch._utils._rebuild_mlc_tensor": "is of another device",
}
