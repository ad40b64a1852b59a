"""Prepare a reference once: ditexp reference reference=folder reference.path=... feature=inception.

It writes one statistics file, for reference=statistics reference.path=<file>.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ditexp.cli.command import command
from ditexp.cli.components import instantiate
from ditexp.files.atomic import check_writable
from ditexp.outputs import Outputs
from ditexp.terminal.progress import progress_bar


@command("prepare_reference")
def main(cfg: DictConfig) -> None:
    import torch  # which mistakes of composition don't wait for

    from ditexp.extraction import extract
    from ditexp.metric.fid import mean_and_covariance
    from ditexp.reference.kinds import images_of
    from ditexp.reference.statistics import save_statistics

    feature, reference = instantiate(cfg.feature), instantiate(cfg.reference)
    images = None if reference is None else images_of(reference)
    if images is None:
        raise ValueError("this reference has no images to prepare: choose reference=digits, folder, npz, torchvision")
    outputs = Outputs(cfg.outputs)
    name = f"{images.name}-{feature.name}-{images.fingerprint()[:8]}"
    out = Path(cfg.out or outputs.references / f"{name}.safetensors")
    if out.suffix != ".safetensors":
        raise ValueError(f"out={out} must end in .safetensors")
    check_writable(out)
    feature.to("cuda" if torch.cuda.is_available() else "cpu")
    with progress_bar(f"{feature.name} features", total=len(images)) as bar:
        names = [output for output in feature.outputs if output != "logits"]
        features = extract(images, feature, outputs.features, outputs=names, progress=bar)
    extracted = {name: features.output(name) for name in names}
    gaussians = {name: mean_and_covariance(x) for name, x in extracted.items() if x is not None}
    if features.pool is None:
        raise ValueError(f"feature={feature.name} has no pooled features: choose feature=inception, dinov2 or digits")
    save_statistics(out, images, feature, features.pool, gaussians)
    print(f"{features.count} images: {out}")


if __name__ == "__main__":
    main()
