"""The weights of a VAE in files, read without running code in them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ditexp.checkpoint.container import read_checkpoint
from ditexp.checkpoint.networks import mappings
from ditexp.checkpoint.weights import weights_of

SUFFIXES = (".safetensors.index.json", ".safetensors", ".bin", ".pth", ".pt")  # the first that exists is read


class Weights(NamedTuple):
    """Tensors in float32 by the network's own names. sha256: of the files that hold them."""

    tensors: dict[str, Tensor]
    sha256: str


def file_of(folder: Path, stem: str) -> Path | None:
    """The file of weights of this name, in which * stands for anything; None if there is none."""
    found = (path for suffix in SUFFIXES for path in sorted(folder.glob(f"{stem}{suffix}")))
    return next(found, None)


def read_weights(path: Path, name: str, *anchors: str) -> Weights:
    """anchors: names of weights, one of which the network has. Raises ValueError for files without such a network."""
    container = read_checkpoint(path, name=name)
    keys = {str(key) for _, mapping in mappings(container.state) for key in mapping}
    anchor = next((one for one in anchors if any(key.endswith(one) for key in keys)), anchors[0])
    return Weights(weights_of(container, anchor=anchor, kind="a VAE of this kind").tensors, container.sha256)
