"""What training needs to know of its images, and whether they fit the network and the objective."""

from __future__ import annotations

import json
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from ditexp.cli.shortage import shortage
from ditexp.train.network import SizedNetwork, classes_of
from ditexp.train.objective import Objective


class TrainingData(Protocol):
    """A map-style data set. num_classes: 0 without labels.

    ditexp's own data sets are also NamedData, LabelledData and IdentifiedData. Another data set need not be: then its
    path alone identifies it.
    """

    @property
    def num_classes(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor | str]:
        """An image (C, H, W) in [-1, 1], and its label, () int64, or its caption."""
        ...


@runtime_checkable
class NamedData(Protocol):
    """class_names: of class 0, 1, ...; empty if the classes have no names."""

    @property
    def class_names(self) -> list[str]: ...


@runtime_checkable
class LabelledData(Protocol):
    """labels: (N,) int64, of all images."""

    @property
    def labels(self) -> Tensor: ...


@runtime_checkable
class IdentifiedData(Protocol):
    """identity: JSON-able facts that determine images and labels, wherever they lie."""

    @property
    def identity(self) -> dict[str, Any]: ...


def facts_of(data: TrainingData) -> dict[str, Any]:
    """JSON-able facts that distinguish these images and labels from others. labels: the classes that have images."""
    facts = {
        "images": len(data),
        "class_names": list(data.class_names) if isinstance(data, NamedData) else [],
        "labels": np.unique(data.labels).tolist() if isinstance(data, LabelledData) else [],
        "identity": data.identity if isinstance(data, IdentifiedData) else {},
    }
    return json.loads(json.dumps(facts))


def check(network: nn.Module, objective: Objective, data: TrainingData) -> None:
    """Raise ValueError unless this objective can train this network on these images and labels."""
    classes = classes_of(network)
    if 0 < classes < data.num_classes:
        raise ValueError(f"the data has {data.num_classes} classes, the network {classes}: set network.num_classes")
    image, label = data[0]
    side = network.input_size if isinstance(network, SizedNetwork) else image.shape[-1]
    if image.shape[1:] != (side, side):  # a network of several resolutions would accept others
        sides = " x ".join(map(str, image.shape[1:]))
        raise ValueError(f"the images are {sides}, the network {side} x {side}: set network.input_size")
    labels = [label] if isinstance(label, str) else torch.tensor([data.num_classes - 1])
    try:
        with torch.no_grad():
            objective(network, image[None], labels, torch.Generator())
    except (RuntimeError, IndexError, TypeError, AttributeError) as error:
        if shortage(error):
            raise
        raise ValueError(
            f"{type(network).__name__} cannot be trained by {type(objective).__name__} on images of "
            f"{' x '.join(map(str, image.shape))} in {data.num_classes} classes ({error}): "
            f"choose another network=... or objective=..., or set network.* to the data's"
        ) from error
