"""What loading a DiT-XL/2 costs, beside DiT's own code: python -m benchmarks.load /path/to/DiT

A file as DiT's train.py writes it, {model, ema, opt, args} in float32 with random weights and without the optimizer's
moments (which would double its 5.4 GB), is written to a temporary folder. Each run is a process of its own, in turn:
seconds from before the file is opened to a network whose weights have all been read, and the largest resident memory of
the process. What it holds at the end is given in two parts: its own, and what is mapped from files, which the system
can take back. DiT's own way is `find_model` of its download.py and `load_state_dict`, as in its sample.py; torch since
2.6 refuses its file unless weights_only is False, which the process sets.

ditexp also hashes the file, for the id of the sample set. A hash is remembered, so both the first load and later ones
are timed. And with a family that no key tells, it evaluates the network once; the answer is remembered, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from ditexp.model.dit import DiT
from ditexp.provenance import provenance

RUNS = 3
XL: dict[str, Any] = {
    "input_size": 32,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 1152,
    "depth": 28,
    "num_heads": 16,
}
MEASURE = """
import json, os, resource, sys, time
path, repository = sys.argv[1], sys.argv[2]
import torch
{imports}
begin = time.perf_counter()
{load}
total = sum(value.sum().item() for value in network.state_dict().values())
seconds = time.perf_counter() - begin
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
mb = {{key: int(status[key].split()[0]) * 1024 / 1e6 for key in ("VmHWM", "RssAnon", "RssFile")}}
mb = {{"peak_mb": mb["VmHWM"], "own_mb": mb["RssAnon"], "mapped_mb": mb["RssFile"]}}
print(json.dumps({{"seconds": seconds, **mb, "sum": total}}))
"""
OURS = MEASURE.format(
    imports="from ditexp.model.pretrained import PretrainedDiT",
    load="network = PretrainedDiT(checkpoint=path, family='dit').network",
)
ORIGINAL = MEASURE.format(
    imports="""
import functools
sys.path.insert(0, repository)
from download import find_model
from models import DiT_models
torch.load = functools.partial(torch.load, weights_only=False)
""",
    load="""
network = DiT_models['DiT-XL/2'](input_size=32, num_classes=1000)
network.load_state_dict(find_model(path))
network.eval()
""",
)


def write_checkpoint(path: Path) -> None:
    torch.manual_seed(0)
    network = DiT(**XL, num_classes=1000, learn_sigma=True)
    state = {key: 0.02 * torch.randn_like(value) for key, value in network.state_dict().items()}
    state["pos_embed"] = network.pos_embed.data
    ema = {key: value.clone() for key, value in state.items()}
    torch.save({"model": state, "ema": ema, "opt": {"state": {}}, "args": argparse.Namespace(model="DiT-XL/2")}, path)


def measured(code: str, path: Path, repository: str, cache: str) -> dict[str, float]:
    """One run in a process of its own. cache: the folder where ditexp remembers hashes."""
    environment = {**os.environ, "DITEXP_CACHE": cache}
    command = [sys.executable, "-c", code, str(path), repository]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    print(line := done.stdout.splitlines()[-1], flush=True)
    return json.loads(line)


def median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def main() -> None:
    repository = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "0400000.pt")
        write_checkpoint(path)
        runs: dict[str, list[dict[str, float]]] = {"ditexp, first": [], "ditexp, later": [], "original": []}
        for number in range(RUNS):
            runs["original"].append(measured(ORIGINAL, path, repository, folder))
            cache = f"{folder}/cache{number}"
            for kind in ("ditexp, first", "ditexp, later"):
                runs[kind].append(measured(OURS, path, repository, cache))
        size = path.stat().st_size
    keys = ("seconds", "peak_mb", "own_mb", "mapped_mb")
    medians = {kind: {key: median(found, key) for key in keys} for kind, found in runs.items()}
    ratios = {
        f"{kind} / original": {key: medians[kind][key] / medians["original"][key] for key in keys[:3]}
        for kind in ("ditexp, first", "ditexp, later")
    }
    result = {
        "checkpoint_bytes": size,
        "same_weights": len({run["sum"] for found in runs.values() for run in found}) == 1,
        "runs": runs,
        "medians": medians,
        "ratios_of_medians": ratios,
        "threads": torch.get_num_threads(),
        **provenance(),
        "command": "python -m benchmarks.load /path/to/DiT",
    }
    path = Path(__file__).parent / "results" / "load.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({"medians": medians, "ratios": ratios, "same_weights": result["same_weights"]}, indent=2))


if __name__ == "__main__":
    main()
