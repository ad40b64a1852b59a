"""Results as values: of a cell (`Result`) and of an evaluation (`Evaluation`), to and from their JSON files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import stdev
from typing import Any, Literal

from ditexp.files.json_values import decode, encode
from ditexp.files.records import read_record

Status = Literal["running", "done", "failed", "incomplete"]

# The names in Result.settings: the chosen option of each group, whose own settings are <group>.<setting>, and values.
SETTING_GROUPS = (
    *("model", "vae", "solver", "schedule", "guidance", "cache", "condition", "task", "data"),
    *("feature", "reference", "protocol"),
)
SETTING_VALUES = ("steps", "num_samples", "batch_size", "seed", "precision", "rounding", "compile")


@dataclass(frozen=True, kw_only=True)
class StepCounts:
    """Steps of an adaptive solver, per image. images: how many images needed each number of steps, {"12": 40, ...}."""

    mean: float
    smallest: int
    largest: int
    images: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class CostPerImage:
    """The mean cost of an image in a sample set; None where an earlier version did not record it.

    steps: None for an adaptive solver. nfe: evaluations of the velocity. forwards: evaluations of the network,
    fractional with a cache: one that reuses outputs counts as the share of its floating-point operations.
    seconds_per_image: on one device. preparation_seconds: of all workers together, not per image. peak_memory_mb:
    10^6 bytes, the largest of all blocks. accepted_steps, rejected_steps: of an adaptive solver.
    """

    steps: int | None
    nfe: float | None
    forwards: float
    seconds_per_image: float
    images_per_second: float | None
    preparation_seconds: float | None
    peak_memory_mb: float | None
    accepted_steps: StepCounts | None = None
    rejected_steps: StepCounts | None = None

    def numbers(self) -> dict[str, float | None]:
        """By name; without the counts of steps."""
        return {name: value for name, value in encode(self).items() if not isinstance(value, dict)}


@dataclass(frozen=True, kw_only=True)
class Deviations:
    """How a score differs between random halves of the samples, see `evaluate.uncertainty.resampled`.

    units: independent units among the samples. mean: the score's mean over the halves. halves: each half's deviation.
    """

    units: int
    mean: float
    halves: list[float]

    @cached_property
    def sd(self) -> float:
        """The standard deviation between sample sets; 0 if all halves agree."""
        return stdev(self.halves)


@dataclass(frozen=True, kw_only=True)
class ReferenceRecord:
    """The images or statistics that samples were compared with.

    count: images; 0 if unknown. fingerprint: a digest. statistics: what else identifies a file of statistics.
    """

    name: str
    count: int = 0
    fingerprint: str = ""
    statistics: Any = None


@dataclass(frozen=True, kw_only=True)
class ImagesRecord:
    """The images that an evaluation scored. count: the first that many. fingerprint, prompts: digests."""

    name: str
    fingerprint: str
    count: int
    prompts: str | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """How scores were measured, which must be equal for scores to be comparable.

    protocol: its name. changed: settings that differ from the protocol's. beyond: metrics that the protocol's own
    evaluator lacks. feature: the feature network's name, and what identifies it. metrics: the settings of each, by
    name. images: of an evaluation.
    """

    images: ImagesRecord | None = None
    protocol: str = ""
    changed: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    feature: dict[str, Any] | None
    reference: ReferenceRecord | None
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.feature is not None and not isinstance(self.feature.get("name"), str):
            raise ValueError("feature has no name")

    @property
    def network(self) -> str:
        """The feature network's name."""
        return self.feature["name"] if self.feature else "unknown"


