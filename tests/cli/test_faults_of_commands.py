"""Commands killed while they write: the next run ends like an undisturbed one and leaves no temporary file.

The results are part of the table that tests/run/test_faults.py prints.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ditexp.files.process import this_process
from ditexp.images.digits import DigitsImages
from ditexp.samples.store import SampleStore
from ditexp.values import Cost
from tests.helpers import commands, holds


class Faulty(NamedTuple):
    """A command on a folder {0}, parts of the names of the temporary files that it is killed at, and what it makes."""

    module: str
    arguments: tuple[str, ...]
    killed_at: tuple[str, ...]
    result: Callable[[Path], object]


def measured(folder: Path) -> dict:
    [file] = folder.glob("outputs/results/evaluate-*.json")
    return json.loads(file.read_text())["metrics"]


JUDGED = ("feature=digits", "outputs={0}/outputs", "hydra.run.dir={0}/runs")
TINY = ("network.hidden_size=16", "network.depth=1", "network.num_heads=2", "batch_size=16", "warmup=2")
COMMANDS = {
    "evaluate": Faulty(
        "ditexp.evaluate",
        ("images={0}/images.npz", "reference=digits", "resamples=0", *JUDGED),
        (".000001.safetensors.", ".000004.safetensors.", ".evaluate-"),
        measured,
    ),
    "reference": Faulty(
        "ditexp.reference",
        ("reference=npz", "reference.path={0}/images.npz", "out={0}/made/ref.safetensors", *JUDGED),
        (".000000.safetensors.", ".ref.safetensors."),
        lambda folder: (folder / "made/ref.safetensors").read_bytes(),
    ),
    "train": Faulty(
        "ditexp.train",
        (*TINY, "steps=4", "save_every=2", "folder={0}/trained", "hydra.run.dir={0}/runs"),
        (".checkpoint.pt.", ".model.safetensors."),
        lambda folder: (folder / "trained/model.safetensors").read_bytes(),
    ),
    "optimize": Faulty(
        "ditexp.optimize",
        ("trajectories=2", "candidates=4", "max_steps=1", "out={0}/made/grids.json", "hydra.run.dir={0}/runs"),
        (".grids.json.",),
        lambda folder: json.loads((folder / "made/grids.json").read_text())["grids"],
    ),
    **{
        f"export to {name}": Faulty(
            "ditexp.samples",
            ("export", "{0}/set", f"{{0}}/made/{name}"),
            (f".{name}.",),
            lambda folder: [file.read_bytes() for file in sorted((folder / "made").rglob("*")) if file.is_file()],
        )
        for name in ("set.npz", "set.tar", "set")
    },
}


def prepare(folder: Path) -> Path:
    """The input of the commands: images, and a sample set of 40."""
    folder.mkdir()
    images = np.concatenate(list(DigitsImages().blocks()))[:300]
    np.savez(folder / "images.npz", images)
    store = SampleStore(folder, identity={"block_size": 20, "image_shape": [8, 8, 1]}, num_samples=40)
    store.begin()
    for block in range(2):
        cost = Cost(images=20, velocity_rows=1, network_rows=1, seconds=1, peak_memory_mb=1)
        store.write(block, images[store.indices(block)], np.arange(20), cost=cost, maker={"host": "here"})
    store.folder.rename(folder / "set")
    return folder


def temporary_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if ".tmp" in path.name]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_killed_as_it_writes(name, tmp_path, record_property):
    faulty = COMMANDS[name]

    def start(folder: Path, **options) -> commands.Command:
        arguments = [argument.format(folder) for argument in faulty.arguments]
        return commands.start(commands.unused_name(tmp_path / "logs"), faulty.module, *arguments, **options)

    undisturbed, killed = prepare(tmp_path / "undisturbed"), prepare(tmp_path / "killed")
    first = start(undisturbed)
    for part in faulty.killed_at:
        command = start(killed, patches=holds.as_it_writes(part))
        holds.wait_for(lambda: any(part in path.name for path in temporary_files(killed)), command)  # noqa: B023
        command.process.kill()
        command.wait()
        assert any(part in path.name for path in temporary_files(killed))
    others = [killed / f".{place}.{process}.tmp" for place, process in (("here", this_process()), ("away", "x~1~1~1"))]
    for other in others:
        other.touch()

    last = start(killed).wait()
    assert last.code == 0, last.output
    assert first.wait().code == 0, first.output
    assert faulty.result(killed) == faulty.result(undisturbed)
    assert sorted(temporary_files(killed)) == sorted(others), "those of a process that runs, and of another host"
    names = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in (undisturbed, killed)]
    assert names[1] - {other.relative_to(killed) for other in others} == names[0]
    outcome = f"kill -9 of {name}, as it writes", len(faulty.killed_at), "made by the next run, nothing left behind"
    record_property("fault", outcome)
