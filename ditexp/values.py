"""Value types that every part of ditexp passes around. Imports torch only, and that only where tensors are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ADDED = "added"  # in the metadata of a dataclass's field


def added(default: Any) -> Any:
    """A setting that a component did not always have.

    It enters the id of a sample set only where it is not the default, so that older sets keep their ids.
    """
    return field(default=default, metadata={ADDED: True})


@dataclass(frozen=True)
class Condition:
    """What a batch is conditioned on. Parts that a model does not use are None.

    labels: (B,) int64 class indices; for prompts, their positions in the list of prompts.
    vector: (B, P) one embedding of the whole condition: of a prompt, or between the embeddings of two labels.
    states: (B, L, D) hidden states of a text encoder. mask: (B, L) bool, true for tokens and false for padding.
    """

    labels: Tensor | None = None
    vector: Tensor | None = None
    states: Tensor | None = None
    mask: Tensor | None = None

    @property
    def parts(self) -> tuple[Tensor | None, ...]:
        return self.labels, self.vector, self.states, self.mask

    def map(self, function: Callable[[Tensor], Tensor]) -> Condition:
        return Condition(*(None if part is None else function(part) for part in self.parts))

    def to(self, device: torch.device | str) -> Condition:
        return self.map(lambda part: part.to(device))

    def take(self, rows: Tensor | slice) -> Condition:
        """The conditions of some of the batch's samples. rows: int64 indices, or a slice."""
        return self.map(lambda part: part[rows])

    @staticmethod
    def cat(first: Condition, second: Condition) -> Condition:
        """Stack two conditions of one model along the batch: (B1, ...) and (B2, ...) give (B1 + B2, ...)."""
        import torch

        pairs = zip(first.parts, second.parts)
        return Condition(*(None if one is None or two is None else torch.cat([one, two]) for one, two in pairs))


def required(part: Tensor | None) -> Tensor:
    """A part of a condition that the model cannot do without."""
    if part is None:
        raise ValueError("the condition lacks a part that this model needs: choose another condition")
    return part


@dataclass(frozen=True)
class LabelMeaning:
    """What the labels of samples stand for, so that no label is scored as a class that it is not.

    classes: the classes among the labels; None if the labels are not classes. `why_not` then gives the reason and the
    remedy. count: the number of classes to choose from; None if unknown. names: the names of classes 0, 1, ...; empty
    if unknown.
    """

    classes: Sequence[int] | None
    count: int | None = None
    names: Sequence[str] = ()
    why_not: str = ""


@dataclass(frozen=True)
class Prompt:
    """A prompt of a list, which samples, or images on disk, have in turn.

    id: its name in tables. label: of its samples, a class or its number in the list. seed: added to the run's seed, for
    the noise of its samples; None: it has none.
    """

    id: str
    text: str
    label: int
    seed: int | None = None


@dataclass(frozen=True)
class Solution:
    """The result of an integration. x: (B, ...) at t = 1.

    accepted, rejected: the number of accepted and of rejected steps of each sample, B each; empty on a fixed grid.
    check: waits for the device, and raises FloatingPointError with the first step whose state is not finite.
    """

    x: Tensor
    accepted: Sequence[int] = ()
    rejected: Sequence[int] = ()
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Gaussian:
    """The statistics of a set of features that a Fréchet distance compares.

    mean: (D,) float64. covariance: (D, D) float64, divisor N - 1. count: the N images they were computed from; None if
    the file of statistics does not say.
    """

    mean: Tensor
    covariance: Tensor
    count: int | None = None


