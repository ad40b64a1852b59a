"""Score images without a model: python -m ditexp.evaluate images=samples.npz feature=inception reference=...

images: an npz file or a folder. The numbers and their protocol go to outputs/results/evaluate-<id>.json.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from ditexp import __version__
from ditexp.cli import command, instantiate
from ditexp.features import check, extract, reference_features
from ditexp.files import atomic, digest
from ditexp.images import FolderImages, NpzImages
from ditexp.progress import progress_bar


@command("evaluate")
def main(cfg: DictConfig) -> None:
    feature, reference = instantiate(cfg.feature), instantiate(cfg.reference)
    metrics = {name: instantiate(metric) for name, metric in cfg.get("metric", {}).items()}
    path = Path(cfg.images)
    images = NpzImages(path) if path.suffix == ".npz" else FolderImages(path, channels=feature.channels)

    count = len(images) if cfg.num_samples is None else cfg.num_samples
    real_count = None if reference is None else len(reference)
    for metric in metrics.values():
        metric.check(fake=count, real=real_count)
    for source in filter(None, (images, reference)):
        check(source, feature)
    cache = Path(cfg.outputs) / "cache" / "features"
    feature.to("cuda" if torch.cuda.is_available() else "cpu")
    with progress_bar(f"{feature.name} features", total=count + (real_count or 0)) as bar:
        real = reference_features(reference, feature, cache, progress=bar)
        fake = extract(images, feature, cache, progress=bar, limit=count)
    scores = {}
    for metric in metrics.values():
        scores |= metric(fake, real)

    protocol = {
        "images": describe(images, count),
        "reference": describe(reference, real_count) if real else None,
        "feature": feature.identity,
        "metrics": {name: asdict(metric) for name, metric in metrics.items()},
        "ditexp": __version__,
    }
    id = digest(protocol)
    out = Path(cfg.outputs) / "results" / f"evaluate-{id}.json"
    with atomic(out) as temporary:
        temporary.write_text(json.dumps({"id": id, "metrics": scores, "protocol": protocol}, indent=2) + "\n")

    against = f" against {real_count} of {reference.name}" if real else ""
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in scores.items():
        table.add_row(name, f"{value:.4f}")
    console = Console()
    console.print(f"{count} images of {images.name}{against}, judged by {feature.name}", soft_wrap=True)
    console.print(table)
    console.print(str(out), soft_wrap=True)


def describe(source, count: int) -> dict:
    return {"name": source.name, "fingerprint": source.fingerprint(), "count": count}


if __name__ == "__main__":
    main()
