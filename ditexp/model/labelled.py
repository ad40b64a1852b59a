"""What models of class labels have in common, whatever their network predicts."""

from __future__ import annotations

import copy
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from ditexp.model.label_network import LabelNetwork
from ditexp.values import Condition, required

N = TypeVar("N", bound=LabelNetwork)


class Labelled(Generic[N]):
    """A model whose condition is a label, or an embedding between those of two labels."""

    network: N
    num_classes: int

    def to(self, device: torch.device | str) -> Self:
        self.network.to(device)
        return self

    @property
    def blocks(self) -> nn.ModuleList:
        return self.network.blocks

    def with_network(self, network: nn.Module) -> Self:
        assert isinstance(network, type(self.network))
        made = copy.copy(self)
        made.network = network
        return made

    def null(self, condition: Condition) -> Condition:
        labels = torch.full_like(required(condition.labels), self.num_classes)
        return Condition(labels, None if condition.vector is None else self.embed(labels))

    def between(self, first: Condition, second: Condition, fraction: Tensor) -> Condition:
        """Label embeddings (B, D) on the straight line between two; the labels are those of the nearer end."""
        start, end = (self.embed(required(condition.labels)) for condition in (first, second))
        return Condition(nearer_labels(first, second, fraction), torch.lerp(start, end, fraction[:, None]))

    def embed(self, labels: Tensor) -> Tensor:
        """The rows (B, D) of the label table, on the device of the labels, wherever the table is."""
        table = self.network.label_table
        return table[labels.to(table.device)].to(labels.device)


def given(condition: Condition) -> Tensor | None:
    """What the network is given of a condition: the embeddings (B, D) if it has any, or else the labels (B,)."""
    return condition.labels if condition.vector is None else condition.vector


def nearer_labels(first: Condition, second: Condition, fraction: Tensor) -> Tensor | None:
    """The labels (B,) of the nearer of two conditions, at `fraction` (B,) of the way; None if they have no labels."""
    if first.labels is None or second.labels is None:
        return None
    return torch.where(fraction < 0.5, first.labels, second.labels)
