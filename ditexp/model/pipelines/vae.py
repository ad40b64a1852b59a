"""The VAEs of pipelines as codecs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class PipelineVAE:
    """The VAE of a pipeline as a codec: its latents are x / scaling_factor + shift_factor. It moves with its model."""

    def __init__(self, vae: Any, image_shape: tuple[int, int, int]) -> None:
        self.vae, self.image_shape = vae, image_shape
        self.identity = {"codec": "pipeline"}  # its weights are part of the model's identity
        self.vae.enable_slicing()  # decodes image by image: a batch of images would need more memory than the network

    def decode(self, x: Tensor) -> Tensor:
        return self.vae.decode(self.denormalize(x.to(self.vae.dtype)), return_dict=False)[0].float()

    def encode(self, images: Tensor) -> Tensor:
        return self.normalize(self.vae.encode(images.to(self.vae.dtype)).latent_dist.mode().float())

    def denormalize(self, x: Tensor) -> Tensor:
        """Samples x -> the latents of the network."""
        return x / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0.0)

    def normalize(self, latents: Tensor) -> Tensor:
        """Latents of the network -> samples x."""
        return (latents - (self.vae.config.shift_factor or 0.0)) * self.vae.config.scaling_factor

    def to(self, device: torch.device | str) -> PipelineVAE:
        return self
