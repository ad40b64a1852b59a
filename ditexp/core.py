"""The protocols between the parts of ditexp. Imports torch and value types only.

Time runs from t = 0 (noise) to t = 1 (data) along the rectified-flow path x_t = (1 - t) x_0 + t x_1, whose
velocity is v = x_1 - x_0 and whose samples solve dx/dt = v(x, t) (Liu et al. 2022, "Flow Straight and Fast").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ditexp.values import Condition, LabelMeaning, Solution

# Part of the id of every sample set. Raise it when a change to the built-in solvers, schedules, guidance, noise or
# models changes pixels, so that old sets are not reused for the new numerics.
NUMERICS_VERSION = 2

# The number of a step, counted from 0 -> standard normal noise like x, drawn for each sample on its own.
StepNoise = Callable[[int], Tensor]
# x (B, ...) and its time -> x on the constraint (inpainting).
Projection = Callable[[Tensor, float], Tensor]


class VelocityField(Protocol):
    """All that a solver sees of the model: the velocity of a batch of samples."""

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        """v like x, at x (B, ...) and t in [0, 1], 0 = noise, 1 = data: one time of all samples, or (B,).

        A time that is a number is known to the CPU: no GPU is waited for to decide on guidance. It counts as rounded to
        the precision of x.

        For a solver that uses the variance, v and the output of the variance head, stacked along the channels.
        """

    def take(self, rows: Tensor) -> VelocityField:
        """The field of some of the batch's samples. rows: int64 indices into the batch that this field is for."""


@runtime_checkable
class GuidedVelocity(VelocityField, Protocol):
    """A field that also does what published samplers do with guidance beyond evaluating it at x and t."""

    def of_step(self, start: float) -> VelocityField:
        """The field during the step that starts at this time, for guidance that is decided once a step."""

    def doubled(self, x: Tensor, t: float) -> Tensor:
        """The velocity (2 B, ...) of a script's doubled batch at x (B, ...) and t: the guided one, and below it
        the null half's, which is the same in the guided channels and unconditional in the others."""


@runtime_checkable
class FlowMap(VelocityField, Protocol):
    """A field that also knows where its flow leads."""

    def average(self, x: Tensor, t: float, until: float) -> Tensor:
        """The average velocity like x between the times t and `until`, both of all samples: the flow that is at x at t
        is at x + (until - t) average at `until`."""


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


class Schedule(Protocol):
    """Where the steps lie."""

    def grid(self) -> Tensor:
        """float64 (steps + 1,), strictly increasing from exactly 0 to exactly 1, or where a published sampler stops."""

    def tuned_to(self, flow: dict) -> Schedule:
        """The schedule that is used, and identified, for a flow. Called once.

        flow: JSON-able facts that determine model, solver and guidance. Most schedules do not depend on it.
        """


class Guidance(Protocol):
    """Turns a model and a condition into the velocity field that is integrated.

    start: the time at which samples begin to move; integration starts there. 0 for most.
    interval: (low, high); it does nothing at other times. None if it acts everywhere or nowhere.
    weak: a second model that it evaluates; None if there is none.
    """

    @property
    def start(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float] | None: ...
    @property
    def weak(self) -> FlowModel | None: ...

    def on(self, grid: Sequence[float] | None) -> Guidance:
        """The guidance that is used, and identified, on a grid; None if the solver is adaptive. Called once."""

    def check(self, model: FlowModel) -> None:
        """Raise ValueError if the model cannot be guided in this way, for example for want of a null condition."""

    def bind(self, model: EvaluatedModel, condition: Condition) -> VelocityField:
        """The field of a batch with this condition."""


@runtime_checkable
class TransformerBlock(Protocol):
    """A block of a transformer: a sum of its input and of the gated outputs of its branches."""

    def __call__(self, x: Tensor, c: Tensor, *inputs: Any, **given: Any) -> Tensor:
        """The tokens after the block, from those before it, x (B, N, D). c: modulates them, (B, D) or (B, N, D)."""

    def computed(self, x: Tensor, c: Tensor, *inputs: Any, **given: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same, and the output of each branch before its gate (B, N, D)."""

    def completed(self, x: Tensor, c: Tensor, branches: Sequence[Tensor]) -> Tensor:
        """The tokens after the block if these are the outputs of its branches before their gates."""


class Walk(Protocol):
    """One evaluation of a transformer: how each of its blocks is computed.

    is_full: whether it computes all of them; an evaluation that is not full reuses outputs of the last one that is.
    """

    @property
    def is_full(self) -> bool: ...

    def __call__(
        self, number: int, block: TransformerBlock, tokens: Tensor, c: Tensor, *inputs: Any, **given: Any
    ) -> Tensor:
        """The tokens after block `number`, from the tokens before it and the block's other inputs."""


@runtime_checkable
class EncoderWalk(Walk, Protocol):
    """A walk that decides whether a network's encoder is computed."""

    def encoded(self, encode: Callable[[], Tensor]) -> Tensor:
        """The encoder's output, which modulates the other blocks: what `encode` computes, or an earlier one."""


@runtime_checkable
class TransformerModel(FlowModel, Protocol):
    """A model whose network is a sequence of blocks, which can be evaluated by a walk through them."""

    @property
    def blocks(self) -> nn.ModuleList: ...

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, walk: Walk | None = None) -> Tensor:
        """The velocity, as of FlowModel. walk: computes the blocks in place of themselves."""

    def network_time(self, t: float) -> float:
        """The time that the network is given at t."""


