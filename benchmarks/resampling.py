"""How long do the 40 halves of resamples take? python -m benchmarks.resampling

Random features in place of a network's: 64 of them with 10 classes, as of the digits network, against 1,797 images; and
2,048 with 1,008 classes, as of Inception, against 10,000. Seconds of one core, which every metric needs in addition to
its own time for all samples.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.uncertainty import HALVES, markdown
from ditexp.evaluate.uncertainty import deviations
from ditexp.metric.base import Metric
from ditexp.metric.fid import FrechetDistance
from ditexp.metric.inception_score import InceptionScore
from ditexp.metric.precision_recall import PrecisionRecall
from ditexp.provenance import provenance
from ditexp.values import Features

NETWORKS = {"digits": (64, 10, 1_797), "inception": (2048, 1008, 10_000)}  # features, classes, images of the reference
COUNTS = {"digits": (64, 512, 5_000, 50_000), "inception": (1_000, 5_000)}
METRICS = (FrechetDistance(), InceptionScore(split_size=5_000), PrecisionRecall())


def features(count: int, size: int, classes: int, *, shift: float) -> Features:
    draw = torch.Generator().manual_seed(count)
    mixed = torch.randn(size, size, generator=torch.Generator().manual_seed(0)) / size**0.5
    pool = torch.cat([block @ mixed + shift for block in normal(count, size, draw)])
    return Features(count, pool, torch.cat(list(normal(count, classes, draw))), labels=torch.arange(count) % classes)


def normal(count: int, size: int, draw: torch.Generator) -> list[Tensor]:
    return [torch.randn(min(5_000, count - i), size, generator=draw) for i in range(0, count, 5_000)]


def seconds(metric: Metric, fake: Features, real: Features, *, halves: int) -> float:
    begin = time.process_time()
    deviations([metric], fake, real, resamples=halves, advance=lambda: None)
    return time.process_time() - begin


def measured(network: str, count: int) -> dict:
    """The seconds of HALVES halves by each metric: those of one half, and of each further half, HALVES - 1 times."""
    size, classes, images = NETWORKS[network]
    fake = features(count, size, classes, shift=0.05)
    real = features(images, size, classes, shift=0.0)
    more = 1 if count > 5_000 else 4
    found: dict = {"network": network, "samples": count}
    for metric in METRICS:
        first = seconds(metric, fake, real, halves=1)
        further = (seconds(metric, fake, real, halves=1 + more) - first) / more
        found[type(metric).__name__] = first + (HALVES - 1) * further
    return found


def main() -> None:
    torch.set_num_threads(1)
    logging.getLogger("ditexp").setLevel(logging.ERROR)
    measured("digits", 64)  # imports what metrics import late
    out, rows = Path(__file__).parent / "results" / "resampling.json", []
    for network, counts in COUNTS.items():
        for count in counts:
            rows.append(measured(network, count))
            print(json.dumps(rows[-1]), flush=True)
            out.write_text(json.dumps({"seconds of one core": rows, **provenance()}, indent=2) + "\n")
    names = [type(metric).__name__ for metric in METRICS]
    shown = [(row["network"], f"{row['samples']:,}", *(f"{row[name]:.3g}" for name in names)) for row in rows]
    print(markdown(("network", "samples", *names), shown))


if __name__ == "__main__":
    main()
