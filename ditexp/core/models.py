"""Models, and what leads from their samples to images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ditexp.values import Condition


class Codec(Protocol):
    """Leads from a model's samples to images and back.

    image_shape: (H, W, C) of the images, C = 1 (grey) or 3 (RGB).
    identity: JSON-able facts that determine the images of given samples; part of a set's id.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]: ...
    @property
    def identity(self) -> dict: ...

    def decode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) float32 in about [-1, 1] of samples x (B, *sample_shape) at t = 1."""

    def encode(self, images: Tensor) -> Tensor:
        """The samples (B, *sample_shape) at t = 1 of images (B, C, H, W) float32 in [-1, 1]. The same every time."""

    def to(self, device: torch.device | str) -> Codec: ...


class VAE(Protocol):
    """An autoencoder whose latents a model makes."""

    def codec(self, sample_shape: Sequence[int]) -> Codec:
        """The codec of latents (C, H, W). Raises ValueError if they are not latents of this VAE."""


class FlowModel(Protocol):
    """A velocity network, and what is needed to condition it.

    sample_shape: (C, H, W) of one sample in the model's own space.
    codec: the model's own way from samples to images; None for a model of latents, which needs a VAE.
    start: the time at which samples begin. 0 for flows; above 0 for models of a diffusion whose last time still has
    some data in it, as DiT's has. start_std: the standard deviation of x there, which is noise; 1 at time 0.
    num_classes: labels run over [0, num_classes); 0 for an unconditional model.
    class_names: the names of classes 0, 1, ...; empty if unknown.
    has_null: whether `null` exists, that is, whether the model can be evaluated without its condition.
    identity: JSON-able facts that determine the outputs (architecture, sha256 of the weights); part of a set's id.
    """

    @property
    def sample_shape(self) -> tuple[int, ...]: ...
    @property
    def codec(self) -> Codec | None: ...
    @property
    def start(self) -> float: ...
    @property
    def start_std(self) -> float: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def class_names(self) -> Sequence[str]: ...
    @property
    def has_null(self) -> bool: ...
    @property
    def identity(self) -> dict: ...

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity (B, *sample_shape) at x (B, *sample_shape) and t (B,) in [0, 1]."""

    def null(self, condition: Condition) -> Condition:
        """The empty condition for a batch of the same size."""

    def to(self, device: torch.device | str) -> FlowModel: ...


@runtime_checkable
class VarianceModel(FlowModel, Protocol):
    """A model that may have a second head: the variance of DDPM's steps (Nichol & Dhariwal 2021, arXiv 2102.09672).

    has_variance: whether it has that head.
    """

    @property
    def has_variance(self) -> bool: ...

    def velocity_and_variance(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """(B, 2 C, H, W): the velocity, and the head's output, -1 for the smallest variance and 1 for the largest."""


@runtime_checkable
class FlowMapModel(FlowModel, Protocol):
    """A model of two times: the average velocity of its flow between them (Geng et al. 2025, arXiv 2505.13447).

    Its velocity is the average velocity with both times equal. Its guidance, if any, is inside the network.
    """

    def average_velocity(self, x: Tensor, t: Tensor, condition: Condition, until: Tensor) -> Tensor:
        """u = (x_until - x_t) / (until - t), (B, *sample_shape), at x = x_t and times t and `until` (B,) in [0, 1]."""


@runtime_checkable
class TextModel(FlowModel, Protocol):
    """A model that is conditioned on prompts."""

    def encode(self, prompts: Sequence[str]) -> Condition:
        """The condition of B prompts."""

    def notice_truncation(self, prompts: Sequence[str]) -> None:
        """Print a notice for each prompt that has more tokens than the model reads."""


@runtime_checkable
class BetweenModel(FlowModel, Protocol):
    """A model that has conditions between two others, to interpolate along."""

    def between(self, first: Condition, second: Condition, fraction: Tensor) -> Condition:
        """The conditions at `fraction` (B,) in [0, 1] of the way from the first to the second."""


@runtime_checkable
class ResizableModel(FlowModel, Protocol):
    """A model that accepts samples with other sides than those of sample_shape: multiples of `size_multiple`."""

    @property
    def size_multiple(self) -> int: ...


@runtime_checkable
class ModuleModel(FlowModel, Protocol):
    """A model whose weights are those of one torch module, most of them of transformer blocks.

    blocks: of the network; they can be replaced one by one.
    """

    @property
    def network(self) -> nn.Module: ...
    @property
    def blocks(self) -> nn.ModuleList: ...

    def with_network(self, network: nn.Module) -> ModuleModel:
        """The same model with another module of the same kind; it shares all else."""


class EvaluatedModel(Protocol):
    """A FlowModel as the sampler evaluates it: on its device, at its precision, every evaluation counted."""

    def __call__(
        self, x: Tensor, t: float | Tensor, condition: Condition, *, until: float | Tensor | None = None
    ) -> Tensor:
        """t: one time of all samples, or (B,). until: the same, for the average velocity of a model of two times."""

    def null(self, condition: Condition) -> Condition: ...

    def beside(self, model: FlowModel) -> EvaluatedModel:
        """A second model, evaluated in the same way and counted together with this one."""
