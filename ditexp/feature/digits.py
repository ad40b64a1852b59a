"""The bundled feature network: a small classifier of 8x8 digits."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from ditexp.checkpoint.container import read_checkpoint
from ditexp.checkpoint.weights import misfit, weights_of
from ditexp.files.reading import unfit
from ditexp.transfer import to_device

BUNDLED = Path(__file__).parents[1] / "weights" / "digits_classifier.safetensors"


class DigitsClassifier(nn.Module):
    """(B, 1, 8, 8) in [-1, 1] -> pooled features (B, 64) and logits (B, 10)."""

    num_classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pool = self.trunk(x)
        return pool, self.head(pool)


class DigitsFeature:
    """The bundled classifier: its last hidden layer and its logits, for 8x8 grey images.

    Its scores cannot be compared with scores of other feature networks. weights: a file that ditexp.train
    wrote; it may hold the names of the classes. Raises ValueError if it is missing or belongs to another network.
    """

    name, channels, judges_labels = "digits", 1, True

    def __init__(self, *, weights: str = str(BUNDLED)) -> None:
        name, kind = f"feature.weights={weights}", "a digits classifier"
        container = read_checkpoint(weights, name=name)
        state = weights_of(container, anchor="head.weight", kind=kind, setting=None).tensors
        self.network = DigitsClassifier()
        if wrong := misfit(state, self.network.state_dict()):
            raise unfit(name, f"is not {kind}: {wrong}", "give the weights of one")
        self.network.load_state_dict(state)
        self.network.eval()
        names = json.loads(container.metadata.get("class_names", "[]"))
        is_bundled = Path(weights).resolve() == BUNDLED
        self.class_names: list[str] = [str(digit) for digit in range(10)] if is_bundled else names
        self.outputs = {"pool": 64, "logits": 10}
        self.identity = {"network": "digits classifier, 64 features", "sha256": container.sha256}
        self.device = torch.device("cpu")

    def to(self, device: torch.device | str) -> DigitsFeature:
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def load(self) -> None:
        """Does nothing: the weights are read by the constructor."""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 1, 8, 8) uint8 -> pool (B, 64) and logits (B, 10), float32 on the network's device."""
        if images.shape[1:] != (1, 8, 8):
            size = " x ".join(map(str, images.shape[1:]))
            raise ValueError(f"feature=digits judges images of 1 x 8 x 8, not {size}: choose feature=inception")
        pool, logits = self.network((to_device(images, self.device).float() - 127.5) / 127.5)
        return {"pool": pool, "logits": logits}