@dataclass(frozen=True, kw_only=True)
class PromptScore:
    """The scores of a prompt: means over its images, whose numbers are `samples`."""

    id: str
    prompt: str
    samples: list[int]
    scores: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one cell of a sweep ended.

    settings: the choices that tell cells apart, {"solver": "heun", "guidance.weight": 2.0, "steps": 50, ...}.
    departures: the settings that are not the preset's of settings["compat"], each with the preset's in brackets.
    error: one line, unless running or done. sweep: the name of the folder in outputs/runs that the cell ran in.
    published: where the published numbers of a study of one's own were. command: what the user typed. cell_command:
    what makes this cell alone. grid, film, trajectory_picture, prompt_picture: pictures of samples. details: what a
    comparison gives beside its scores, by its name; and `prompts`, the extremes of scores of single prompts. cached:
    whether the result was there before this run; None in a file of no run.

    A cell that is not done has no cost, metrics, deviations and measurement.
    """

    id: str
    status: Status
    error: str = ""
    study: str = ""
    sweep: str = ""
    published: Path | None = None
    settings: dict[str, Any]
    departures: list[str] = field(default_factory=list)
    grid: Path | None = None
    trajectory_picture: Path | None = None
    film: Path | None = None
    prompt_picture: Path | None = None
    cell_command: str = ""
    command: str = ""
    sample_id: str | None = None
    num_samples: int | None = None
    cost: CostPerImage | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    deviations: dict[str, Deviations] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    measurement: Measurement | None = None
    config: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    cached: bool | None = None

    @property
    def is_done(self) -> bool:
        return self.status == "done"

    @property
    def network(self) -> str:
        """The name of the feature network that the metrics rest on."""
        return self.measurement.network if self.measurement else "unknown"

    @property
    def requested_samples(self) -> int | None:
        """How many samples the cell has, or would have if it were done."""
        return self.config.get("num_samples") if self.num_samples is None else self.num_samples

    @property
    def error_along_t(self) -> list[list[float]]:
        """[t, root mean square error of x] at each time of the grid, by metric=trajectory; else empty."""
        return self.details.get("trajectory", {}).get("error_along_t") or []

    def to_json(self) -> dict[str, Any]:
        """A measurement is called "protocol"; details stand beside the other keys; what is empty is left out."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name == "details":
                found |= value
            elif name == "deviations":
                found[name] = {metric: encode(each) for metric, each in value.items()}
            else:
                found["protocol" if name == "measurement" else name] = encode(value)
        always = ("metrics", "deviations") if self.is_done else ()
        return {name: value for name, value in found.items() if value not in (None, "", {}, []) or name in always}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Result:
        """Raises ValueError that says what is wrong."""
        renamed = found | {"measurement": found.get("protocol"), "details": details_of(found)}
        if isinstance(deviations := found.get("deviations"), dict):  # earlier versions had a number or a list
            renamed["deviations"] = {name: each for name, each in deviations.items() if isinstance(each, dict)}
        result: Result = decode(cls, renamed)
        result.settings.setdefault("cache", "none")  # earlier versions had none
        if not isinstance(result.settings.get("solver"), str) or "steps" not in result.settings:
            raise ValueError("settings lack solver or steps")
        if result.is_done and not (result.cost and result.num_samples is not None and "metrics" in found):
            raise ValueError("cost, num_samples or metrics is missing")
        if not result.is_done and not result.error:
            raise ValueError("no error")
        if not all(isinstance(point, list) and len(point) == 2 for point in result.error_along_t):
            raise ValueError("error_along_t is not a list of pairs")
        return result


def details_of(found: dict[str, Any]) -> dict[str, Any]:
    known = {"protocol", *(each.name for each in dataclasses.fields(Result))}
    return {name: value for name, value in found.items() if isinstance(value, dict) and name not in known}


def read_result(path: Path) -> Result:
    """The result of a cell, from outputs/results/<id>.json or a run's cell.json.

    Raises FileNotFoundError, or ValueError that names the file and says what is wrong with it.
    """
    found = read_record(path, {})
    try:
        return Result.from_json(found)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error})") from None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `ditexp evaluate` measured, outputs/results/evaluate-<id>.json. command: what the user typed.

    per_prompt: the scores of each prompt, if images have prompts; kept in evaluate-<id>.prompts.csv.
    """

    id: str
    metrics: dict[str, float]
    deviations: dict[str, Deviations]
    measurement: Measurement
    command: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    per_prompt: list[PromptScore] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A measurement is called "protocol"; scores of prompts are in a file of their own."""
        return {
            "id": self.id,
            "metrics": self.metrics,
            "deviations": {name: encode(each) for name, each in self.deviations.items()},
            "protocol": encode(self.measurement),
            "command": self.command,
            "provenance": self.provenance,
        }
