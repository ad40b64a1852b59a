"""Devices by their names; what happens when a block fails; each worker loads a model once per sweep."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
import torch

from ditexp.run.devices import choose_devices
from tests.helpers.sample_sets import files_of

SMALL = ("num_samples=512", "batch_size=64", "steps=2", "metric=[]")


def test_devices_by_their_names(monkeypatch):
    cpu, gpus = torch.device("cpu"), [torch.device("cuda", number) for number in range(4)]
    cores = min(8, len(os.sched_getaffinity(0)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_devices("auto") == [cpu] * cores
    assert choose_devices("cpu") == [cpu] and choose_devices("cpu:3") == [cpu] * 3
    with pytest.raises(ValueError, match="devices=2: this machine has 0 CUDA devices; choose auto or cpu:N"):
        choose_devices(2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert choose_devices("auto") == gpus and choose_devices(2) == gpus[:2]
    assert choose_devices([0, 2]) == [gpus[0], gpus[2]]
    with pytest.raises(ValueError, match="this machine has 4"):
        choose_devices([0, 4])


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "gpu", "cpu:", "cpu:0", "cpu:x", [], [0, 0], [-1], ["0"], None])
def test_devices_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=r"devices=.*: choose auto, a number of GPUs, a list of them as \[0,2\]"):
        choose_devices(wrong)


OWN = """
import os
from dataclasses import dataclass
from typing import ClassVar
from ditexp.model.analytic import GaussianMixture
from ditexp.solver.base import OneStep, at

class Noted(GaussianMixture):
    def __init__(self):
        super().__init__()
        with open("loads", "a") as file:
            file.write(f"{os.getpid()}\\n")

@dataclass(frozen=True)
class Stumbling(OneStep):
    order: ClassVar[int] = 1
    times: int

    def step(self, field, x, t0, t1):
        with open("stumbles", "a+") as file:
            if file.tell() < self.times:
                file.write(".")
                file.flush()
                raise RuntimeError("out of luck")
        return x + (t1 - t0) * field(x, at(x, t0))
"""


@pytest.fixture
def own(tmp_path) -> Path:
    """A working directory with a model that records which process loads it, and a solver that fails a few times."""
    folder = tmp_path / "own"
    for group, name, node in (
        ("model", "noted", "_target_: own.Noted"),
        ("solver", "stumbling", "_target_: own.Stumbling\ntimes: 1"),
    ):
        (folder / "conf" / group).mkdir(parents=True)
        (folder / "conf" / group / f"{name}.yaml").write_text(node)
    (folder / "own.py").write_text(OWN)
    return folder


def test_a_block_that_fails_twice_fails_its_cell_and_one_that_fails_once_is_made_again(own, ditexp, tmp_path):
    arguments = (f"--config-dir={own / 'conf'}", *SMALL, "devices=cpu:1", "solver=stumbling", "solver.times=3")
    twice = ditexp(*arguments, folder=own)
    assert twice.code == 1 and "block 0 (samples 0 to 255): out of luck" in twice.output, twice.output
    assert (own / "stumbles").read_text() == ".." and not files_of(tmp_path / "outputs" / "samples")
    assert not list((tmp_path / "outputs" / "samples").rglob("*.claim"))
    once = ditexp(*arguments, folder=own)
    assert once.code == 0, once.output
    assert (own / "stumbles").read_text() == "..." and len(files_of(tmp_path / "outputs" / "samples")) == 2


def test_a_sweep_loads_a_model_once_a_process(own, ditexp):
    command = ditexp(
        f"--config-dir={own / 'conf'}",
        "-m",
        *SMALL,
        "devices=cpu:2",
        "model=noted",
        "solver=euler,heun",
        folder=own,
    )
    assert command.code == 0, command.output
    loads = Counter((own / "loads").read_text().split())
    assert len(loads) == 3 and set(loads.values()) == {1}  # the parent and two workers
