"""What each cost and metric is called in a report, and which of its values is the best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Goal = Callable[..., Any]  # min or max


class Label(NamedTuple):
    """header: for readers. goal: min or max; None where no value is better than another."""

    header: str
    goal: Goal | None = None


COSTS = {
    "steps": Label("steps"),
    "nfe": Label("NFE"),
    "forwards": Label("forwards"),
    "seconds_per_image": Label("s/image", min),
    "images_per_second": Label("images/s", max),
    "peak_memory_mb": Label("peak MB", min),
}
METRICS = {
    "fid": Label("FID", min),
    "sfid": Label("sFID", min),
    "fid_infinity": Label("FID∞", min),
    "kid": Label("KID", min),
    "kid_std": Label("KID between subsets"),
    "inception_score": Label("IS", max),
    "inception_score_std": Label("IS between parts"),
    "precision": Label("Precision", max),
    "recall": Label("Recall", max),
    "label_accuracy": Label("label accuracy", max),
    "clip_score": Label("CLIP score", max),
    "density": Label("Density", max),
    "coverage": Label("Coverage", max),
    "trajectory_rmse": Label("RMSE to exact", min),
    "trajectory_order": Label("order"),
    "round_trip_rmse": Label("round trip", min),
    # of tasks
    "path_ratio": Label("path / straight", min),
    "ends_rmse": Label("ends", min),
    "known_error": Label("known error", min),
    "seam": Label("seam"),
    "agreement": Label("agreement", max),
    "reconstruction_rmse": Label("reconstruction", min),
    "vae_rmse": Label("VAE"),
    "change_rmse": Label("change"),
    "target_share": Label("target class", max),
}
FRECHET = {"dinov2": "FD-DINOv2", "clip": "FD-CLIP"}  # what the Fréchet distance is called
WITHOUT_FEATURES = (  # computed from pixels or latents alone
    "trajectory_rmse",
    "trajectory_order",
    "round_trip_rmse",
    "path_ratio",
    "ends_rmse",
    "known_error",
    "seam",
    "reconstruction_rmse",
    "vae_rmse",
    "change_rmse",
)


def metric_label(network: str, name: str) -> Label:
    """A metric's label; its header names every feature network but Inception. network: the feature network's name."""
    header, goal = METRICS.get(name, Label(name))
    if name == "fid" and network in FRECHET:
        header = FRECHET[network]
    elif name == "clip_score":
        return Label(header, goal)
    elif network != "inception" and name not in WITHOUT_FEATURES:
        header = f"{header} ({network})"
    return Label(header, goal)
