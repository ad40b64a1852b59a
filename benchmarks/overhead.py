"""What the whole job costs over a bare sampling loop: python -m benchmarks.overhead

Both draw 10,000 digits with Euler on the same device, in turn, several times; the ratio of medians is the figure, and
beside it the median of the ratios of neighbours, which a machine that drifts disturbs less. The job's time is all of
it: building, noise, sampling, counting, blocks compressed, written and synced; metrics are off. The first job also
starts the worker, as the first cell of a sweep does: its ratio is given too.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from ditexp.cli.packaged import packaged
from ditexp.pixels import to_pixels
from ditexp.provenance import provenance
from ditexp.run import job
from ditexp.run.cell import build
from ditexp.run.watch import Watch

RUNS, SAMPLES, BATCH, STEPS = 4, 10_000, 125, 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def configuration(outputs: str):
    with initialize_config_dir(str(packaged("conf")), version_base="1.3"):
        overrides = [
            f"num_samples={SAMPLES}",
            f"batch_size={BATCH}",
            f"steps={STEPS}",
            "metric=[]",
            f"devices={1 if DEVICE == 'cuda' else 'cpu:1'}",
            f"outputs={outputs}",
        ]
        return compose("config", [*overrides, "~hydra/launcher", "~hydra/job_logging", "~hydra/hydra_logging"])


@torch.inference_mode()
def bare_loop(model) -> None:
    for start in range(0, SAMPLES, BATCH):
        x = torch.randn(BATCH, *model.sample_shape, device=DEVICE)
        labels = torch.arange(start, start + BATCH, device=DEVICE) % model.num_classes
        for step in range(STEPS):
            x = x + model.network(x, torch.full((BATCH,), step / STEPS, device=DEVICE), labels) / STEPS
        to_pixels(x).cpu()


def timed(function, *arguments) -> float:
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(1)  # as a worker of devices=cpu:N has
        model = build(configuration(folder)).sampler.model.to(DEVICE)
        bare, whole = [], []
        for run in range(RUNS):
            bare.append(timed(bare_loop, model))
            cfg = configuration(f"{folder}/{run}")
            whole.append(timed(lambda cfg=cfg: job.run(build(cfg), settings={}, command="", watch=Watch())))
    result = {
        "samples": SAMPLES,
        "batch_size": BATCH,
        "steps": STEPS,
        "bare_loop_seconds": bare,
        "job_seconds": whole,
        "ratio_of_medians": statistics.median(whole) / statistics.median(bare),
        "median_of_ratios": statistics.median(job / loop for job, loop in zip(whole, bare)),
        "ratio_of_first_runs": whole[0] / bare[0],
        **provenance(),
    }
    out = Path(__file__).parent / "results" / "overhead.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
