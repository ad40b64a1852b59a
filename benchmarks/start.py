"""What commands cost before they do their work: python -m benchmarks.start --before <another checkout of ditexp>

Each command is a process of its own; this checkout and the other one take turns. Of each: the median of five runs of
the seconds until it ends, of its processor seconds (with processes that it waits for) and of its largest resident
memory. Of a cell: also the seconds until its first block is written. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ditexp.provenance import provenance

RUNS = 5
HERE = Path(__file__).resolve().parents[1]
SWEEP = "run -m solver=euler,heun,rk4 steps=20,50,100 num_samples=64"
COMMANDS = (
    "--help",
    "run --help",
    "run solver=huen",
    "run steps=20 stepps=3",
    "run steps=abc",
    "run model=missing.pt",
    "run -m solver=euler,huen",
    "samples ls",
    "report",
    "env",
    SWEEP,  # a second time: every cell is cached
    f"{SWEEP} tracker=none",
    f"{SWEEP} hydra/launcher=plan",
)
CELL = "run tracker=none metric=[] num_samples=128 steps=5"  # from nothing


def run(checkout: Path, command: str, folder: Path) -> dict[str, float]:
    """Run a command of a checkout in a folder; what it cost."""
    arguments = [sys.executable, "-m", "ditexp", *shlex.split(command)]
    environment = os.environ | {"PYTHONPATH": str(checkout), "DITEXP_CACHE": str(folder / "cache")}
    begun, wall = time.time(), time.perf_counter()
    process = subprocess.Popen(
        arguments, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    found = {
        "exit_code": float(process.returncode),
        "seconds": time.perf_counter() - wall,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_memory_mb": used.ru_maxrss * 1024 / 1e6,
    }
    if command == CELL:
        (block,) = folder.glob("outputs/samples/*/000000.json")
        found["seconds_to_first_block"] = block.stat().st_mtime - begun
    return found


def measured(checkouts: dict[str, Path], folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """The median of each number, by command and checkout."""
    places = {name: folder / name for name in checkouts}
    for name, place in places.items():
        place.mkdir()
        run(checkouts[name], SWEEP, place)  # makes the cells that are cached later, and warms the disk's cache
    found = {}
    for command in (*COMMANDS, CELL):
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
        for number in range(RUNS):
            for name, checkout in checkouts.items():
                place = places[name]
                if command == CELL:
                    place = folder / f"{name}-{number}"
                    place.mkdir()
                runs[name].append(run(checkout, command, place))
        found[f"ditexp {command}"] = {
            name: {key: round(statistics.median(each[key] for each in ones), 3) for key in ones[0]}
            for name, ones in runs.items()
        }
        print(f"ditexp {command}", json.dumps(found[f"ditexp {command}"]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="another checkout of ditexp")
    before = parser.parse_args().before.resolve()
    with tempfile.TemporaryDirectory() as folder:
        commands = measured({"before": before, "now": HERE}, Path(folder))
    out = Path(__file__).parent / "results" / "start.json"
    out.write_text(json.dumps({"runs": RUNS, "commands": commands, **provenance()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
