"""What scoring costs: Inception, the metrics, and a cell with and without them."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from benchmarks.cells import configuration, run_cell
from benchmarks.gpu.parts import Part, Row
from benchmarks.random_models import write_checkpoint, write_vae
from ditexp.feature.inception import Inception
from ditexp.meter import peak_memory_mb, reset_peak_memory
from ditexp.metric.base import Metric
from ditexp.metric.fid import FrechetDistance
from ditexp.metric.kid import KernelDistance
from ditexp.metric.precision_recall import PrecisionRecall
from ditexp.values import Features
from tests.helpers.inception_weights import save_random


def evaluation(part: Part) -> None:
    """Inception with random weights; metrics of random features; a cell of an XL/2 with a VAE, scored and not."""
    weights = save_random(part.scratch / "inception.pth")
    part.row({"what": "Inception", "images": inception_images(part)}, lambda: inception(part, weights))
    count = 64 if part.dry_run else 50_000
    width = 16 if part.dry_run else 2048
    metrics: list[Metric] = [FrechetDistance(), PrecisionRecall(), KernelDistance(subset_size=min(1000, count))]
    for metric in metrics:
        facts = {"what": type(metric).__name__, "samples": count, "reference images": count, "features": width}
        part.row(facts, lambda m=metric: scored(part, m, count, width))
    part.row({"what": "a cell"}, lambda: cells(part, weights))


def inception_images(part: Part) -> int:
    return 2 if part.dry_run else 5000


def inception(part: Part, weights: Path) -> Row:
    """Images of 256 x 256 pixels, from uint8 on the CPU to features on the CPU."""
    network, count = Inception(weights=str(weights)).to(part.device), inception_images(part)
    side = 32 if part.dry_run else 256
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    reset_peak_memory(part.device)
    seconds = part.seconds_of(lambda: network(images))
    rate = count / statistics.median(seconds)
    return {"seconds": seconds, "images_per_second": rate, "peak_memory_mb": peak_memory_mb(part.device)}


def scored(part: Part, metric: Metric, count: int, width: int) -> Row:
    draw = torch.Generator().manual_seed(0)
    fake, real = (Features(count, torch.randn(count, width, generator=draw)).to(part.device) for _ in range(2))
    reset_peak_memory(part.device)
    begin = time.perf_counter()
    scores = metric(fake, real)
    return {"seconds": time.perf_counter() - begin, "peak_memory_mb": peak_memory_mb(part.device), "scores": scores}


def cells(part: Part, weights: Path) -> Row:
    """Seconds of a cell without metrics, and of one with Inception's features and the Inception Score.

    Each is timed as the second cell of its process, with the network compiled already: the first has another seed.
    """
    (size,) = part.sizes("XL")
    count, batch = (4, 2) if part.dry_run else (1024, 64)
    given = [
        *("model=checkpoint", f"model.checkpoint={write_checkpoint(part.scratch, part.size(size))}"),
        *("vae=folder", f"vae.path={write_vae(part.scratch / 'vae', width=8 if part.dry_run else 128)}"),
        *("guidance=cfg", "guidance.scale=4", f"steps={part.steps}", f"num_samples={count}", f"batch_size={batch}"),
        *("feature=inception", f"feature.weights={weights}", "reference=none", "resamples=0"),
        *(["precision=fp32"] if part.dry_run else ["precision=bf16", "compile=true", "vae.precision=bf16"]),
        f"devices={1 if part.device.type == 'cuda' else 'cpu:1'}",
    ]
    metrics = {"without metrics": "[]", "with metrics": "[inception_score]"}
    seconds: dict[str, float] = {}
    for seed in (0,) if part.dry_run else (1, 0):
        for name, metric in metrics.items():
            outputs = f"outputs={part.scratch / name.replace(' ', '_')}"
            cfg = configuration([*given, f"metric={metric}", f"seed={seed}", outputs])
            begin = time.perf_counter()
            run_cell(cfg)
            seconds[name] = time.perf_counter() - begin
    share = 1 - seconds["without metrics"] / seconds["with metrics"]
    return {"samples": count, "seconds": seconds, "share_of_evaluation": share}
