"""DINOv2 ViT-L/14, the network of FD-DINOv2 (Oquab et al. 2023, arXiv 2304.07193; Stein et al. 2023, 2306.04675)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ditexp.checkpoint.weights import misfit
from ditexp.feature.resize import rgb
from ditexp.feature.weights import Weights
from ditexp.files.content import changed, digest, hashes
from ditexp.files.stamps import files_below
from ditexp.precision import full_float32
from ditexp.transfer import to_device

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
SHA256 = "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"
GITHUB = "facebookresearch/dinov2:b8931f7bf91576930313be2c6d6af376033b35f0"
SIZE, MEAN, STD = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DINOv2:
    """DINOv2 ViT-L/14. pool: the 1024 features of its class token. RGB images are preprocessed as in EDM2.

    repository: a clone of facebookresearch/dinov2, whose code builds the network; None downloads it through torch.hub.
    weights: path of dinov2_vitl14_pretrain.pth; None downloads it into torch.hub's folder on first use.
    batch_size: images per network call; it does not change results.
    Raises ValueError for a repository or weights that don't exist.
    """

    name, channels, judges_labels = "dinov2", 3, False
    class_names: Sequence[str] = ()

    def __init__(self, *, repository: str | None = None, weights: str | None = None, batch_size: int = 50) -> None:
        if repository is not None and not (Path(repository) / "hubconf.py").is_file():
            raise ValueError(
                f"feature.repository={repository} has no hubconf.py: give a clone of facebookresearch/dinov2, or null"
            )
        self.repository = repository
        self.code = None if repository is None else code_of(Path(repository))
        self.weights = Weights(weights, url=URL, published=SHA256)
        self.batch_size = batch_size
        self.outputs = {"pool": 1024}
        self.device = torch.device("cpu")

    @cached_property
    def identity(self) -> dict:
        facts = {"name": self.name, "weights": self.weights.sha256, "resize": "224, bicubic, antialias"}
        return facts if self.code is None else {**facts, "code": self.code}

    def to(self, device: torch.device | str) -> DINOv2:
        self.device = torch.device(device)
        return self

    def load(self) -> None:
        """Load the network, downloading code and weights if needed. Raises ValueError if that fails."""
        _ = self._network

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) uint8 -> pool (B, 1024) float32 on the network's device."""
        network = self._network.to(self.device)
        with full_float32():
            batches = images.split(self.batch_size)
            return {"pool": torch.cat([network(preprocess(to_device(x, self.device))) for x in batches])}

    @cached_property
    def _network(self) -> nn.Module:
        origin = {"repo_or_dir": GITHUB, "source": "github", "trust_repo": True, "skip_validation": True}
        if self.repository is not None:
            origin = {"repo_or_dir": self.repository, "source": "local"}
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "xFormers is not available")
                network = torch.hub.load(**origin, model="dinov2_vitl14", pretrained=False, verbose=False)
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"cannot get DINOv2's code from {origin['repo_or_dir']} ({reason}): set "
                f"feature.repository=/path/to/clone feature.weights=/path/{self.weights.name}"
            ) from None
        if self.repository is not None and code_of(Path(self.repository)) != self.code:
            raise changed(self.repository)
        expected = network.state_dict()
        weights = self.weights.load("DINOv2", next(iter(expected)))
        if wrong := misfit(weights, expected):
            raise self.weights.unfit(wrong)
        network.load_state_dict(weights)
        return network.eval()


def code_of(repository: Path) -> str:
    """A hash of the Python code of a clone."""
    files = [file for file in files_below(repository) if file.suffix == ".py"]
    names = [file.relative_to(repository).as_posix() for file in files]
    return digest(dict(zip(names, hashes(files, title="dinov2"))))


def preprocess(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> (B, 3, 224, 224) float32: EDM2's fast path, antialiased bicubic, not clamped to 0..255."""
    resized = F.interpolate(rgb(images), (SIZE, SIZE), mode="bicubic", antialias=True) / 255
    mean, std = (resized.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (resized - mean) / std
