"""The precision of a sampler's network, and that of feature networks and metrics, which must not depend on it."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # a wrong setting is found before torch is imported
    import torch

# torch.compile: not at all, each block of the network, or the network as a whole with the fastest kernels found.
COMPILE = (False, True, "max")
FP8_CAPABILITY = (8, 9)  # the compute capability of the first GPUs with products of fp8: Ada, Hopper


@dataclass(frozen=True)
class Precision:
    """How a network computes; the state of a sample is float32 with all of them.

    products: the type of the matrix products and of their weights. quantized: the type that weights and inputs of the
    transformer blocks' matrices have instead, by torchao: fp8 or int8.
    """

    products: Literal["float32", "bfloat16", "float16"]
    quantized: str | None = None

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.products]


# tf32 is float32 with TF32 matrix products, on CUDA only.
PRECISIONS = {
    "fp32": Precision("float32"),
    "tf32": Precision("float32"),
    "bf16": Precision("bfloat16"),
    "fp16": Precision("float16"),
    "fp8": Precision("bfloat16", "fp8"),
    "int8": Precision("bfloat16", "int8"),
}


def check_precision(name: str, device: torch.device) -> None:
    """Raise ValueError if this machine cannot compute at a precision. name: one of PRECISIONS."""
    import torch

    if PRECISIONS[name].quantized is None:
        return
    if name == "fp8":
        if device.type != "cuda":
            raise ValueError("precision=fp8 needs an NVIDIA GPU, and this run samples on a CPU: choose int8 or bf16")
        if torch.cuda.get_device_capability(device) < FP8_CAPABILITY:
            raise ValueError(
                f"precision=fp8 needs a GPU of compute capability {FP8_CAPABILITY[0]}.{FP8_CAPABILITY[1]} or above, as "
                f"Ada and Hopper have, and this is a {torch.cuda.get_device_name(device)}: choose int8 or bf16"
            )
    if importlib.util.find_spec("torchao") is None:
        raise ValueError(f"precision={name} needs torchao: pip install 'ditexp[torchao]', or choose bf16")


@contextmanager
def full_float32() -> Generator[None]:
    """Without TF32 and bfloat16 products, even if the sampler uses them: TF32 changes features by 1e-3."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
