"""What the whole job costs over a bare sampling loop: python -m benchmarks.overhead

Both draw the same digits with Euler on the same device, in turn, several times; the ratio of medians is the figure.
The job's time is all of it: building, noise, sampling, counting, blocks written and synced; metrics are off.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from ditexp import job
from ditexp.cell import build
from ditexp.cli import packaged
from ditexp.provenance import provenance

RUNS, SAMPLES, BATCH, STEPS = 5, 1280, 128, 20


def configuration(outputs: str):
    with initialize_config_dir(str(packaged("conf")), version_base="1.3"):
        overrides = [
            f"num_samples={SAMPLES}",
            f"batch_size={BATCH}",
            f"steps={STEPS}",
            "metric=[]",
            f"outputs={outputs}",
        ]
        return compose("config", [*overrides, "~hydra/launcher", "~hydra/job_logging", "~hydra/hydra_logging"])


@torch.inference_mode()
def bare_loop(model) -> None:
    for start in range(0, SAMPLES, BATCH):
        x = torch.randn(BATCH, *model.sample_shape)
        labels = torch.arange(start, start + BATCH) % model.num_classes
        for step in range(STEPS):
            x = x + model.network(x, torch.full((BATCH,), step / STEPS), labels) / STEPS
        model.decode(x)


def timed(function, *arguments) -> float:
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = build(configuration(folder)).sampler.model
        bare_loop(model)
        bare, whole = [], []
        for run in range(RUNS):
            bare.append(timed(bare_loop, model))
            cfg = configuration(f"{folder}/{run}")
            whole.append(timed(lambda cfg=cfg: job.run(cfg, settings={}, title="overhead")))
    result = {
        "samples": SAMPLES,
        "batch_size": BATCH,
        "steps": STEPS,
        "bare_loop_seconds": bare,
        "job_seconds": whole,
        "ratio_of_medians": statistics.median(whole) / statistics.median(bare),
        **provenance(),
    }
    out = Path(__file__).parent / "results" / "overhead.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
