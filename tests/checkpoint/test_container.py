"""Files of weights: their formats, what is read of them, and objects that are never rebuilt."""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict, defaultdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ditexp.checkpoint.container import Container, read_checkpoint
from ditexp.checkpoint.record import Record
from ditexp.checkpoint.weights import weights_of
from tests.helpers.hostile_files import in_memory
from tests.helpers.networks import saved, tiny_dit
from tests.helpers.refusals import refused

WEIGHTS = tiny_dit().state_dict()
ANCHOR = "final_layer.linear.weight"


def opened(path: Path | str) -> Container:
    return read_checkpoint(path, name=f"model.checkpoint={path}")


def written(path: Path, state: object, *, old: bool = False) -> Path:
    torch.save(state, path, _use_new_zipfile_serialization=not old)
    return path


@pytest.mark.parametrize("old", [False, True])
def test_a_file_of_torch_holds_what_was_saved(tmp_path, old):
    numbers = torch.randn(50)
    state = {
        "weights": OrderedDict(a=numbers, b=numbers[10:20].view(2, 5).t(), c=torch.tensor(7), d=torch.ones(2, 0)),
        "types": [torch.ones(2, dtype=dtype) for dtype in (torch.bool, torch.uint8, torch.int64, torch.complex64)],
        "halves": (torch.ones(3).half(), torch.ones(3).bfloat16(), torch.ones(3).double()),
        "facts": defaultdict(list, {"step": 3, "rate": 1e-4, "name": "é", "none": None, "yes": True, "bytes": b"\x80"}),
        "numpy": [np.float64(0.5), np.int64(3), np.bool_(True)],
        "size": torch.Size([2, 3]),
        "set": {1},
    }
    found = opened(written(tmp_path / "x", state, old=old))
    assert found.format == ("torch before 1.6" if old else "torch")
    weights, expected = found.state["weights"], state["weights"]
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    assert weights["b"].data_ptr() == weights["a"].data_ptr() + 40 and weights["b"].stride() == (1, 5)
    for key in ("types", "halves"):
        pairs = zip(found.state[key], state[key], strict=True)
        assert all(one.dtype == other.dtype and torch.equal(one, other) for one, other in pairs)
    assert found.state["facts"] == dict(state["facts"]) and found.state["numpy"] == [0.5, 3, True]
    assert found.state["size"] == (2, 3) and found.state["set"] == [1]


def test_every_other_object_is_an_inert_record(tmp_path):
    """Even of a module that can be imported only where the file was made."""
    module = ModuleType("a_module_of_theirs")
    exec("class Config:\n    def __setstate__(self, state):\n        raise SystemExit", module.__dict__)
    module.Config.__module__ = module.__name__
    sys.modules[module.__name__] = module
    config = module.Config()
    config.width, config.inner = 384, argparse.Namespace(depth=12)
    path = written(tmp_path / "x", {"config": config, "kind": module.Config, "args": [Path("a/b"), torch.float16]})
    del sys.modules[module.__name__]
    before = set(sys.modules)
    state = opened(path).state
    assert set(sys.modules) == before
    config, kind = state["config"], state["kind"]
    assert isinstance(config, Record) and config.kind == "a_module_of_theirs.Config" == kind.kind
    assert config.fields["width"] == 384 and config.fields["inner"].fields == {"depth": 12}
    assert kind.arguments is None and [type(one) for one in state["args"]] == [Record, Record]


def test_training_arguments_are_plain_values(tmp_path):
    args = argparse.Namespace(
        lr=1e-4, path=Path("/data/imagenet"), dtype=torch.float16, betas=(0.9, 0.95), seed=np.int64(3)
    )
    path = written(tmp_path / "x", {"ema": WEIGHTS, "args": args, "config": {"model": {"depth": 2}}, "steps": 9})
    assert weights_of(opened(path)).args == {
        "lr": 1e-4,
        "path": "/data/imagenet",
        "dtype": "torch.float16",
        "betas": [0.9, 0.95],
        "seed": 3,
        "model": {"depth": 2},
    }


def test_what_was_taken_is_said(tmp_path):
    half = {f"module.{key}": value.half() for key, value in WEIGHTS.items()}
    state = {"model": WEIGHTS, "ema": {"net": half, "loss": torch.zeros(3)}}
    found = weights_of(opened(written(tmp_path / "x", state)))
    size = sum(value.numel() for value in WEIGHTS.values()) * 2 / 1e6
    assert found.summary == f"ema weights at ema.net, 32 tensors of {size:.1f} MB, from float16, not model"
    state = {"state_dict": {f"net.{key}": value for key, value in WEIGHTS.items()} | {"loss.x": torch.zeros(3)}}
    found = weights_of(opened(written(tmp_path / "x", state)))
    assert found.summary.endswith("without loss.x") and found.which == "model" and not found.args


@pytest.mark.parametrize("format", ["zip", "old", "safetensors"])
def test_only_the_chosen_weights_take_memory(tmp_path, format):
    """Of 150 MB, the average's 17 MB are read; converted from float16, they are 34 MB more."""
    numbers = torch.zeros(2**24)
    parts = {f"model.{ANCHOR}": numbers, f"opt.{ANCHOR}.x": numbers + 1, f"ema.{ANCHOR}": torch.ones(2**23).half()}
    path = tmp_path / "x"
    save_file(parts, path) if format == "safetensors" else written(path, parts, old=format == "old")
    del numbers, parts
    opened(path)  # hashes it
    Path("/proc/self/clear_refs").write_text("5")
    before = in_memory("VmRSS")
    weights = weights_of(opened(path)).tensors
    assert weights[ANCHOR].eq(1).all()
    assert in_memory("VmHWM") - before < 90


def test_shards_are_one_checkpoint(tmp_path):
    keys = list(WEIGHTS)
    index = tmp_path / "m.safetensors.index.json"
    shards = {"a.safetensors": keys[:9], "b.safetensors": keys[9:]}
    for name, part in shards.items():
        save_file({key: WEIGHTS[key] for key in part}, tmp_path / name)
    index.write_text(
        str({"weight_map": {key: name for name, part in shards.items() for key in part}}).replace("'", '"')
    )
    by_folder, by_index = opened(tmp_path), opened(index)
    assert by_folder.sha256 == by_index.sha256 and by_folder.format == "safetensors in 2 files"
    tensors = weights_of(by_folder).tensors
    assert tensors.keys() == WEIGHTS.keys() and all(torch.equal(tensors[key], WEIGHTS[key]) for key in WEIGHTS)
    save_file({key: WEIGHTS[key] + 1 for key in keys[9:]}, tmp_path / "b.safetensors")
    assert opened(index).sha256 != by_index.sha256
    with refused([f"model.checkpoint={tmp_path} was changed while it was in use"]):
        weights_of(by_folder)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    container = opened(saved(tmp_path / "x.pt", WEIGHTS))
    saved(tmp_path / "x.pt", {key: value + 1 for key, value in WEIGHTS.items()})
    with refused(["x.pt was changed while it was in use"]):
        weights_of(container)


def test_numbers_at_odd_places_are_copied(tmp_path):
    path = written(tmp_path / "x", {"odd": torch.ones(3, dtype=torch.uint8), "model": WEIGHTS}, old=True)
    tensors = weights_of(opened(path)).tensors
    assert all(value.data_ptr() % 4 == 0 for value in tensors.values())
    assert all(torch.equal(tensors[key], WEIGHTS[key]) for key in WEIGHTS)
