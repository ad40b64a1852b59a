"""A part of the benchmark: rows, the file that they are written to, and what every row is made with."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_models import SIZES, TINY, FirstChannels, Size, random_model
from ditexp.binding import bind
from ditexp.condition.labels import Balanced
from ditexp.guidance.cfg import ClassifierFree
from ditexp.meter import peak_memory_mb, reset_peak_memory, synchronize
from ditexp.model.pretrained import PretrainedDiT
from ditexp.provenance import provenance
from ditexp.sampler import Sampler
from ditexp.schedule.uniform import Uniform
from ditexp.solver.euler import Euler
from ditexp.task.generate import Generate

SCALE = 4.0  # of guidance, SiT's default
ENOUGH = 5.0  # seconds of a measurement, after which it is not repeated
RUNS = 5  # at most
Row = dict[str, Any]


class Part:
    """One part, with its rows so far. scratch: a folder for weights. dry_run: a tiny network in place of all."""

    def __init__(self, name: str, out: Path, scratch: Path, *, seconds: float, dry_run: bool) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.scratch, self.dry_run, self.steps = scratch, dry_run, 2 if dry_run else 50
        self.path, self.deadline = out / f"gpu_{name}.json", time.monotonic() + seconds
        self.rows: list[Row] = []
        self.left_out: list[Row] = []
        self.loaded: dict[str, PretrainedDiT] = {}

    def sizes(self, *names: str) -> list[str]:
        return ["tiny"] if self.dry_run else list(names)

    def batches(self, *sizes: int) -> list[int]:
        return [2] if self.dry_run else list(sizes)

    def size(self, name: str) -> Size:
        return TINY if name == "tiny" else SIZES[name]

    def model(self, name: str) -> PretrainedDiT:
        """The network of a size; one at a time is in memory."""
        if name not in self.loaded:
            self.loaded.clear()
            self.loaded[name] = random_model(self.scratch, self.size(name))
        return self.loaded[name]

    def sampler(self, size: str, **settings: Any) -> Sampler:
        """Euler with guidance. settings: precision, compile, cache."""
        return bind(
            model=self.model(size),
            solver=Euler(),
            schedule=Uniform(self.steps),
            guidance=ClassifierFree(scale=SCALE),
            conditioner=Balanced(),
            task=Generate(),
            seed=0,
            device=self.device,
            vae=FirstChannels(),
            **settings,
        )

    @cached_property
    def ceiling(self) -> float:
        """Floating-point operations per second of a product of two 8192 x 8192 bfloat16 matrices."""
        side = 256 if self.dry_run else 8192
        a, b = (torch.randn(side, side, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        seconds = self.seconds_of(lambda: [a @ b for _ in range(20)])
        return 20 * 2 * side**3 / statistics.median(seconds)

    def seconds_of(self, work: Callable[[], object]) -> list[float]:
        """Of several runs, after one that is not timed."""
        work()
        synchronize(self.device)
        found: list[float] = []
        while len(found) < (1 if self.dry_run else RUNS) and sum(found) < ENOUGH:
            begin = time.perf_counter()
            work()
            synchronize(self.device)
            found.append(time.perf_counter() - begin)
        return found

    def speed(self, size: str, batch: int, work: Callable[[], object], *, evaluations: float | None = None) -> Row:
        """How fast a batch is drawn. evaluations: of the network, for each sample; None: two in each step."""
        reset_peak_memory(self.device)
        seconds = self.seconds_of(work)
        rate = batch / statistics.median(seconds)
        forwards = rate * (2 * self.steps if evaluations is None else evaluations)
        flops = forwards * self.size(size).flops()
        return {
            "seconds_a_batch": seconds,
            "images_per_second": rate,
            "forwards_per_second": forwards,
            "teraflops": flops / 1e12,
            "share_of_matmul": flops / self.ceiling,
            "peak_memory_mb": peak_memory_mb(self.device),
        }

    def sampling(self, size: str, batch: int, sampler: Sampler) -> Row:
        """How fast a sampler draws a batch, with the seconds that it prepares, mostly by compiling."""
        sampler.prepare(batch)
        preparation = sampler.take_cost().preparation_seconds
        sampler.images(range(batch))
        evaluations = sampler.take_cost().network_rows / batch  # fewer, and fractional, with a cache
        row = self.speed(size, batch, lambda: sampler.images(range(batch)), evaluations=evaluations)
        return {**row, "preparation_seconds": preparation}

    def row(self, facts: Row, work: Callable[[], Row]) -> None:
        """Measure a row, unless time is up, and write all rows so far. facts: what it is of."""
        if time.monotonic() > self.deadline:
            self.left_out.append(facts)
            return self.write()
        begin = time.monotonic()
        try:
            found = work()
        except torch.OutOfMemoryError as error:
            found = {"skipped": f"out of memory: {one_line(error)}"}
        except ValueError as error:  # a setting that this device or network can't have
            found = {"skipped": one_line(error)}
        except Exception as error:
            found = {"failed": f"{type(error).__name__}: {one_line(error)}"}
        self.rows.append({**facts, **found, "row_seconds": time.monotonic() - begin})
        print(json.dumps({**facts, **{key: value for key, value in found.items() if not isinstance(value, list)}}))
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return self.write()

    def write(self) -> None:
        facts = {"dry_run": self.dry_run, "steps": self.steps, "matmul_teraflops": self.ceiling / 1e12}
        record = {**facts, "driver": driver(), "rows": self.rows, "left_out": self.left_out, **provenance()}
        self.path.write_text(json.dumps(record, indent=2) + "\n")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def driver() -> str | None:
    with suppress(OSError, subprocess.CalledProcessError):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    return None
