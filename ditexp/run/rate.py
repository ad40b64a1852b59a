"""How fast a device is: as the user says, as measured here before, or as measured now by a few evaluations."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from ditexp.core import Feature
from ditexp.feature.dinov2 import DINOv2
from ditexp.feature.inception import Inception
from ditexp.files.content import digest
from ditexp.meter import synchronize
from ditexp.outputs import Outputs
from ditexp.provenance import device_name
from ditexp.report.reading import read_undamaged
from ditexp.result import Result
from ditexp.run.cell import Cell
from ditexp.run.configuration import MEASURE

SECONDS = 2.0  # for how long each part is measured, at least
NETWORK = ("model", "precision", "compile", "batch_size")  # the settings that decide how long an evaluation takes


@dataclass(frozen=True)
class Rate:
    """What one device makes in a second, and where this is from.

    forwards: network evaluations of one sample. seconds_per_image: what each image needs beside, in decoding and in
    features; 0 where it is unknown or part of `forwards`.
    """

    forwards: float
    source: str
    seconds_per_image: float = 0.0

    def hours(self, forwards: float, images: int = 0) -> float:
        """The hours that one device needs for this many network evaluations and images."""
        return (forwards / self.forwards + images * self.seconds_per_image) / 3600


def rate_of(cell: Cell) -> Rate | None:
    """The rate that the setting `rate` gives, or else that of the newest result of the same network on this device.

    A rate of a result includes all that was timed with the network, such as a VAE's decoding. None if there is neither.
    """
    given = cell.config["rate"]
    if given not in (None, MEASURE):
        return Rate(given, f"rate={given:g}")
    if not cell.outputs.results.is_dir():
        return None
    newest = newest_results(cell.outputs, cell.outputs.results.stat().st_mtime_ns)
    result = newest.get(kind_of(device_name(cell.devices[0]), cell.config))
    if result is None:
        return None
    assert result.cost is not None, "it is done"
    forwards = result.cost.forwards / result.cost.seconds_per_image
    return Rate(forwards, f"measured in {result.id}: {forwards:.3g} a second on {result.provenance['device']}")


@functools.lru_cache(maxsize=1)
def newest_results(outputs: Outputs, changed: int) -> dict[str, Result]:
    """The newest results of an outputs folder, by what decides how long an evaluation takes.

    changed: when a result was last added; part of the cache's key.
    """
    files = sorted(outputs.cell_results(), key=lambda file: file.stat().st_mtime if file.exists() else 0)
    results = [result for result in read_undamaged(files) if result.cost is not None]
    return {kind_of(result.provenance.get("device"), result.config): result for result in results}


def kind_of(device: str | None, config: Mapping[str, Any]) -> str:
    """Equal where an evaluation of the network takes equally long."""
    return digest([device, *(config.get(name) for name in NETWORK)])


def measured_rate(cell: Cell, known: dict[str, Rate]) -> Rate:
    """The rate of a cell's network on its first device, by some seconds of evaluations of one batch as the run has it.

    known: rates of cells that were measured before, by what decides them; filled in.
    """
    guidance = {name: value for name, value in cell.config["guidance"].items() if name in ("_target_", "weak")}
    parts = {name: cell.config[name] for name in (*NETWORK, "vae", "feature", "task")}
    key = digest({**parts, "guidance": guidance, "device": str(cell.devices[0])})
    if key not in known:
        threads = torch.get_num_threads()
        torch.set_num_threads(1 if cell.devices[0].type == "cpu" else threads)  # as a worker
        try:
            known[key] = measure(cell)
        finally:
            torch.set_num_threads(threads)
    return known[key]


@torch.inference_mode()
def measure(cell: Cell) -> Rate:
    sampler, batch = replace(cell.sampler, cache=None), range(cell.batch_size)  # full evaluations
    device = cell.devices[0]
    sampler.load(len(batch))

    def evaluate() -> float:
        sampler.take_cost()
        sampler.evaluate_guidance(batch)
        return sampler.take_cost().network_rows

    forwards = per_second(evaluate, device)
    latents = torch.zeros(len(batch), *sampler.model.sample_shape, device=device)

    def decode() -> int:
        return len(sampler.decode(latents).cpu())

    seconds = 1 / per_second(decode, device)
    said = f"{forwards:.3g} evaluations a second in batches of {len(batch)}"
    feature = cell.evaluator.feature
    if feature is not None and cell.evaluator.metrics and is_here(feature):
        feature.to(device)
        pixels = sampler.decode(latents).cpu()
        images = per_second(lambda: len(next(iter(feature(pixels).values()))), device)
        seconds += 1 / images
        said += f", features of {images:.3g} images a second"
    return Rate(forwards, f"measured now on {device_name(device)}: {said}", seconds)


def per_second(work: Callable[[], float], device: torch.device) -> float:
    """How much is done in a second. work: does a part, and returns how much this is; its first call is not counted."""
    work()
    synchronize(device)
    start, done = time.perf_counter(), 0.0
    while (elapsed := time.perf_counter() - start) < SECONDS or not done:
        done += work()
        synchronize(device)
    return done / elapsed


def is_here(feature: Feature) -> bool:
    """Whether a feature network can be loaded without a download."""
    if isinstance(feature, Inception | DINOv2) and not feature.weights.is_here:
        return False
    with suppress(ValueError):
        feature.load()
        return True
    return False
