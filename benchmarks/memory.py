"""Peak memory of 50,000 images of 128 px: python -m benchmarks.memory [images] [pixels]

A set of noisy gradients (which compress like photographs) is written, verified, exported in each format, and judged,
each in a process of its own whose peak resident memory is what the kernel says (VmHWM). The judge stands in for
Inception: it returns the same number of features, which need the memory, without hours of convolutions on a CPU. The
metrics are ditexp's default ones: FID, Inception Score, precision and recall.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ditexp.extraction import extract
from ditexp.meter import peak_memory_mb
from ditexp.metric.fid import FrechetDistance as FID
from ditexp.metric.inception_score import InceptionScore
from ditexp.metric.precision_recall import PrecisionRecall
from ditexp.provenance import provenance
from ditexp.samples.export import export
from ditexp.samples.store import SampleStore
from ditexp.values import Cost

COUNT, SIZE, BLOCK = *map(int, sys.argv[1:3] + ["50000", "128"][len(sys.argv) - 1 :]), 256
REFERENCE = min(COUNT, 10_000)  # images, as many as ADM's evaluator compares with


class Judge:
    """Random projections to Inception's 2048 features and 1008 logits."""

    name, channels, identity, outputs = "projection", 3, {"network": "a projection"}, {"pool": 2048, "logits": 1008}

    def __init__(self):
        draw = torch.Generator().manual_seed(0)
        self.weights = torch.randn(3 * (SIZE // 8) ** 2, 3056, generator=draw) / 28

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        small = torch.nn.functional.avg_pool2d(images.float() / 255, 8).flatten(1)
        parts = (small @ self.weights).split(list(self.outputs.values()), 1)
        return {name: part.contiguous() for name, part in zip(self.outputs, parts)}


def store_in(folder: str) -> SampleStore:
    identity = {"block_size": BLOCK, "image_shape": [SIZE, SIZE, 3]}
    return SampleStore(Path(folder) / "samples", identity=identity, num_samples=COUNT)


def write(folder: str) -> None:
    store = store_in(folder)
    provenance = {"time": ""}
    store.begin(command="python -m benchmarks.memory", provenance=provenance)
    ramp = np.linspace(0, 200, SIZE)
    for block in range(store.num_blocks):
        draw, images = np.random.default_rng(block), np.empty((BLOCK, SIZE, SIZE, 3), np.uint8)
        for image in images:
            slope = ramp[:, None, None] * draw.random(3) + ramp[:, None] * draw.random(3)
            image[:] = (slope / 2 + draw.normal(20, 4, image.shape)).clip(0, 255)
        maker = {"host": "here", "device": "none"}
        store.write(block, images, np.arange(BLOCK) % 10, cost=Cost(images=BLOCK, seconds=1), maker=maker)


def verify(folder: str) -> None:
    store = store_in(folder)
    assert all(store.manifest(block, verify=True) for block in range(store.num_blocks))


def export_to(name: str, folder: str) -> None:
    export(store_in(folder), Path(folder) / name, lambda images: None)


def evaluate(folder: str) -> None:
    cache = Path(folder) / "cache"
    fake, real = (extract(store_in(folder), Judge(), cache, limit=limit) for limit in (None, REFERENCE))
    for metric in (FID(), InceptionScore(split_size=5000), PrecisionRecall()):
        metric(fake, real)


def idle(folder: str) -> None:
    """What the imports alone take."""


def measured(step, connection, *arguments) -> None:
    begin = time.perf_counter()
    step(*arguments)
    connection.send((peak_memory_mb(torch.device("cpu")), time.perf_counter() - begin))


def main() -> None:
    context, rows = multiprocessing.get_context("spawn"), {}
    steps = {"imports alone": (idle,), "write": (write,), "verify": (verify,)}
    steps |= {f"export {name}": (export_to, name) for name in ("out.npz", "out.tar", "folder")}
    steps["evaluate"] = (evaluate,)
    with tempfile.TemporaryDirectory(dir="outputs") as folder:  # /tmp may be memory
        for name, (step, *arguments) in steps.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=measured, args=(step, theirs, *arguments, folder))
            process.start()
            theirs.close()
            peak, seconds = ours.recv()
            process.join()
            rows[name] = {"peak_resident_mb": round(peak), "seconds": round(seconds, 1)}
            print(f"{name:36} {peak:8.0f} MB {seconds:8.1f} s", flush=True)
        size = sum(path.stat().st_size for path in Path(folder).glob("samples/*/*.npy.gz"))
    result = {"images": COUNT, "size": SIZE, "raw_bytes": COUNT * 3 * SIZE**2, "bytes": size, "steps": rows}
    out = Path(__file__).parent / "results" / f"memory_{COUNT}x{SIZE}.json"
    out.write_text(json.dumps(result | provenance(), indent=2) + "\n")


if __name__ == "__main__":
    main()
