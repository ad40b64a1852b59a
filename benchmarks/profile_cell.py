"""Where the processor time of a cell goes: python -m benchmarks.profile_cell [overrides]

What a worker does for each block of a cell, and then the scoring, in this process and under cProfile, for the second of
two cells. Without overrides there are two kinds: the bundled digits model, 50 steps; and a DiT-S/2 on latents of 16 x
16 with a VAE of Stable Diffusion's size and Inception, all with random weights, 10 steps. "everything else" is all that
is not the network, the VAE or the feature network; below it are the functions in which it was spent.
"""

from __future__ import annotations

import cProfile
import functools
import json
import os
import pstats
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.cells import configuration
from benchmarks.random_models import SIZES, write_checkpoint, write_vae
from ditexp.feature.digits import DigitsFeature
from ditexp.feature.inception import Inception
from ditexp.model.dit import DiT
from ditexp.provenance import provenance
from ditexp.run.blocks import SetSpec
from ditexp.run.cell import Cell, build
from ditexp.run.judge import judge
from ditexp.vae.codec import LatentCodec
from tests.helpers.inception_weights import save_random

# The methods that all of a part's time is spent in.
PARTS: dict[str, list[tuple[type, str]]] = {
    "the network": [(DiT, "outputs")],
    "the VAE": [(LatentCodec, "_in_batches")],
    "the feature network": [(DigitsFeature, "__call__"), (Inception, "__call__")],
}
MOST = 12  # functions that are listed


def cell_of(overrides: list[str], outputs: Path) -> Cell:
    return build(configuration([*overrides, f"outputs={outputs}", "devices=cpu:1"]))


def digits(folder: Path) -> list[str]:
    return ["num_samples=512", "steps=50"]


def latents(folder: Path) -> list[str]:
    return [
        *("model=checkpoint", f"model.checkpoint={write_checkpoint(folder, SIZES['S'].at(16))}"),
        *("vae=folder", f"vae.path={write_vae(folder / 'vae')}"),
        *("feature=inception", f"feature.weights={save_random(folder / 'inception.pth')}", "reference=none"),
        *("metric=[inception_score]", "num_samples=16", "batch_size=4", "steps=10"),
    ]


def make_blocks(cell: Cell) -> None:
    """As `ditexp.run.worker_process.serve` does it, where writing is a thread beside the making of the next block."""
    store = cell.store
    maker = SetSpec(cell.config, store.id, os.getcwd()).block_maker(torch.device("cpu"))
    for number in store.missing():
        block = maker.make(number)
        maker.write(block)
        maker.extract(block)


def profile(work: Callable[[], object]) -> dict[str, Any]:
    """The shares of the parts, and the functions of everything else by their own time."""
    profiler, seconds = cProfile.Profile(time.process_time), dict.fromkeys(PARTS, 0.0)

    def timed(part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def wrapped(*given: Any, **named: Any) -> Any:
            profiler.disable()
            begin = time.process_time()
            try:
                return method(*given, **named)
            finally:
                seconds[part] += time.process_time() - begin
                profiler.enable()

        return wrapped

    with ExitStack() as patches:
        for part, methods in PARTS.items():
            for owner, name in methods:
                patches.enter_context(mock.patch.object(owner, name, timed(part, vars(owner)[name])))
        begin = time.process_time()
        profiler.runcall(work)
        total = time.process_time() - begin
    seconds["everything else"] = total - sum(seconds.values())
    stats: Mapping[Any, Any] = pstats.Stats(profiler).stats
    own = {key: value[2] for key, value in stats.items()}
    largest = sorted(own, key=lambda key: -own[key])[:MOST]
    return {
        "processor_seconds": total,
        "shares": {part: value / total for part, value in seconds.items()},
        "functions": {name_of(key): own[key] / total for key in largest},
    }


def name_of(key: tuple[str, int, str]) -> str:
    file, line, function = key
    return function if file == "~" else f"{'/'.join(Path(file).parts[-2:])}:{line} {function}"


def show(title: str, found: Mapping[str, Any]) -> None:
    print(f"\n{title}: {found['processor_seconds']:.2f} s of the processor")
    for part, share in found["shares"].items():
        print(f"  {100 * share:6.2f} %  {part}")
    for function, share in found["functions"].items():
        print(f"      {100 * share:6.2f} %  {function}")


def main() -> None:
    torch.set_num_threads(1)  # as a worker of devices=cpu:N has
    given, result = sys.argv[1:], {}
    cells: dict[str, Callable[[Path], list[str]]] = {"digits": digits, "latents": latents}
    if given:
        cells = {" ".join(given): lambda folder: given}
    for name, overrides_of in cells.items():
        with tempfile.TemporaryDirectory() as folder:
            overrides = overrides_of(Path(folder))
            for seed in (1, 0):  # the first cell also imports what the others share, and is not shown
                cell = cell_of([*overrides, f"seed={seed}"], Path(folder, "outputs"))
                made, scored = profile(lambda cell=cell: make_blocks(cell)), profile(lambda cell=cell: judge(cell))
        show(f"{name}, blocks in a worker", made)
        show(f"{name}, scoring", scored)
        result[name] = {"blocks": made, "scoring": scored}
    if not given:
        out = Path(__file__).parent / "results" / "profile_cell.json"
        out.write_text(json.dumps(result | provenance(), indent=2) + "\n")


if __name__ == "__main__":
    main()
