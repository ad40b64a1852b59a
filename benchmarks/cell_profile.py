"""Where the processor time of one cell goes after start-up: python -m benchmarks.cell_profile

One cell of 512 digits in 20 steps with its metrics, with the worker's part in this process: seconds of processor time,
by cProfile, in the networks (the model, the feature network, and the codec) and in everything else, as shares. A first
cell loads what a sweep loads once. Profiling itself adds to what makes many calls, so the share of the rest is a bound.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import tempfile
import time
from functools import partial

import torch
from hydra import compose, initialize_config_dir

import ditexp.cli.composing  # noqa: F401  (configurations name bundled files, which it resolves)
from ditexp.cli.packaged import packaged
from ditexp.run import job
from ditexp.run.blocks import SetSpec
from ditexp.run.cell import Cell, build
from ditexp.run.watch import Watch

# Functions, by the end of their file and their name, whose time with all that they call is a network's.
NETWORKS = {
    "model": ("ditexp/network.py", "__call__"),
    "features": ("ditexp/feature/digits.py", "__call__"),
    "codec": ("ditexp/sampler.py", "decode"),
}
OTHERS = {
    "scores": ("ditexp/evaluate/evaluator.py", "on"),
    "of these, halves": ("ditexp/evaluate/uncertainty.py", "deviations"),
    "pictures": ("ditexp/run/pictures.py", "write_pictures"),
    "of these, the model": ("ditexp/task/generate.py", "trajectory"),
    "blocks written": ("ditexp/run/blocks.py", "write"),
    "noise": ("ditexp/sampler.py", "noise"),
}


def configuration(outputs: str, seed: int):
    with initialize_config_dir(str(packaged("conf")), version_base="1.3"):
        overrides = ["steps=20", f"seed={seed}", "devices=cpu:1", "tracker=none", f"outputs={outputs}"]
        return compose("config", [*overrides, "~hydra/launcher", "~hydra/job_logging", "~hydra/hydra_logging"])


def make_blocks(profile: cProfile.Profile, cell: Cell, blocks: list[int], *_: object) -> None:
    """In place of `job.sample`: what a worker does, in its order; preparation is start-up."""
    profile.disable()
    maker = SetSpec(cell.config, cell.store.id, os.getcwd()).block_maker(torch.device("cpu"))
    maker.prepare(sampling=True)
    profile.enable()
    for number in blocks:
        block = maker.make(number)
        maker.write(block)
        maker.extract(block)()


def profiled(outputs: str, seed: int) -> pstats.Stats:
    profile = cProfile.Profile(time.process_time)
    cell = build(configuration(outputs, seed))
    job.sample = partial(make_blocks, profile)
    with Watch() as watch:
        profile.enable()
        job.run(cell, settings={}, command="", watch=watch)
        profile.disable()
    return pstats.Stats(profile)


def seconds_in(stats: pstats.Stats, file: str, name: str) -> float:
    """With all that it calls."""
    found = vars(stats)["stats"].items()
    return sum(row[3] for (path, _, function), row in found if path.endswith(file) and function == name)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as outputs:
        profiled(outputs, seed=1)
        stats = profiled(outputs, seed=0)
    total = vars(stats)["total_tt"]
    networks = {name: seconds_in(stats, *place) for name, place in NETWORKS.items()}
    rest = total - sum(networks.values())
    print(
        json.dumps(
            {
                "seconds": round(total, 3),
                "networks": {name: round(seconds, 3) for name, seconds in networks.items()},
                "rest": round(rest, 3),
                "share of the rest": round(rest / total, 4),
                "parts": {name: round(seconds_in(stats, *place), 3) for name, place in OTHERS.items()},
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
