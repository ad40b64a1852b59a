"""The protocols and value types that every part of ditexp speaks. Imports torch only.

Time runs from t = 0 (noise) to t = 1 (data) along the rectified-flow path x_t = (1 - t) x_0 + t x_1, whose
velocity is v = x_1 - x_0 and whose samples solve dx/dt = v(x, t) (Liu et al. 2022, "Flow Straight and Fast").
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

# Part of every sample set's id. Raise it when a change of the built-in solvers, schedules, guidance, noise or
# models changes pixels, so that old sets are never taken for new ones.
NUMERICS_VERSION = 2


@dataclass(frozen=True)
class Condition:
    """What a batch is conditioned on; what a model doesn't take is None.

    labels: (B,) int64 class indices; of prompts, their numbers in the list of them.
    vector: (B, P) an embedding of the whole condition: of a prompt, or between the embeddings of two labels.
    states: (B, L, D) a text encoder's hidden states. mask: (B, L) bool, true where there is a token and no padding.
    """

    labels: Tensor | None = None
    vector: Tensor | None = None
    states: Tensor | None = None
    mask: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Condition:
        return Condition(*(None if part is None else function(part) for part in self.parts))

    @property
    def parts(self) -> tuple[Tensor | None, ...]:
        return self.labels, self.vector, self.states, self.mask

    def to(self, device: torch.device | str) -> Condition:
        return self.map(lambda part: part.to(device))

    @staticmethod
    def cat(first: Condition, second: Condition) -> Condition:
        """Stack two conditions of one model along the batch: (B1, ...) and (B2, ...) give (B1 + B2, ...)."""
        pairs = zip(first.parts, second.parts)
        return Condition(*(None if one is None else torch.cat([one, other]) for one, other in pairs))

    def take(self, rows: Tensor | slice) -> Condition:
        """The conditions of some of the batch's samples; rows: int64 indices, or a slice."""
        return self.map(lambda part: part[rows])


@dataclass(frozen=True)
class LabelMeaning:
    """What the labels of samples stand for, so that none is judged as a class that it isn't.

    classes: the classes among them; None: the labels are no classes, and `why_not` says why, and what to do about it.
    count: how many classes there are to choose from; None: unknown. names: of classes from 0 on; empty: unknown.
    """

    classes: Sequence[int] | None
    count: int | None = None
    names: Sequence[str] = ()
    why_not: str = ""


@dataclass(frozen=True)
class Solution:
    """Where an integration ended. x: (B, ...) at t = 1.

    accepted, rejected: where each sample has steps of its own, how many it took and how many it threw away, B each.
    """

    x: Tensor
    accepted: Sequence[int] = ()
    rejected: Sequence[int] = ()


@dataclass(frozen=True)
class Gaussian:
    """What a Fréchet distance sees of a set. mean: (D,), covariance: (D, D), float64, divisor N - 1.

    count: the N images it was fitted to; None where a file of statistics doesn't tell.
    """

    mean: Tensor
    covariance: Tensor
    count: int | None = None


@dataclass(frozen=True)
class Features:
    """What metrics see of a set of images: network outputs, or only their statistics.

    count: N, the images that there are outputs of; 0 where only statistics are known.
    pool: (N, D) float32 pooled features. logits: (N, K) float32 class logits. spatial: (N, S) float32, part of a
    feature map with its places kept. None where the network doesn't give it, or nobody asked for it.
    gaussians: by the name of an output, its statistics where they are known already; these are then what counts.
    labels: (N,) int64, what the images were made under, where a metric asks for it.
    """

    count: int
    pool: Tensor | None = None
    logits: Tensor | None = None
    spatial: Tensor | None = None
    gaussians: Mapping[str, Gaussian] = field(default_factory=dict)
    labels: Tensor | None = None

    def take(self, rows: Tensor) -> Features:
        """Of some of the images, int64 rows; statistics known beforehand are of all of them and are left out."""
        parts = (None if part is None else part[rows] for part in (self.pool, self.logits, self.spatial, self.labels))
        pool, logits, spatial, labels = parts
        return Features(len(rows), pool, logits, spatial, labels=labels)


@dataclass(frozen=True)
class PerSample:
    """A score with the values of the single samples that it is made of, so that its noise can be estimated.

    values: (N, ...) float64 on the CPU, of samples 0 to N - 1; NaN for a sample that has no part in the score.
    reduce: (M, ...) values without NaN -> the score, as a tensor of one element.
    """

    values: Tensor
    reduce: Callable[[Tensor], Tensor] = torch.mean

    @property
    def score(self) -> float:
        return self.of(slice(None))

    def of(self, rows: Tensor | slice) -> float:
        """The score of some of the samples; NaN if none of them has a part in it."""
        values = self.values[rows]
        values = values[~values.flatten(1).isnan().any(1)] if values.dim() > 1 else values[~values.isnan()]
        return self.reduce(values).item() if len(values) else math.nan


