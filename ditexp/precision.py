"""The precision of feature networks and metrics, which must not depend on the sampler's."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32() -> Generator[None]:
    """Without TF32 and bfloat16 products, even if the sampler uses them: TF32 changes features by 1e-3."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
