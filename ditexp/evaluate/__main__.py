"""Score images without a model: python -m ditexp.evaluate images=samples.npz reference=npz reference.path=...

images: an npz file, a folder, or a sample set. The numbers and their protocol go to outputs/results/evaluate-<id>.json.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import stdev

import torch
from omegaconf import DictConfig
from rich.table import Table

from ditexp.checks import ConfigError
from ditexp.cli.command import command
from ditexp.cli.components import instantiate
from ditexp.cli.numbers import not_whole_numbers
from ditexp.evaluate.evaluator import Evaluator
from ditexp.evaluate.images import notice_skipped_folders, open_images
from ditexp.evaluate.protocol import protocol_of
from ditexp.evaluate.units import units_of
from ditexp.files.atomic import atomic, make_way
from ditexp.files.content import digest
from ditexp.files.json_values import encode
from ditexp.images.source import ImageSource
from ditexp.metric.base import by_kind
from ditexp.outputs import Outputs
from ditexp.provenance import provenance
from ditexp.report.tables.column import MISSING
from ditexp.report.tables.comparability import describe_reference
from ditexp.result import Evaluation, ImagesRecord
from ditexp.samples.claims import kept
from ditexp.samples.store import SampleStore
from ditexp.terminal.console import wide_terminal
from ditexp.terminal.notices import notice


@command("evaluate")
def main(cfg: DictConfig) -> None:
    if mistakes := not_whole_numbers(cfg, resamples=0):
        raise ConfigError("\n".join(mistakes))
    evaluator = build_evaluator(cfg)
    images = open_images(cfg, channels=evaluator.feature.channels if evaluator.feature else 3)
    count = len(images) if cfg.num_samples is None else cfg.num_samples
    if not isinstance(count, int) or not 0 < count <= len(images):
        raise ValueError(f"num_samples={count}: {images.name} has images for 1 to {len(images)}")
    if mistakes := list(evaluator.mistakes(images, count)):
        raise ConfigError("\n".join(mistakes))
    notice_skipped_folders(images, count)
    with kept(images.folder) if isinstance(images, SampleStore) else nullcontext():
        evaluation = evaluate(evaluator, images, count, resamples=cfg.resamples, outputs=Outputs(cfg.outputs))
        out = Outputs(cfg.outputs).evaluation(evaluation.id)
        show(evaluation, out)  # before it is written: a disk that has become full hides no number
        save(evaluation, out)


def build_evaluator(cfg: DictConfig) -> Evaluator:
    metrics, comparisons = by_kind({name: instantiate(metric) for name, metric in cfg.get("metric", {}).items()})
    if comparisons:
        raise ValueError(f"metric={', '.join(comparisons)} scores a sampler, not images: use it with ditexp.run")
    return Evaluator(instantiate(cfg.feature), instantiate(cfg.reference), metrics, protocol_of(cfg))


def evaluate(evaluator: Evaluator, images: ImageSource, count: int, *, resamples: int, outputs: Outputs) -> Evaluation:
    """The scores of the first `count` images. resamples: the number of random halves for the deviations."""
    judged = ImagesRecord(name=images.name, fingerprint=images.fingerprint(), count=count)
    measurement = dataclasses.replace(evaluator.record(), images=judged)  # hashes all files before any is scored
    units, has_units = independent_units(images, count)
    scores, deviations = evaluator.score(
        images,
        count=count,
        resamples=resamples if has_units else 0,
        units=units,
        cache=outputs.features,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    return Evaluation(
        id=digest(encode(measurement)),
        metrics=scores,
        deviations=deviations,
        measurement=measurement,
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


def show(evaluation: Evaluation, out: Path) -> None:
    """Print the scores, each with its standard deviation between other images of the same kind."""
    measurement, terminal = evaluation.measurement, wide_terminal()
    images, reference = measurement.images, measurement.reference
    assert images is not None  # see `evaluate`
    against = f" against {describe_reference(reference)}" if reference else ""
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("sd", justify="right")
    for name, value in evaluation.metrics.items():
        found = evaluation.deviations.get(name)
        deviation = stdev(found.halves) if found else 0.0  # also 0 if all halves agree
        table.add_row(name, f"{value:.6g}", f"{deviation:.2g}" if deviation else MISSING)
    terminal.print(f"{images.count:,} images of {images.name}{against}", soft_wrap=True)
    facts = [f"protocol {measurement.protocol}", *measurement.changed, f"features {measurement.network}"]
    terminal.print(", ".join(facts), soft_wrap=True)
    terminal.print(table)
    if measurement.beyond:
        terminal.print(f"{measurement.protocol}'s evaluator has no {', '.join(measurement.beyond)}")
    terminal.print(str(out), soft_wrap=True)


def save(evaluation: Evaluation, out: Path) -> None:
    make_way(out)
    with atomic(out) as temporary:
        temporary.write_text(json.dumps(evaluation.to_json(), indent=2) + "\n")


if __name__ == "__main__":
    main()
