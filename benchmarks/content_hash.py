"""How long it takes to hash a folder of 50,000 small images: python -m benchmarks.content_hash

It times the fingerprint of FolderImages, which `evaluate images=<folder>` computes before it scores any image: cold, in
a process whose cache of hashes is empty; remembered, in a new process; and remembered, in the same process, by a new
FolderImages. The files have just been written and are in the page cache: reading them from a disk adds to the first.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ditexp.provenance import provenance

RUNS, FILES, SIDE = 3, 50_000, 8
MEASURE = """
import sys, time
from ditexp.images.folder import FolderImages

def seconds():
    begin = time.perf_counter()
    images = FolderImages(sys.argv[1], channels=1)
    listed = time.perf_counter()
    images.fingerprint()
    return listed - begin, time.perf_counter() - listed

print(*seconds(), *seconds())
"""


def write_images(folder: Path) -> None:
    draw = np.random.default_rng(0)
    folder.mkdir()
    for number in range(FILES):
        Image.fromarray(draw.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(folder / f"{number:05d}.png")


def measure(folder: Path, cache: Path) -> dict[str, float]:
    """Seconds in a new process: to list the files, of the first fingerprint, and of one more."""
    command = [sys.executable, "-c", MEASURE, str(folder)]
    environment = {**os.environ, "DITEXP_CACHE": str(cache)}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    listing, first, _, second = map(float, output.split())
    return {"listing": listing, "first": first, "second": second}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "images")
        write_images(folder)
        time.sleep(3)  # files that have just changed are hashed again each time
        cold, remembered = [], []
        for run in range(RUNS):
            cold.append(measure(folder, Path(scratch, f"cache {run}")))
            remembered.append(measure(folder, Path(scratch, f"cache {run}")))
    seconds = {
        "listing the files": [run["listing"] for run in cold + remembered],
        "cold": [run["first"] for run in cold],
        "remembered, new process": [run["first"] for run in remembered],
        "remembered, same process": [run["second"] for run in cold + remembered],
    }
    result = {
        "files": FILES,
        "load_average": os.getloadavg(),  # above 0: other work ran on the machine
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "seconds": seconds,
        **provenance(),
    }
    out = Path(__file__).parent / "results" / "content_hash.json"
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
