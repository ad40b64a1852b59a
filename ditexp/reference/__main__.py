"""Prepare a reference once: python -m ditexp.reference reference=folder reference.path=... feature=inception.

Writes one statistics file, which `reference=statistics reference.path=<file>` then uses in its place.
"""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig

from ditexp.cli.command import command
from ditexp.cli.components import instantiate
from ditexp.evaluate.extraction import extract, feature_cache
from ditexp.files.atomic import check_writable
from ditexp.metric.fid import mean_and_covariance
from ditexp.reference.statistics import StatisticsFile, save_statistics
from ditexp.terminal.progress import progress_bar


@command("prepare_reference")
def main(cfg: DictConfig) -> None:
    feature, reference = instantiate(cfg.feature), instantiate(cfg.reference)
    if isinstance(reference, StatisticsFile) or not reference:
        raise ValueError("this reference holds no images to prepare: choose reference=digits, folder, npz, torchvision")
    name = f"{reference.name}-{feature.name}-{reference.fingerprint()[:8]}"
    out = Path(cfg.out or f"{cfg.outputs}/cache/references/{name}.safetensors")
    if out.suffix != ".safetensors":
        raise ValueError(f"out={out} must end in .safetensors")
    check_writable(out)
    feature.to("cuda" if torch.cuda.is_available() else "cpu")
    with progress_bar(f"{feature.name} features", total=len(reference)) as bar:
        outputs = [output for output in feature.outputs if output != "logits"]
        features = extract(reference, feature, feature_cache(cfg.outputs), outputs=outputs, progress=bar)
    gaussians = {output: mean_and_covariance(getattr(features, output)) for output in outputs}
    save_statistics(out, reference, feature, features.pool, gaussians)
    print(f"{features.count} images: {out}")


if __name__ == "__main__":
    main()
