"""Scores of images without a model, from a configuration of conf/evaluate.yaml to a file of results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from omegaconf import DictConfig

from ditexp.checks import ConfigError
from ditexp.cli.components import instantiate
from ditexp.cli.numbers import not_whole_numbers
from ditexp.evaluate.evaluator import Evaluator
from ditexp.evaluate.images import notice_skipped_folders
from ditexp.evaluate.per_prompt import table_beside, write_table
from ditexp.evaluate.prompts import digest_of, prompts_of
from ditexp.evaluate.protocol import protocol_of
from ditexp.evaluate.units import units_of
from ditexp.files.atomic import atomic, make_way
from ditexp.files.content import digest
from ditexp.files.json_values import encode
from ditexp.images.source import ImageSource
from ditexp.metric.base import by_kind
from ditexp.outputs import Outputs
from ditexp.provenance import provenance
from ditexp.result import Evaluation, ImagesRecord
from ditexp.samples.claims import kept
from ditexp.samples.store import SampleStore
from ditexp.terminal.notices import notice
from ditexp.values import Prompt


def build_evaluator(cfg: DictConfig) -> Evaluator:
    """Raises ConfigError or ValueError."""
    if mistakes := not_whole_numbers(cfg, resamples=0):
        raise ConfigError("\n".join(mistakes))
    metrics, comparisons = by_kind({name: instantiate(metric) for name, metric in cfg.get("metric", {}).items()})
    if comparisons:
        raise ValueError(f"metric={', '.join(comparisons)} scores a sampler, not images: use it with ditexp run")
    return Evaluator(instantiate(cfg.feature), instantiate(cfg.reference), metrics, protocol_of(cfg))


def score(
    cfg: DictConfig,
    evaluator: Evaluator,
    images: ImageSource,
    *,
    show: Callable[[Evaluation, Path], None] = lambda evaluation, out: None,
) -> Evaluation:
    """Check, score and save. show: called with the scores and the file that they go to, before it is written.

    Raises ConfigError, one line for each mistake, or ValueError.
    """
    count = len(images) if cfg.num_samples is None else cfg.num_samples
    if not isinstance(count, int) or not 0 < count <= len(images):
        raise ValueError(f"num_samples={count}: {images.name} has images for 1 to {len(images)}")
    needs_prompts = any(metric.needs_prompts for metric in evaluator.metrics.values())
    wanted = needs_prompts or cfg.captions is not None or isinstance(images, SampleStore)
    prompts = prompts_of(images, cfg.captions) if wanted else ()
    if mistakes := list(evaluator.mistakes(images, count, prompts)):
        raise ConfigError("\n".join(mistakes))
    notice_skipped_folders(images, count)
    outputs = Outputs(cfg.outputs)
    with kept(images.folder) if isinstance(images, SampleStore) else nullcontext():
        evaluation = evaluate(evaluator, images, count, prompts, resamples=cfg.resamples, outputs=outputs)
        out = outputs.evaluation(evaluation.id)
        show(evaluation, out)  # before it is written: a disk that has become full hides no number
        save(evaluation, out)
    return evaluation


def evaluate(
    evaluator: Evaluator,
    images: ImageSource,
    count: int,
    prompts: Sequence[Prompt],
    *,
    resamples: int,
    outputs: Outputs,
) -> Evaluation:
    """The scores of the first `count` images.

    prompts: that they have in turn. resamples: the number of random halves for the deviations.
    """
    of_prompts = digest(digest_of(prompts)) if prompts and not isinstance(images, SampleStore) else None
    judged = ImagesRecord(name=images.name, fingerprint=images.fingerprint(), count=count, prompts=of_prompts)
    measurement = dataclasses.replace(evaluator.record(), images=judged)  # hashes all files before any is scored
    units, has_units = independent_units(images, count)
    scored = evaluator.score(
        images,
        count=count,
        resamples=resamples if has_units else 0,
        units=units,
        prompts=prompts,
        cache=outputs.features,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    return Evaluation(
        id=digest(encode(measurement)),
        metrics=scored.metrics,
        deviations=scored.deviations,
        measurement=measurement,
        per_prompt=scored.per_prompt,
        **provenance(),
    )


def independent_units(images: ImageSource, count: int) -> tuple[Sequence[int] | None, bool]:
    """The unit of each image, None if all are independent; and whether that is known, which a notice says if not."""
    if not isinstance(images, SampleStore):
        return None, True
    try:
        return units_of(images, count), True
    except ValueError as error:
        reason = str(error).splitlines()[0]
        notice(f"{images.name}: no deviations, since which samples belong together is unknown ({reason})")
        return None, False


def save(evaluation: Evaluation, out: Path) -> None:
    if evaluation.per_prompt:
        write_table(evaluation.per_prompt, table_beside(out))
    make_way(out)
    with atomic(out) as temporary:
        temporary.write_text(json.dumps(evaluation.to_json(), indent=2) + "\n")
