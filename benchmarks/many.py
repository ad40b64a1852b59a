"""What reports and looking after sample sets cost with many results and sets: python -m benchmarks.many [BEFORE]

Each command runs in a new process on made-up results and sets of realistic size: at SIZES results, each a row of its
own, and at SET_COUNTS sets of as many blocks. Noted are its processor time, time on the clock, peak memory, and the
growth exponent of the processor time above that of the smallest outputs (1: linear, 2: quadratic). BEFORE: the folder
of another version of ditexp, whose commands are measured too. Results go to benchmarks/results/many.json.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ditexp.files.content import digest
from ditexp.provenance import provenance
from ditexp.report.grids import image_grid
from ditexp.samples import block_format, latents

SIZES = (1, 500, 1000, 2000)
SET_COUNTS = (1, 50, 100, 200)
SOLVERS = ("euler", "heun", "midpoint", "rk4", "ab2", "ab3", "dpmpp_2m", "unipc")
STEPS = (5, 10, 20, 50, 100)
PICTURES = 20  # different ones; cells have copies
REPORTS = {
    "report": ["report", "results=runs/sweep"],
    "report of a study": ["report", "study=many"],
    "report of seeds": ["report", "results=runs/seeds"],
    "index": ["report"],
}
SETS = {
    "samples ls": ["samples", "ls"],
    "samples verify": ["samples", "verify"],
    "samples gc": ["samples", "gc"],
    "samples gc --yes": ["samples", "gc", "--yes"],
}
Facts = dict[str, Any]  # JSON-able


def write_results(outputs: Path, count: int) -> None:
    """A sweep whose results are a row each, and one of five seeds a row; a report for each 10 results."""
    pictures = picture_files(outputs / "pictures")
    for sweep, seeds in (("sweep", 1), ("seeds", 5)):
        for number in range(count):
            result = result_of(number, seeds)
            result |= {"study": "many", "sweep": sweep} if sweep == "sweep" else {"sweep": sweep}
            for kind, ending in (("grid", ".png"), ("trajectory_picture", ".trajectory.png")):
                result[kind] = str(outputs / "results" / f"{result['id']}{ending}")
                if sweep == "sweep":
                    copy(pictures[f"{number % PICTURES}{ending}"], Path(result[kind]))
            write_json(outputs / "runs" / sweep / str(number) / "cell.json", result)
            if sweep == "sweep":
                write_json(outputs / "results" / f"{result['id']}.json", result)
    entry = {"title": "solver × steps", "written": 1.79e9, "cells": 9, "done": 9, "picture": "data:image/webp;base64,"}
    for number in range(count // 10):
        write_json(outputs / "reports" / f"sweep-{number}" / "report.json", entry)


def result_of(number: int, seeds: int) -> Facts:
    """Of the cells over all solvers, numbers of steps and as many guidance weights as needed."""
    cell, seed = divmod(number, seeds)
    rest, solver = divmod(cell, len(SOLVERS))
    rest, steps = divmod(rest, len(STEPS))
    solver, steps, weight, order = SOLVERS[solver], STEPS[steps], rest / 10, 1 + solver % 4
    draw = np.random.default_rng(number)
    forwards = steps * order * (2 if weight else 1)
    scores = {"fid": 1.5 + weight + 40 / steps**order, "inception_score": 9.5, "precision": 0.7, "recall": 0.6}
    settings = {
        "model": "digits",
        "solver": solver,
        "schedule": "uniform",
        "guidance": "cfg",
        "guidance.weight": weight,
    }
    settings |= {"steps": steps, "num_samples": 50_000, "batch_size": 250, "seed": seed, "precision": "fp32"}
    config = {name: {"_target_": f"ditexp.{name}.a_module.AClass", "setting": None} for name in CONFIGURED}
    command = f"ditexp run solver={solver} steps={steps} guidance.weight={weight} seed={seed}"
    return {
        "id": digest([number, seeds]),
        "status": "done",
        "settings": settings,
        "sample_id": f"{number:016x}",
        "num_samples": 50_000,
        "cost": {
            "steps": steps,
            "nfe": float(steps * order),
            "forwards": float(forwards),
            "seconds_per_image": 1e-4 * forwards * float(draw.uniform(0.9, 1.1)),
            "images_per_second": 1e4 / forwards,
            "preparation_seconds": 2.5,
            "peak_memory_mb": 618.0,
        },
        "metrics": {name: score + float(0.05 * draw.normal()) for name, score in scores.items()},
        "deviations": {
            name: {"units": 50_000, "mean": score, "halves": (0.05 * draw.normal(size=40)).round(9).tolist()}
            for name, score in scores.items()
        },
        "trajectory": {"error_along_t": [[t / 20, 0.1 * t / 20 / steps] for t in range(21)]},
        "protocol": {
            "protocol": "adm",
            "feature": {"name": "inception", "network": "InceptionV3", "sha256": "0" * 64},
            "reference": {"name": "imagenet256", "count": 50_000, "fingerprint": "1" * 64},
            "metrics": {"fid": {"uses": "pool", "name": "fid"}, "precision_recall": {"k": 3}},
        },
        "config": {**config, "steps": steps, "num_samples": 50_000, "seed": seed, "batch_size": 250, "study": "many"},
        "command": "ditexp run -m experiment=many",
        "cell_command": command,
        "provenance": {"time": "2026-11-28T13:27:22+0000", "ditexp": "0.1.0", "commit": "2" * 40, "torch": "2.15.0"},
    }


CONFIGURED = (
    *("model", "vae", "solver", "schedule", "guidance", "condition", "task", "data", "feature", "reference"),
    *("protocol", "metric", "tracker"),
)


def picture_files(folder: Path) -> dict[str, Path]:
    """PICTURES grids of 100 samples, and as many pictures of four samples over time."""
    folder.mkdir(parents=True)
    for number in range(PICTURES):
        draw = np.random.default_rng(number)
        for ending, count, columns in ((".png", 100, 10), (".trajectory.png", 36, 9)):
            samples = draw.integers(0, 17, (count, 8, 8, 1)).astype(np.uint8) * 15
            image_grid(samples, columns).save(folder / f"{number}{ending}")
    return {path.name: path for path in folder.iterdir()}


def write_sets(outputs: Path, count: int) -> None:
    """Half of the sets are of images, a quarter of latents, and a quarter of the images decoded from these.

    Each has `count` blocks of four samples. Results need half of them.
    """
    pixels = (".npy.gz", block_format.encode(np.zeros((4, 8, 8, 1), np.uint8), None), {})
    x = (".safetensors", latents.encode(np.zeros((4, 4, 8, 8), np.float32), None), {})
    for number in range(count):
        seed = number - (number % 4 == 3)  # images share the seed of the latents before
        identity = {"seed": seed, "block_size": 4, "image_shape": [8, 8, 1]}
        of_latents = {"seed": seed, "block_size": 4, "latent_shape": [4, 8, 8]}
        if number % 4 == 2:
            write_set(outputs, of_latents, count, x)
            continue
        decoded = ("", b"", {"latents": digest(of_latents)})
        write_set(outputs, identity, count, decoded if number % 4 == 3 else pixels)
        if number % 8 < 4:
            write_json(outputs / "results" / f"{number}.json", {"id": str(number), "sample_id": digest(identity)})


def write_set(outputs: Path, identity: Facts, blocks: int, content: tuple[str, bytes, Facts]) -> None:
    """content: the ending, the bytes and further facts of each block's file."""
    ending, data, more = content
    folder = outputs / "samples" / digest(identity)
    cost = {"images": 4, "velocity_rows": 80, "network_rows": 160, "seconds": 2.5, "peak_memory_mb": 100.0}
    written = 1_790_000_000
    manifest = {
        "bytes": len(data),
        "mtime_ns": written * 10**9 if data else 0,
        "sha256": hashlib.sha256(data).hexdigest() if data else "",
        "pixels": "3" * 64,
        "written": float(written),
        "process": "here~1~2~3",
        "cost": cost | {"preparation_seconds": 0.1},
        "maker": {"host": "here", "device": "a GPU", "ditexp": "0.1.0", "commit": "2" * 40},
    } | more
    for block in range(blocks):
        write_json(folder / f"{block:06d}.json", {"block": block} | manifest)
        if data:
            file = folder / f"{block:06d}{ending}"
            file.write_bytes(data)
            os.utime(file, (written, written))
    config = {"model": {"_target_": "ditexp.model.pretrained.PretrainedDiT", "checkpoint": "digits.safetensors"}}
    record = {"id": folder.name, "num_samples": 4 * blocks, "identity": identity, "config": config}
    record |= {"command": "ditexp run solver=heun", "provenance": {"time": "2026-01-01T00:00:00"}}
    write_json(
        folder / "set.json", record | {"labels": {"classes": None, "count": None, "names": [], "why_not": "none"}}
    )