def root_mean(squares: Tensor) -> Tensor:
    """For PerSample: a root mean square error from each sample's mean square error."""
    return squares.mean().sqrt()


@dataclass
class Cost:
    """What some images cost. rows: images times evaluations, of the velocity field and of the network behind it.

    seconds: sampling and decoding. preparation_seconds: what is no sampling, most of it once a process: compilation and
    every other first use, encoding prompts, reading images. peak_memory_mb: 10^6 bytes, allocated by torch on CUDA,
    resident in all on a CPU. accepted, rejected: {steps: images that took, or threw away, so many}; empty on fixed
    grids.
    """

    images: int = 0
    velocity_rows: int = 0
    network_rows: int = 0
    seconds: float = 0.0
    preparation_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    accepted: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)


class VelocityField(Protocol):
    """All that a solver sees. x: (B, ...); t: (B,) in [0, 1], 0 = noise, 1 = data; returns v like x.

    rows: int64 indices of the samples that x and t are of, where a solver evaluates some of its batch; None: all.
    A field that guidance binds need not take it, since it is bound anew for the conditions of those samples.
    """

    def __call__(self, x: Tensor, t: Tensor, rows: Tensor | None = None) -> Tensor: ...


class FlowModel(Protocol):
    """All that guidance sees: a velocity network and what is needed to condition it and to see its samples.

    sample_shape: (C, H, W) of one sample in the model's own space.
    image_shape: (H, W, C) of the decoded images, C = 1 (grey) or 3 (RGB).
    num_classes: labels run over [0, num_classes); 0 for an unconditional model. It may have `class_names`, theirs.
    has_null: whether `null` exists, that is whether the model can be evaluated without its condition.
    identity: JSON-able facts that determine its outputs (architecture, weights' sha256); part of a set's id.

    It may have more. A model of text has `encode(prompts)`, the condition of B prompts, and `tell_of_truncation(
    prompts)`, a notice for each that is too long. `between(first, second, share)` makes the conditions at share (B,) of
    the way from one to the other. `size_multiple` is what the sides of samples must be multiples of, if a model takes
    samples of other sides than sample_shape's.
    """

    sample_shape: tuple[int, ...]
    image_shape: tuple[int, int, int]
    num_classes: int
    has_null: bool
    identity: dict

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Velocity (B, *sample_shape) at x (B, *sample_shape) and t (B,) in [0, 1]."""
        ...

    def null(self, condition: Condition) -> Condition:
        """The empty condition for a batch of the same size."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """Pixels (B, C, H, W) uint8 of samples x at t = 1 (in [-1, 1] for pixel-space models)."""
        ...

    def to(self, device: torch.device | str) -> FlowModel: ...


StepNoise = Callable[[int], Tensor]  # the number of a step, from 0 -> standard normal like x, each sample's own


class Schedule(Protocol):
    """Where the steps lie.

    It may have `tuned_to(flow)`, which is called once with JSON-able facts of model, solver and guidance, and gives the
    schedule that acts and that the set's id is made of.
    """

    def grid(self) -> Tensor:
        """float64 (steps + 1,), strictly increasing from exactly 0 to exactly 1."""
        ...


class Guidance(Protocol):
    """Turns a model and a condition into the field that is integrated.

    It may have two things more. `on(grid)` is called once with the grid of the sampler, None if its solver is adaptive,
    and gives the guidance that acts and that the set's id is made of. `start` is when samples begin to move.
    """

    def check(self, model: FlowModel) -> None:
        """Raise ValueError if this model cannot be guided so (for example: it has no null condition)."""
        ...

    def bind(self, model: FlowModel, condition: Condition) -> VelocityField:
        """The field for a batch. model: the sampler's, which counts; `model.beside(other)` is another, counted too."""
        ...


class Solver(Protocol):
    """Integrates dx/dt = v(x, t) over a grid.

    adaptive: whether it chooses the steps itself, so that of the grid only the ends matter.
    """

    adaptive: bool

    def integrate(
        self,
        field: VelocityField,
        x: Tensor,
        grid: Sequence[float],
        project: Callable[[Tensor, float], Tensor] | None = None,
        noise: StepNoise | None = None,
    ) -> Solution:
        """From x at grid[0] to grid[-1]; `project(x, t)` is applied after every step (inpainting, constraints).

        noise: what solvers of the SDE draw from; the others leave it alone.

        Raises FloatingPointError naming the first step whose state is not finite. Adaptive solvers raise ValueError
        for a projection, and ArithmeticError when they don't arrive.
        """
        ...


class Conditioner(Protocol):
    """Chooses the condition of each sample by its index alone.

    It may have `captions(indices)`, what it is in words. To be judged by its labels, it is `Labelled`.
    """

    def check(self, model: FlowModel) -> None: ...

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition: ...


