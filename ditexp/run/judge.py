"""The scores of a complete sample set: of its images, of its sampler, and of its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ditexp.core import Feature
from ditexp.evaluate.checks import check_labels
from ditexp.evaluate.uncertainty import deviations_per_sample
from ditexp.extraction import extract
from ditexp.result import Deviations, PromptScore
from ditexp.run.cell import Cell
from ditexp.terminal.notices import notice
from ditexp.terminal.progress import progress_bar
from ditexp.values import PerSample

FLOW = ("model", "guidance", "conditioner", "seed", "device", "numerics")  # what decides the exact flow of a noise


@dataclass(frozen=True)
class Scores:
    """Metrics and their deviations by the metrics' names, details by the names of comparisons, and single prompts."""

    metrics: dict[str, float] = field(default_factory=dict)
    deviations: dict[str, Deviations] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    per_prompt: list[PromptScore] = field(default_factory=list)

    def __or__(self, other: Scores) -> Scores:
        return Scores(
            self.metrics | other.metrics,
            self.deviations | other.deviations,
            self.details | other.details,
            self.per_prompt + other.per_prompt,
        )


def judge(cell: Cell) -> Scores:
    """All scores of a cell whose samples are complete."""
    return score_images(cell) | compare(cell) | score_task(cell)


def score_images(cell: Cell) -> Scores:
    """The metrics of the images' features."""
    scored = cell.evaluator.score(
        cell.store,
        count=cell.num_samples,
        resamples=cell.resamples,
        cache=cell.outputs.features,
        device=cell.devices[0],
        units=cell.sampler.task.units(range(cell.num_samples)),
        prompts=cell.store.prompts,
    )
    return Scores(scored.metrics, scored.deviations, per_prompt=scored.per_prompt)


def compare(cell: Cell) -> Scores:
    """The metrics that integrate some samples themselves."""
    if cell.comparisons:
        cell.sampler.load(cell.batch_size)
    scores = Scores()
    for name, comparison in cell.comparisons.items():
        with progress_bar(name, total=comparison.samples) as bar:
            found, details = comparison.compare(
                cell.sampler,
                batch_size=cell.batch_size,
                identity={fact: cell.store.identity[fact] for fact in FLOW},
                cache=cell.outputs.comparison(name),
                advance=bar.advance,
            )
        with torch.inference_mode():
            labels = cell.sampler.condition(range(comparison.samples)).to("cpu").labels
        deviations = deviations_per_sample(found, resamples=cell.resamples, labels=labels)
        scores |= Scores(as_numbers(found), deviations, {name: details})
    return scores


def score_task(cell: Cell) -> Scores:
    """The task's own scores."""
    sampler, store = cell.sampler, cell.store
    classes, classify = predicted_classes(cell)
    with torch.inference_mode():
        found = sampler.task.scores(sampler, store, classes, classify)
    if not found:
        return Scores()
    labels = store.labels() if cell.resamples else None
    deviations = deviations_per_sample(
        found,
        resamples=cell.resamples,
        labels=None if labels is None else torch.from_numpy(labels),
        units=sampler.task.units(range(store.num_samples)),
    )
    return Scores(as_numbers(found), deviations)


def predicted_classes(cell: Cell) -> tuple[Tensor | None, Callable[[Tensor], Tensor] | None]:
    """The class that the feature network sees in each sample, and a function that gives it for any images.

    (N,) int64, and images (B, C, H, W) uint8 -> (B,) int64. The first is None if the network does not know the classes
    that the samples were made with, or the task does not ask for them; both are None if the network has no logits.
    """
    store, feature, task = cell.store, cell.evaluator.feature, cell.sampler.task
    if feature is None or "logits" not in feature.outputs or feature.channels != store.image_shape[2]:
        return None, None
    network = feature.to(cell.devices[0])
    classes = None
    if task.class_scores and knows_classes(cell, feature):
        logits = extract(store, feature, cell.outputs.features, outputs={"logits"}, limit=store.num_samples).logits
        classes = None if logits is None else logits.argmax(1)
    return classes, lambda images: network(images)["logits"].argmax(1).cpu()


def knows_classes(cell: Cell, feature: Feature) -> bool:
    """Whether the network's classes are those that the samples were made with; if not, a notice says why."""
    try:
        check_labels(cell.store, feature)
    except ValueError as error:
        notice(f"{', '.join(cell.sampler.task.class_scores)} is left out: {error}")
        return False
    return True


def as_numbers(scores: Mapping[str, float | PerSample]) -> dict[str, float]:
    return {name: score.score if isinstance(score, PerSample) else score for name, score in scores.items()}
