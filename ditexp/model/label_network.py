"""What the networks of published models have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ditexp.core import Walk


class LabelNetwork(nn.Module, ABC):
    """A transformer conditioned on times and class labels, as a checkpoint holds it.

    input_size: height = width of x. in_channels: of x. hidden_size: the width of its tokens.
    kind: its name in the ids of sample sets.
    num_classes: 0 if there are no labels. has_null: whether row num_classes of the label table is the empty condition.
    """

    kind: ClassVar[str]

    input_size: int
    patch_size: int
    in_channels: int
    hidden_size: int
    num_classes: int
    has_null: bool
    blocks: nn.ModuleList

    @property
    @abstractmethod
    def label_table(self) -> Tensor:
        """The embeddings of the labels, (rows, D)."""

    @abstractmethod
    def outputs(self, x: Tensor, t: Tensor, labels: Tensor | None = None, walk: Walk | None = None) -> Tensor:
        """What the network predicts at x (B, C, H, W) and its own time t (B,): (B, C or more, H, W).

        labels: (B,) int64, or embeddings (B, D), rows of the table or between them. walk: computes the blocks in place
        of themselves.
        """

    @property
    def depth(self) -> int:
        """The number of blocks by which the size is named."""
        return len(self.blocks)

    @property
    def parts(self) -> tuple[range, ...]:
        """The numbers of the blocks whose tokens lead from each to the next; one range if they all do."""
        return (range(len(self.blocks)),)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None, walk: Walk | None = None) -> Tensor:
        """`outputs` without channels beyond those of x."""
        return self.outputs(x, t, labels, walk)[:, : self.in_channels]

    def check_file(self, weights: Mapping[str, Tensor]) -> None:
        """Raise NoDiT for tensors of a file, not all of them weights, that belong to another network."""
