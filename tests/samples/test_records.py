"""set.json and manifests as values: their keys on disk stay as they are, and early versions are read."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from ditexp.samples.cost import cost_per_image
from ditexp.samples.manifest import Manifest
from ditexp.samples.set_record import SetRecord
from ditexp.samples.store import SampleStore
from ditexp.values import Cost
from tests.helpers.sample_sets import complete_set, random_images


@pytest.fixture
def store(tmp_path) -> SampleStore:
    return complete_set(tmp_path / "outputs")


def test_a_record_is_written_as_it_was_read(store):
    text = (store.folder / "set.json").read_text()
    assert list(json.loads(text)) == ["id", "num_samples", "identity", "labels", "config", "command", "provenance"]
    assert json.dumps(SetRecord.read(store.folder).to_json(), indent=2) == text


def test_a_manifest_is_written_as_it_was_read(tmp_path):
    block = SampleStore(tmp_path, identity={"block_size": 2, "image_shape": [2, 2, 1]}, num_samples=2).block(0)
    cost = Cost(images=2, velocity_rows=8, network_rows=8, seconds=0.5, accepted=Counter({3: 1, 5: 1}))
    block.write(random_images(2, 2, 2, 1), None, cost=cost, maker={"host": "here"})
    text = block.manifest_path.read_text()
    keys = ["block", "bytes", "mtime_ns", "sha256", "pixels", "written", "process", "cost", "maker"]
    assert list(json.loads(text)) == keys and list(json.loads(text)["cost"]) == list(vars(Cost()))
    found = Manifest.read(block.manifest_path)
    assert found.cost == cost and json.dumps(found.to_json()) == text


def test_what_early_versions_did_not_record(store):
    path = store.folder / "set.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({key: facts[key] for key in ("identity", "num_samples")}))
    record = store.record()
    assert (record.id, record.config, record.command, record.provenance) == ("", {}, "", {})
    path = store.block(0).manifest_path
    manifest = json.loads(path.read_text())
    for key in ("block", "pixels", "process"):
        del manifest[key]
    del manifest["cost"]["preparation_seconds"]
    path.write_text(json.dumps(manifest))
    found = store.manifest(0)
    assert (found.block, found.pixels, found.process) == (None, "", "") and math.isnan(found.cost.preparation_seconds)
    assert store.cost(steps=5).preparation_seconds is None


@pytest.mark.parametrize(
    "cost", [{"seconds": -1}, {"images": True}, {"accepted": [3]}, {"accepted": {"many": 3}}, {"rejected": {"3": "x"}}]
)
def test_a_block_of_an_impossible_cost_counts_as_damaged(cost, store):
    path = store.block(1).manifest_path
    manifest = json.loads(path.read_text())
    manifest["cost"] |= cost
    path.write_text(json.dumps(manifest))
    assert store.missing() == [1]


def test_costs_of_blocks_add_up():
    blocks = [
        Cost(images=2, velocity_rows=8, network_rows=16, seconds=1.0, peak_memory_mb=5.0, accepted=Counter({4: 2})),
        Cost(images=1, velocity_rows=10, network_rows=20, seconds=0.5, peak_memory_mb=7.0, accepted=Counter({10: 1})),
    ]
    cost = cost_per_image(blocks, steps=None)
    assert (cost.nfe, cost.forwards, cost.seconds_per_image, cost.images_per_second) == (6, 12, 0.5, 2)
    assert cost.peak_memory_mb == 7 and cost.rejected_steps is None
    steps = cost.accepted_steps
    assert (steps.mean, steps.smallest, steps.largest, steps.images) == (6, 4, 10, {"4": 2, "10": 1})


def test_a_set_of_no_cost_has_none_per_image(tmp_path):
    identity = {"block_size": 1, "image_shape": [1, 1, 1]}
    empty = SampleStore(Path(tmp_path), identity=identity, num_samples=1)
    with pytest.raises(ValueError, match="0 images in 0 seconds: delete the set"):
        empty.cost(steps=1)
