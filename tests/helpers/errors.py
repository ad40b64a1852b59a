"""How far numbers are off."""

from __future__ import annotations

from torch import Tensor

RESOLVED = 2e-14  # errors of ten times what float64 leaves of the truth


def rms(difference: Tensor) -> float:
    """The root of the mean square, in float64."""
    return difference.double().square().mean().sqrt().item()


def relative(ours: Tensor, theirs: Tensor) -> float:
    """The greatest difference beside the greatest of their values."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
