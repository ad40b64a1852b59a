"""How well an image fits the prompt that it was made with, by CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from ditexp.checks import number
from ditexp.metric.base import SampleMean, check_dimensions, output
from ditexp.values import Features


@dataclass(frozen=True)
class ClipScore(SampleMean):
    """The mean over samples of scale x max(cos, 0), where cos is between the embeddings of an image and its prompt.

    scale: 100 as in torchmetrics; Hessel et al. 2021 (arXiv 2104.08718, equation 1) have 2.5, GigaGAN's and REPA's
    scripts 1 (and no maximum, which matters only where cos is negative). Scores of different CLIPs cannot be compared.
    Raises ValueError without prompts, or if an embedding is not finite.
    """

    scale: float = 100.0

    name: ClassVar[str] = "clip_score"
    uses = "pool"
    needs_prompts = True

    def __post_init__(self) -> None:
        number("metric.clip_score.scale", self.scale, above=0)

    def values(self, fake: Features) -> Tensor:
        images, prompts = output(fake, self.uses, metric=self.name), fake.text
        if prompts is None:
            raise ValueError("clip_score needs the prompts of the samples, but they have none: leave it out")
        check_dimensions(images.shape[1], prompts.shape[1], metric=self.name)
        return self.scale * F.cosine_similarity(images.double(), prompts.double()).clamp(min=0)