def write_json(path: Path, facts: Facts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def measured(arguments: list[str], outputs: Path, version: Path) -> Facts:
    """The cost of a command in a new process. version: the folder of the package that runs it."""
    command = [sys.executable, "-m", "ditexp", *arguments, "outputs=."]
    environment = os.environ | {"PYTHONPATH": str(version), "DITEXP_CACHE": str(outputs / "cache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users have compiled modules
    with open(outputs / "output.txt", "wb") as said:
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=outputs, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed: {(outputs / 'output.txt').read_text()[-2000:]}")
    return {
        "processor_seconds": round(used.ru_utime + used.ru_stime, 2),
        "seconds": round(seconds, 2),
        "peak_mb": round(used.ru_maxrss * 1024 / 1e6),
    }


def at_sizes(
    sizes: Sequence[int],
    write: Callable[[Path, int], None],
    commands: Mapping[str, list[str]],
    versions: Mapping[str, Path],
) -> Facts:
    """By version and command, the costs at each size."""
    found: Facts = {version: {name: {} for name in commands} for version in versions}
    for version, package in versions.items():
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), size)
                for name, arguments in commands.items():
                    found[version][name][size] = cost = measured(arguments, Path(folder), package)
                    print(f"{version:8} {name:20} {size:5}  {cost}", flush=True)
    for by_command in found.values():
        for by_size in by_command.values():
            least, *others = by_size.values()
            for (small, before), (large, after) in itertools.pairwise(zip(sizes[1:], others)):
                growth = [each["processor_seconds"] - least["processor_seconds"] for each in (before, after)]
                after["growth_exponent"] = round(math.log(growth[1] / growth[0]) / math.log(large / small), 2)
    return found


def main() -> None:
    here = Path(__file__).parents[1]
    versions = {"now": here} | dict(zip(["before"], (Path(folder).absolute() for folder in sys.argv[1:])))
    result = {
        "results": at_sizes(SIZES, write_results, REPORTS, versions),
        "sets, each with as many blocks": at_sizes(SET_COUNTS, write_sets, SETS, versions),
        **provenance(),
    }
    (here / "benchmarks" / "results" / "many.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
