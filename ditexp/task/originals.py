"""What the tasks that start from images share: reading and encoding them, and refusing what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ditexp.core import Data
from ditexp.pixels import Pixels, WithoutEncoder

if TYPE_CHECKING:
    from ditexp.sampler import Sampler


def originals(data: Data, indices: Sequence[int]) -> Tensor:
    """Images (B, C, H, W) in [-1, 1], on the CPU. Index i is image i, modulo their number."""
    return torch.stack([data[index % len(data)][0] for index in indices])


def encoded(data: Data, sampler: Sampler, indices: Sequence[int]) -> Tensor:
    """The same images as the model's samples at t = 1, (B, *sample_shape) on the device. The time is preparation."""
    with sampler.preparation():
        return sampler.encode(originals(data, indices))


def check_images(data: Data, sampler: Sampler, *, task: str) -> None:
    """Raise ValueError unless images can become samples, and the first has the size and channels of the model's."""
    if isinstance(sampler.codec, WithoutEncoder):
        raise ValueError(
            f"task={task} encodes images, and this VAE is a decoder alone: choose task=generate, or another model"
        )
    check_end(sampler, task=task)
    height, width, channels = sampler.codec.image_shape
    shape = data[0][0].shape
    if tuple(shape) != (channels, height, width):
        raise ValueError(
            f"task={task}: the images of the data are {by(shape)}, this model's {channels} x {height} x {width}: "
            f"choose other data, or data=folder data.size={height} data.channels={channels} data.resize=true"
        )


def check_solver(sampler: Sampler, *, task: str) -> None:
    """Raise ValueError unless the solver can go to the noise of an image and come back."""
    if sampler.solver.stochastic:
        raise ValueError(
            f"task={task} goes to noise and back by one path, but {type(sampler.solver).__name__} adds noise to it: "
            "choose a solver of the ODE, such as solver=heun"
        )
    if sampler.solver.uses_flow_map:
        raise ValueError(
            f"task={task} goes to noise and back, but the jumps of solver=flow_map lead to images alone: choose a "
            "model of one time, and a solver such as heun"
        )


def check_end(sampler: Sampler, *, task: str) -> None:
    """Raise ValueError if samples are not at t = 1, as data are."""
    if sampler.grid[-1] != 1:
        raise ValueError(
            f"task={task} needs samples at t = 1, and this schedule ends at t = {sampler.grid[-1]:.4g}: choose "
            "another, such as schedule=shift"
        )


def makes_latents(sampler: Sampler) -> bool:
    """Whether an autoencoder, which is not exact, leads from images to the model's samples and back."""
    return not isinstance(sampler.codec, Pixels)


def pixels_per_element(sampler: Sampler) -> int:
    """How many pixels wide and high the part of an image is that one element of a sample stands for; 1 for pixels."""
    return sampler.codec.image_shape[0] // sampler.model.sample_shape[1]


def by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