@dataclass(frozen=True)
class Features:
    """What metrics see of a set of images: the outputs of a feature network, or only their statistics.

    count: N, the number of images that have outputs; 0 if only statistics are known.
    pool: (N, D) float32 pooled features. logits: (N, K) float32 class logits. spatial: (N, S) float32, a part of a
    feature map, flattened with its positions. None if the network has no such output, or it is not needed.
    gaussians: statistics by the name of the output. They take precedence over the outputs themselves.
    labels: (N,) int64, the labels that the images were made with, if a metric asks for them.
    text: (N, D) float32, the network's embeddings of the prompts that the images were made with, likewise.
    """

    count: int
    pool: Tensor | None = None
    logits: Tensor | None = None
    spatial: Tensor | None = None
    gaussians: Mapping[str, Gaussian] = field(default_factory=dict)
    labels: Tensor | None = None
    text: Tensor | None = None

    def output(self, name: str) -> Tensor | None:
        """One of the network's outputs for each image, by its name: pool, logits or spatial."""
        return {"pool": self.pool, "logits": self.logits, "spatial": self.spatial}[name]

    def take(self, rows: Tensor) -> Features:
        """The features of some of the images, int64 rows. Known statistics describe all images and are left out."""
        parts = (
            None if part is None else part[rows.to(part.device)]
            for part in (self.pool, self.logits, self.spatial, self.labels, self.text)
        )
        pool, logits, spatial, labels, text = parts
        return Features(len(rows), pool, logits, spatial, labels=labels, text=text)

    def to(self, device: torch.device) -> Features:
        """The same on a device, where metrics compute."""
        parts = (None if part is None else part.to(device) for part in (self.pool, self.logits, self.spatial))
        labels, text = (None if part is None else part.to(device) for part in (self.labels, self.text))
        gaussians = {
            name: replace(known, mean=known.mean.to(device), covariance=known.covariance.to(device))
            for name, known in self.gaussians.items()
        }
        return Features(self.count, *parts, gaussians, labels, text)


def mean(values: Tensor) -> Tensor:
    return values.mean()


@dataclass(frozen=True)
class PerSample:
    """A score together with the value of each sample, so that its noise can be estimated.

    values: (N, ...) float64 on the CPU, for samples 0 to N - 1; NaN for a sample that does not enter the score.
    reduce: (M, ...) values without NaN -> the score, a tensor of one element.
    """

    values: Tensor
    reduce: Callable[[Tensor], Tensor] = mean

    @property
    def score(self) -> float:
        return self.of(slice(None))

    def of(self, rows: Tensor | slice) -> float:
        """The score of some of the samples; NaN if none of them enters it."""
        values = self.values[rows]
        values = values[~values.flatten(1).isnan().any(1)] if values.dim() > 1 else values[~values.isnan()]
        return self.reduce(values).item() if len(values) else math.nan


def root_mean(squares: Tensor) -> Tensor:
    """For PerSample: a root mean square error from the mean square error of each sample."""
    return squares.mean().sqrt()


@dataclass
class Cost:
    """What it cost to make some images.

    velocity_rows, network_rows: evaluations of the velocity field and of the network, summed over images. With a cache,
    an evaluation of the network counts as the share of its work that is done, so that they are fractional.
    seconds: sampling and decoding. preparation_seconds: everything else, most of it once per process: compilation and
    other first uses, encoding prompts, reading and encoding images.
    peak_memory_mb: in 10^6 bytes; on CUDA what torch allocated, on a CPU the resident memory of the process.
    accepted, rejected: {number of steps: images with that many accepted, or rejected, steps}; empty on fixed grids.
    """

    images: int = 0
    velocity_rows: int = 0
    network_rows: float = 0
    seconds: float = 0.0
    preparation_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    accepted: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)

    def __add__(self, other: Cost) -> Cost:
        """The cost of two parts of the work on the same images, for example of sampling and of decoding them."""
        return Cost(
            images=self.images + other.images,
            velocity_rows=self.velocity_rows + other.velocity_rows,
            network_rows=self.network_rows + other.network_rows,
            seconds=self.seconds + other.seconds,
            preparation_seconds=self.preparation_seconds + other.preparation_seconds,
            peak_memory_mb=max(self.peak_memory_mb, other.peak_memory_mb),
            accepted=self.accepted + other.accepted,
            rejected=self.rejected + other.rejected,
        )


@dataclass(frozen=True)
class Sheet:
    """Images in rows and columns, with a heading above each column and a caption beside each row.

    images: (R, C, channels, H, W) uint8. columns: C headings, or none. rows: R captions, or none.
    moving: whether the columns are the frames of an animation.
    """

    images: Tensor
    columns: Sequence[str] = ()
    rows: Sequence[str] = ()
    moving: bool = False


def times_of(x: Tensor, t: float | Tensor) -> Tensor:
    """The time of each sample of x (B, ...): (B,), on its device. t: one time of all samples, or (B,)."""
    return x.new_full((len(x),), t) if isinstance(t, float | int) else t


def number_like(x: Tensor, value: float) -> Tensor:
    """The number, rounded to the precision of x: () on the CPU, where arithmetic waits for no GPU."""
    import torch

    return torch.tensor(value, dtype=x.dtype)


def append_dims(values: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, ..., 1) with as many dimensions as x, for arithmetic with x (B, ...). The dtype stays."""
    return values.view(-1, *[1] * (x.dim() - 1))
