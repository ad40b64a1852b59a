"""What training needs to know of a network, beside calling it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn


class FlowNetwork(Protocol):
    """A velocity network that FlowMatching can train.

    patch_size: the sides of its images are multiples of it. has_null: whether it can be called without a condition.
    """

    patch_size: int
    has_null: bool

    def __call__(self, x: Tensor, t: Tensor, labels: Any) -> Tensor:
        """Velocity like x (B, C, H, W) at t (B,) in [0, 1], 1 = data; labels: (B,) int64 or B captions."""
        ...

    def drop(self, labels: Any, dropped: Tensor) -> Any:
        """The labels or captions with the empty condition where dropped (B,) is true."""
        ...


@runtime_checkable
class ClassNetwork(Protocol):
    """A network of labelled images. num_classes: 0 for an unconditional one."""

    num_classes: int


@runtime_checkable
class SizedNetwork(Protocol):
    """A network of square images with this side, in pixels."""

    input_size: int


def classes_of(network: nn.Module) -> int:
    return network.num_classes if isinstance(network, ClassNetwork) else 0
