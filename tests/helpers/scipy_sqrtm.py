"""scipy.linalg.sqrtm as pytorch-fid, clean-fid and torch-fidelity call it: scipy 1.18 has removed its `disp`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import scipy.linalg


@contextmanager
def sqrtm_with_disp() -> Iterator[None]:
    """Within, `sqrtm(matrix, disp=False)` gives the root and its error estimate with any scipy.

    The peers' own functions then run unchanged, with the square root of the scipy that is installed.
    """
    sqrtm = scipy.linalg.sqrtm

    def with_disp(matrix: np.ndarray, disp: bool = True) -> np.ndarray | tuple[np.ndarray, float]:
        root = sqrtm(matrix)
        return root if disp else (root, float(np.linalg.norm(root @ root - matrix) / np.linalg.norm(matrix)))

    with pytest.MonkeyPatch.context() as patch:
        if "disp" not in inspect.signature(sqrtm).parameters:
            patch.setattr(scipy.linalg, "sqrtm", with_disp)
        yield
