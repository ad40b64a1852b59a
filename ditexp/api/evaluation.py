"""Scoring images against a reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ditexp.api.overrides import Choice, option, override
from ditexp.api.progress import of_bar, progress_shown
from ditexp.api.samples import Samples
from ditexp.api.turns import TURNS
from ditexp.cli.composing import settled
from ditexp.cli.paths import is_path
from ditexp.evaluate.images import open_images, open_reference
from ditexp.evaluate.scoring import build_evaluator, score
from ditexp.images.arrays import ArrayImages
from ditexp.outputs import Outputs
from ditexp.result import Evaluation
from ditexp.terminal.progress import shown_by

Images = str | Path | np.ndarray | Samples


def evaluate(
    images: Images,
    reference: Images | Choice | None = None,
    *,
    protocol: str = "adm",
    metrics: Sequence[str] | None = None,
    feature: Choice = "inception",
    captions: str | Path | None = None,
    num_samples: int | None = None,
    resamples: int = 40,
    outputs: str | Path = "outputs",
    progress: bool = True,
) -> Evaluation:
    """Score images against a reference: the numbers of `ditexp evaluate` with the same settings.

    images: a folder or an npz file, the id of a sample set in `outputs`, an array (N, H, W, C) uint8, or Samples.
    reference: the same, a file of statistics, or an option of conf/reference such as "digits"; None for metrics that
    need none. protocol: the evaluator to follow. metrics: names of conf/metric; None for FID, IS, precision and recall.
    feature: the network that judges. captions: a file of the images' prompts, for clip_score; None for those of a set
    or beside the images. num_samples: the first images only. resamples: random halves of the images, which
    the standard deviations come from; 0 for none. outputs: the folder where features are cached and the result goes.
    progress: a bar, if it takes long.

    `metrics` of what is returned has the scores by their names, `deviations[name].sd` their standard deviations.
    Raises ValueError with a line for each mistake.
    """
    kept = Outputs(Path(outputs).expanduser())
    chosen = option_of(reference, kept)
    overrides = [
        override("images", images if isinstance(images, str) else "in memory"),
        *option("reference", "none" if chosen is None else chosen),
        *option("feature", feature),
        f"protocol={protocol}",
        *([] if metrics is None else [override("metric", list(metrics))]),
        override("captions", None if captions is None else str(captions)),
        override("num_samples", num_samples),
        override("resamples", resamples),
        override("outputs", str(kept.root)),
    ]
    with TURNS, shown_by(lambda bar: progress_shown(lambda: of_bar(bar), wanted=progress)):
        with settled("evaluate", overrides) as (cfg, _):
            evaluator = build_evaluator(cfg)
        if isinstance(reference, np.ndarray | Samples):
            evaluator = dataclasses.replace(evaluator, reference=in_memory(reference, "the reference"))
        elif reference is not None and chosen is None:
            opened = open_reference(str(reference), channels=evaluator.channels, outputs=kept)
            evaluator = dataclasses.replace(evaluator, reference=opened)
        if isinstance(images, np.ndarray | Samples):
            return score(cfg, evaluator, in_memory(images, "images in memory"))
        found = open_images(str(images), channels=evaluator.channels, outputs=kept, num_samples=num_samples)
        return score(cfg, evaluator, found)


def option_of(reference: Images | Choice | None, outputs: Outputs) -> Choice | None:
    """The option of conf/reference that is meant; None for a place or an array."""
    if isinstance(reference, Mapping):
        return reference
    if (
        isinstance(reference, str)
        and not is_path(reference, "reference", None)
        and not outputs.sample_set(reference).exists()
    ):
        return reference
    return None


def in_memory(images: np.ndarray | Samples, name: str) -> ArrayImages:
    return ArrayImages(images.images if isinstance(images, Samples) else images, name=name)
