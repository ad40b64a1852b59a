"""Random weights that are drawn by name, so that a golden file needs only their shapes.

The original network and ditexp's get the same values, in whatever order their tensors are:

    original.load_state_dict(drawn_like(original.state_dict()))          # in a generator
    state = drawn({"x_embedder.proj.bias": (64,), ...})                  # in a test, from the shapes in the golden file

Names are the network's own, without prefixes such as `module.` or `net.`. Gates, biases and adaLN layers are drawn like
all others, so none of them is zero. What a network computes and never trains (`FIXED`) is not drawn.

numpy keeps the raw numbers of Philox for ever, but not its normal distribution, so values are uniform.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

FIXED = (
    "pos_embed",
    "freqs_cos",
    "freqs_sin",
    "num_batches_tracked",
    "rope_freqs",
)  # the last part of names that are not drawn
VECTOR_STD = 0.25  # of biases, of tables, and of the weights of norms around 1
TABLES = ("embedding_table.weight", "in_context_posemb")


def drawn(shapes: Mapping[str, Sequence[int]], *, salt: str = "") -> dict[str, Tensor]:
    """A float32 tensor for each name that is not fixed. salt: other values for another one, such as "ema"."""
    return {name: draw(name, shape, salt=salt) for name, shape in shapes.items() if not is_fixed(name)}


def drawn_like(state: Mapping[str, Tensor], *, salt: str = "") -> dict[str, Tensor]:
    """A state dict with every tensor drawn; those that are fixed stay."""
    return {**state, **drawn({name: tuple(value.shape) for name, value in state.items()}, salt=salt)}


def is_fixed(name: str) -> bool:
    return name.rpartition(".")[2] in FIXED


def draw(name: str, shape: Sequence[int], *, salt: str = "") -> Tensor:
    """The tensor of one name: uniform, float32.

    Its standard deviation is 1 / sqrt(fan in) for matrices and kernels, so that activations neither die nor explode,
    and VECTOR_STD for vectors and tables; weights of norms, which are vectors, lie around 1 and variances of batch
    normalisation, too, between 0.5 and 1.5.
    """
    is_table = name.endswith(TABLES)
    std = VECTOR_STD if is_table or len(shape) < 2 else 1 / math.sqrt(math.prod(shape[1:]))
    mean = 1.0 if len(shape) == 1 and name.endswith(("weight", "running_var")) else 0.0
    values = mean + std * math.sqrt(12) * (uniform(salt + name, math.prod(shape)) - 0.5)
    return torch.from_numpy(values.astype(np.float32)).reshape(tuple(shape))


def uniform(name: str, count: int) -> np.ndarray:
    """(count,) float64 in [0, 1), from the first 53 bits of Philox's raw numbers."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return (np.random.Philox(key=key).random_raw(count) >> np.uint64(11)) * 2.0**-53


def noise(name: str, shape: Sequence[int]) -> Tensor:
    """Inputs with mean 0 and standard deviation 1, float32, which a golden file therefore need not hold either."""
    values = math.sqrt(12) * (uniform(f"noise {name}", math.prod(shape)) - 0.5)
    return torch.from_numpy(values.astype(np.float32)).reshape(tuple(shape))