@runtime_checkable
class PartedModel(TransformerModel, Protocol):
    """A transformer that may have several parts, each with tokens of its own, such as a trunk and a head.

    parts: the numbers of the blocks of each; one part if the tokens of each block lead to the next.
    """

    @property
    def parts(self) -> tuple[range, ...]: ...


class CacheState(Protocol):
    """What one integration of one batch remembers of its evaluations."""

    def evaluation(self, t: float, rows: int) -> Walk:
        """The walk of the next evaluation, at time t. rows: the samples in its batch."""


class Cache(Protocol):
    """Reuses outputs of a transformer's blocks over the evaluations of an integration, in their order in time.

    period: after so many evaluations one has reused outputs, if any does. work: what decides how much such an
    evaluation computes.
    """

    @property
    def period(self) -> int: ...
    @property
    def work(self) -> tuple[Any, ...]: ...

    def check(self, model: TransformerModel) -> None:
        """Raise ValueError if the model's blocks cannot be cached in this way."""

    def begin(self, model: TransformerModel) -> CacheState:
        """The state of an integration that begins: nothing is remembered."""


class Solver(Protocol):
    """Integrates dx/dt = v(x, t) over a grid.

    adaptive: whether it chooses its own steps, so that only the ends of the grid matter.
    stochastic: whether it adds noise, that is, solves the SDE.
    history: the number of earlier steps that a step looks back at; 0 for a one-step method.
    uses_variance: whether it needs the output of a model's variance head beside the velocity.
    uses_flow_map: whether it needs a FlowMap, that is, a model of two times.
    """

    @property
    def adaptive(self) -> bool: ...
    @property
    def stochastic(self) -> bool: ...
    @property
    def uses_variance(self) -> bool: ...
    @property
    def uses_flow_map(self) -> bool: ...
    @property
    def history(self) -> int: ...

    def integrate(
        self,
        field: VelocityField,
        x: Tensor,
        grid: Sequence[float],
        project: Projection | None = None,
        noise: StepNoise | None = None,
    ) -> Solution:
        """From x (B, ...) at grid[0] to grid[-1].

        project: applied after every step. noise: the source for solvers of the SDE; others ignore it.
        Raises FloatingPointError with the first step whose state is not finite; on CUDA it may leave that to the
        solution's `check`, which the caller calls, so that the host does not wait. Adaptive solvers raise ValueError
        for a projection, and ArithmeticError if a sample does not reach the end.
        """


class Conditioner(Protocol):
    """Chooses the condition of each sample by its index alone."""

    def check(self, model: FlowModel) -> None:
        """Raise ValueError if the model does not fit."""

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        """The condition of the samples with these indices."""

    def captions(self, indices: Sequence[int]) -> list[str] | None:
        """The condition of each sample in words; None if there are none."""

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        """What the labels of samples stand for."""


class Data(Protocol):
    """Images that a task starts from.

    num_classes: 0 if they have no labels. class_names: the name of each label.
    labels: (N,) int64, known without reading the images; -1 if there are none. identity: facts that determine the data.
    """

    @property
    def num_classes(self) -> int: ...
    @property
    def class_names(self) -> Sequence[str]: ...
    @property
    def labels(self) -> Tensor: ...
    @property
    def identity(self) -> dict: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """The image (C, H, W) float32 in [-1, 1], and its label, () int64."""


class Feature(Protocol):
    """A network whose outputs the metrics compare.

    channels: 1 or 3, the channels of its input. judges_labels: whether its logits are over the classes that samples
    are made with. class_names: the names of these classes; empty if unknown. outputs: which of pool, logits and
    spatial it has, and the width of each.
    identity: JSON-able facts that determine its outputs (sha256 of the weights, resize).
    """

    @property
    def name(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def judges_labels(self) -> bool: ...
    @property
    def class_names(self) -> Sequence[str]: ...
    @property
    def outputs(self) -> dict[str, int]: ...
    @property
    def identity(self) -> dict: ...

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) uint8 -> each of `outputs`, (B, ...) float32 on any device; on CUDA they may not be done yet."""

    def load(self) -> None:
        """Make the network ready; downloads weights if needed. Raises ValueError if they cannot be had."""

    def to(self, device: torch.device | str) -> Feature: ...
