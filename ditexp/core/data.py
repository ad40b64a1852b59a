"""Images that tasks begin with, and networks that judge images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


class Data(Protocol):
    """Images that a task starts from.

    num_classes: 0 if they have no labels. class_names: the name of each label.
    labels: (N,) int64, known without reading the images; -1 if there are none. identity: facts that determine the data.
    """

    @property
    def num_classes(self) -> int: ...
    @property
    def class_names(self) -> Sequence[str]: ...
    @property
    def labels(self) -> Tensor: ...
    @property
    def identity(self) -> dict: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """The image (C, H, W) float32 in [-1, 1], and its label, () int64."""


class Feature(Protocol):
    """A network whose outputs the metrics compare.

    channels: 1 or 3, the channels of its input. judges_labels: whether its logits are over the classes that samples
    are made with. class_names: the names of these classes; empty if unknown. outputs: which of pool, logits and
    spatial it has, and the width of each.
    identity: JSON-able facts that determine its outputs (sha256 of the weights, resize).
    """

    @property
    def name(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def judges_labels(self) -> bool: ...
    @property
    def class_names(self) -> Sequence[str]: ...
    @property
    def outputs(self) -> dict[str, int]: ...
    @property
    def identity(self) -> dict: ...

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) uint8 -> each of `outputs`, (B, ...) float32 on any device; on CUDA they may not be done yet."""

    def load(self) -> None:
        """Make the network ready; downloads weights if needed. Raises ValueError if they cannot be had."""

    def to(self, device: torch.device | str) -> Feature: ...


@runtime_checkable
class TextFeature(Feature, Protocol):
    """A network that also embeds texts, in the space of its `pool`."""

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, D) float32 on the CPU."""
