"""What the tasks that start from images share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ditexp.sampler import Sampler


def check_pixels(shape: Sequence[int], sampler: Sampler, *, task: str) -> None:
    """Raise ValueError unless images of this shape, (C, H, W), are samples of the model."""
    model = sampler.model
    height, width, channels = sampler.codec.image_shape
    if tuple(model.sample_shape) != (channels, height, width):
        raise ValueError(
            f"task={task} starts from pixels, but this model's samples are latents of {by(model.sample_shape)} for "
            f"images of {channels} x {height} x {width}: choose a model of pixels"
        )
    if tuple(shape) != tuple(model.sample_shape):
        raise ValueError(
            f"task={task}: the images of the data are {by(shape)}, this model's {by(model.sample_shape)}: choose other "
            f"data, or data=folder data.size={height} data.channels={channels} data.resize=true"
        )


def by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
