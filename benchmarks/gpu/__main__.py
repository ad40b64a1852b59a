"""What sampling costs on one GPU: python -m benchmarks.gpu throughput|peers|precision|compile|cache|evaluation|gaps|all

Each part writes <out>/gpu_<part>.json after every row, so what is cut short is not lost. It begins no row after
--seconds, and lists what it left out; what does not fit the memory is listed with that reason. Networks are DiT-S, B, L
and XL/2 with random weights on latents of 32 x 32 x 4, which cost what trained ones cost; samples are drawn with Euler
in 50 steps and classifier-free guidance on all channels, unless a row says otherwise. With --dry-run a tiny network
draws two samples in two steps, on whatever device there is: it shows that a part runs, and its times say nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu.evaluation import evaluation
from benchmarks.gpu.gaps import gaps
from benchmarks.gpu.parts import Part
from benchmarks.gpu.peers import peers
from benchmarks.gpu.settings import cache, compilation, precision, throughput

PARTS: dict[str, Callable[[Part], None]] = {
    "throughput": throughput,
    "peers": peers,
    "precision": precision,
    "compile": compilation,
    "cache": cache,
    "evaluation": evaluation,
    "gaps": gaps,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "all"])
    parser.add_argument("--seconds", type=float, default=480, help="of each part: no row begins later")
    parser.add_argument("--dry-run", action="store_true", help="a tiny network, on a CPU, too")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results")
    given = parser.parse_args()
    if not given.dry_run and not torch.cuda.is_available():
        parser.error("there is no GPU: give --dry-run to see whether the parts run")
    given.out.mkdir(parents=True, exist_ok=True)
    for name in PARTS if "all" in given.parts else given.parts:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Part(name, given.out, Path(folder), seconds=given.seconds, dry_run=given.dry_run))


if __name__ == "__main__":
    main()