@runtime_checkable
class Labelled(Protocol):
    """A conditioner that says what its labels are, or a task that gives samples labels of its own."""

    def label_meaning(self, model: FlowModel) -> LabelMeaning | None:
        """None, of a task: its labels are the condition's."""
        ...


@runtime_checkable
class Named(Protocol):
    """A model, data or a network whose classes may have names: of class 0, 1, ...; empty if they have none."""

    class_names: Sequence[str]


def class_names(of: object) -> tuple[str, ...]:
    return tuple(of.class_names) if isinstance(of, Named) else ()


@runtime_checkable
class Task(Protocol):
    """What is done with the sampler for the samples of the given indices.

    Returns x (B, *sample_shape) at t = 1, and the labels (B,) int64 that are kept beside the samples, or None.

    It may have more. Before any work, `check(sampler)` raises ValueError for a model, solver or condition that it
    cannot be done with, and `least_samples` is how many it takes. `prepare(sampler)` finds what all samples need, once
    a process. With the samples there, `scores(sampler, samples, classes, classify)` gives figures of its own by their
    names, PerSample, or a float where no single sample's value is known: samples are an image source; classes (N,)
    int64 are the labels that the feature network takes them for, None where it judges none; and classify tells its
    class of any pixels, (B, C, H, W) uint8 -> (B,), None where it has no logits. `picture(sampler, images)` gives the
    Sheet that a person would be shown, from the first samples' pixels, (N, C, H, W) uint8. `trajectory(sampler,
    indices)` gives a Sheet of some samples on their way from noise to data.
    """

    def __call__(self, sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]: ...

    def units(self, indices: Sequence[int]) -> Sequence[int] | None:
        """The unit that each sample belongs to, an integer; samples of different units are independent.

        For example the path of an interpolation, or the image that an edit begins with. None: all samples are
        independent of each other. Tasks inherit this from Task.
        """
        return None


@dataclass(frozen=True)
class Sheet:
    """Images in rows and columns, with what stands above the columns.

    images: (R, C, channels, H, W) uint8. columns: C headings, or none. rows: R captions, or none. moving: whether the
    columns are the frames of a film.
    """

    images: Tensor
    columns: Sequence[str] = ()
    rows: Sequence[str] = ()
    moving: bool = False


class Data(Protocol):
    """Images that a task begins with.

    num_classes: 0 if they have no labels. class_names: of each label, so many. labels: (N,) int64, so that no image is
    read for its label; -1 if they have none. identity: what determines them.
    """

    num_classes: int
    class_names: Sequence[str]
    labels: Tensor
    identity: dict

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(C, H, W) float32 in [-1, 1], and the label, () int64."""
        ...


class Feature(Protocol):
    """A network that images are judged by.

    channels: 1 or 3, what it accepts. judges_labels: whether its logits are of classes that samples are made under; it
    may then have their `class_names`.
    outputs: which of pool, logits and spatial it gives, and how many numbers each has. identity: JSON-able facts that
    determine its outputs (weights' sha256, resize).
    """

    name: str
    channels: int
    judges_labels: bool
    outputs: dict[str, int]
    identity: dict

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) uint8 -> each of `outputs`, (B, ...) float32 on the CPU."""
        ...

    def load(self) -> None:
        """Have the network ready, its weights downloaded where need be. Raises ValueError if they cannot be had."""
        ...

    def to(self, device: torch.device | str) -> Feature: ...


class Metric(Protocol):
    """A pure function of features, free of batch size and device, and of order unless its definition is not.

    uses: the output of the network that it is taken of: pool, logits or spatial. It may have `needs_labels`, if it asks
    what images were made under.
    reference: what it needs of the reference: "images", "statistics" (which images give, too) or None.
    """

    uses: str
    reference: str | None

    def check(self, *, fake: int, real: int | None) -> None:
        """Raise ValueError if so many samples, or reference images (None: unknown or no reference), are not enough."""
        ...

    def __call__(self, fake: Features, real: Features | None) -> dict[str, float]: ...


class Comparison(Protocol):
    """A metric of how samples are made and not of images: it integrates some of them itself."""

    def check(self, solver: Solver) -> None:
        """Raise ValueError if this solver cannot be judged so."""
        ...

    def compare(
        self, sampler, *, batch_size: int, identity: dict, cache: Path, advance: Callable[[int], None]
    ) -> tuple[dict[str, float | PerSample], dict]:
        """Scores, and JSON-able details beside them.

        Values of a PerSample are those of samples that the sampler's own noise starts, from index 0 on.
        sampler: a Sampler that is loaded. identity: facts that determine the exact flow of a noise and where it starts.
        advance: told the number of samples that are done.
        """
        ...
