"""The result of a cell: values, as they are written to JSON and read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["done", "failed", "incomplete"]


@dataclass(frozen=True)
class StepCounts:
    """Steps of an adaptive solver. images: {number of steps: images that took as many}; the others are per image."""

    mean: float
    smallest: int
    largest: int
    images: dict[str, int]


@dataclass(frozen=True)
class CostPerImage:
    """What an image of a set costs, on average.

    steps: None for an adaptive solver. nfe: evaluations of the velocity. forwards: evaluations of the network.
    seconds_per_image: of one device. preparation_seconds: of all workers together, not per image; None where a block
    was made before they were recorded. peak_memory_mb: 10^6 bytes, the largest of all blocks.
    """

    steps: int | None
    nfe: float
    forwards: float
    seconds_per_image: float
    images_per_second: float
    preparation_seconds: float | None
    peak_memory_mb: float
    accepted_steps: StepCounts | None = None
    rejected_steps: StepCounts | None = None


@dataclass(frozen=True)
class Deviations:
    """How a score differs between random halves of the samples, see `evaluate.uncertainty.resampled`.

    units: independent units among the samples. mean: of the score over the halves. halves: each half's deviation.
    """

    units: int
    mean: float
    halves: list[float]


@dataclass(frozen=True)
class ReferenceRecord:
    """What samples were measured against. count: images; 0 where a file of statistics doesn't say."""

    name: str
    count: int
    fingerprint: str
    statistics: Any = None


@dataclass(frozen=True)
class Measurement:
    """How scores were measured, so that they can be compared with others.

    protocol: its name. changed: settings that differ from it. beyond: metrics that its evaluator lacks. feature: name
    and identity of the network. metrics: the settings of each. images: name, fingerprint and count, of an evaluation.
    """

    protocol: str
    changed: list[str]
    beyond: list[str]
    feature: dict[str, Any] | None
    reference: ReferenceRecord | None
    metrics: dict[str, dict[str, Any]]
    images: dict[str, Any] | None = None


@dataclass(frozen=True)
class Result:
    """What one cell of a sweep ended with.

    settings: flat, those that tell cells apart. error: one line, unless done. command: what was typed; cell_command:
    what makes this cell alone. grid, film, trajectory_picture: paths of pictures. details: by comparison, what it gives
    beside its scores. cached: whether the result was there before this run.

    A cell that is not done has no cost, metrics, deviations, measurement.
    """

    id: str
    status: Status
    study: str
    settings: dict[str, Any]
    error: str = ""
    command: str = ""
    cell_command: str = ""
    sample_id: str | None = None
    num_samples: int | None = None
    cost: CostPerImage | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    deviations: dict[str, Deviations] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    measurement: Measurement | None = None
    class_names: list[str] = field(default_factory=list)
    grid: Path | None = None
    film: Path | None = None
    trajectory_picture: Path | None = None
    config: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    cached: bool = False
