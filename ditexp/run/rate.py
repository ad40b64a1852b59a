"""How many network evaluations a device makes in a second: as the user says, or as measured here before."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ditexp.outputs import Outputs
from ditexp.provenance import device_name
from ditexp.report.reading import read_undamaged
from ditexp.result import Result
from ditexp.run.cell import Cell


@dataclass(frozen=True)
class Rate:
    """forwards: network evaluations of one sample, per second on one device. source: where this is from."""

    forwards: float
    source: str

    def hours(self, forwards: float) -> float:
        """The hours that one device needs for this many network evaluations."""
        return forwards / self.forwards / 3600


def rate_of(cell: Cell) -> Rate | None:
    """The rate that the setting `rate` gives, or else that of the newest result of the same network on this device.

    A measured rate includes all that was timed with the network, such as a VAE's decoding. None if there is neither.
    """
    if (given := cell.config["rate"]) is not None:
        return Rate(given, f"rate={given:g}")
    if not cell.outputs.results.is_dir():
        return None
    results = known_results(cell.outputs, cell.outputs.results.stat().st_mtime_ns)
    measured = [result for result in results if is_alike(result, cell)]
    if not measured:
        return None
    result = measured[-1]
    assert result.cost is not None, "it is done"
    forwards = result.cost.forwards / result.cost.seconds_per_image
    return Rate(forwards, f"measured in {result.id}: {forwards:.3g} a second on {result.provenance['device']}")


def is_alike(result: Result, cell: Cell) -> bool:
    """Whether a result's seconds tell how long the network of a cell takes here."""
    same = ("model", "precision", "compile", "batch_size")
    here = device_name(cell.devices[0])
    return (
        result.cost is not None
        and result.provenance.get("device") == here
        and all(result.config.get(name) == cell.config[name] for name in same)
    )


@functools.lru_cache(maxsize=1)
def known_results(outputs: Outputs, changed: int) -> list[Result]:
    """All results of an outputs folder, newest last. changed: when a result was last added; part of the cache's key."""
    files = [file for file in outputs.results.glob("*.json") if not file.stem.startswith("evaluate-")]
    files.sort(key=lambda file: file.stat().st_mtime if file.exists() else 0)
    return read_undamaged(files)
