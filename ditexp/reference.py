"""Prepare a reference once: python -m ditexp.reference reference=folder reference.path=... feature=inception.

Writes one statistics file, which `reference=statistics reference.path=<file>` then uses in its place.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from omegaconf import DictConfig

from ditexp import __version__
from ditexp.cli import command, instantiate
from ditexp.features import StatisticsFile, extract, save_tensors
from ditexp.metric.fid import mean_and_covariance
from ditexp.progress import progress_bar


@command("prepare_reference")
def main(cfg: DictConfig) -> None:
    feature, reference = instantiate(cfg.feature), instantiate(cfg.reference)
    if reference is None or isinstance(reference, StatisticsFile):
        raise ValueError("this reference holds no images to prepare: choose reference=digits, folder or npz")
    fingerprint = reference.fingerprint()
    out = Path(
        cfg.out or f"{cfg.outputs}/cache/references/{reference.name}-{feature.name}-{fingerprint[:8]}.safetensors"
    )
    if out.suffix != ".safetensors":
        raise ValueError(f"out={out} must end in .safetensors")

    feature.to("cuda" if torch.cuda.is_available() else "cpu")
    with progress_bar(f"{feature.name} features", total=len(reference)) as bar:
        features = extract(reference, feature, Path(cfg.outputs) / "cache" / "features", progress=bar)
    mean, covariance = mean_and_covariance(features)
    tensors = {"mean": mean, "covariance": covariance, "pool": features.pool}
    if features.logits is not None:
        tensors["logits"] = features.logits
    metadata = {
        "reference": reference.name,
        "fingerprint": fingerprint,
        "count": str(features.count),
        "feature": json.dumps(feature.identity),
        "ditexp": __version__,
    }
    save_tensors(out, tensors, metadata)
    print(f"{features.count} images: {out}")


if __name__ == "__main__":
    main()
