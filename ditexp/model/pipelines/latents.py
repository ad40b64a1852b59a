"""How the networks of pipelines read latents: as they are, or in patches of 2 x 2 as tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ditexp.model.pipelines.kind import PipelineKind


class PlainLatents(PipelineKind):
    """A network that reads latents (B, C, H, W), and whose config has their size."""

    def own_side(self, pipeline: Any) -> int:
        return pipeline.vae_scale_factor * pipeline.transformer.config.sample_size

    def side_multiple(self, pipeline: Any) -> int:
        return pipeline.vae_scale_factor * pipeline.transformer.config.patch_size

    def sample_shape(self, pipeline: Any, side: int) -> tuple[int, int, int]:
        side //= pipeline.vae_scale_factor
        return pipeline.transformer.config.in_channels, side, side

    def size_multiple(self, network: Any) -> int:
        return network.config.patch_size


class PackedLatents(PipelineKind):
    """A network that reads patches of 2 x 2 latents as tokens, of any number."""

    def own_side(self, pipeline: Any) -> int:
        return pipeline.vae_scale_factor * pipeline.default_sample_size

    def side_multiple(self, pipeline: Any) -> int:
        return 2 * pipeline.vae_scale_factor

    def sample_shape(self, pipeline: Any, side: int) -> tuple[int, int, int]:
        side //= pipeline.vae_scale_factor
        return pipeline.transformer.config.in_channels // 4, side, side

    def size_multiple(self, network: Any) -> int:
        return 2

    def pack(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H W / 4, 4 C), the channel first."""
        return x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def unpack(self, output: Tensor, x: Tensor) -> Tensor:
        _, channels, height, width = x.shape
        patches = output.unflatten(2, (channels, 2, 2)).unflatten(1, (height // 2, width // 2))
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)
