"""Results as values: to JSON and back, results of earlier versions, and what is wrong with a damaged one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ditexp.files.json_values import decode
from ditexp.result import CostPerImage, Deviations, Evaluation, ImagesRecord, Measurement, Result, read_result

COST = {
    "steps": 4,
    "nfe": 8.0,
    "forwards": 16.0,
    "seconds_per_image": 0.5,
    "images_per_second": 2.0,
    "preparation_seconds": None,
    "peak_memory_mb": 100.0,
}
PROTOCOL = {
    "protocol": "adm",
    "changed": ["feature.resize=area"],
    "beyond": [],
    "feature": {"name": "inception", "sha256": "c3"},
    "reference": {"name": "digits", "count": 100, "fingerprint": "d4"},
    "metrics": {"fid": {"output": "pool3"}},
}
DONE = {
    "id": "a1",
    "status": "done",
    "study": "digits",
    "settings": {"solver": "heun", "steps": 4, "guidance.weight": 1.5, "cache": "none"},
    "grid": "/outputs/results/a1.png",
    "trajectory_picture": "/outputs/results/a1.trajectory.png",
    "cell_command": "ditexp run solver=heun",
    "command": "ditexp run -m solver=heun,euler",
    "sample_id": "b2",
    "num_samples": 8,
    "cost": COST,
    "metrics": {"fid": 2.5, "trajectory_rmse": 1},
    "deviations": {"fid": {"units": 8, "mean": 3.0, "halves": [0.1, -0.1]}},
    "trajectory": {"curvature": 0.25, "error_along_t": [[0.0, 0.0], [1.0, 0.5]]},
    "class_names": ["zero", "one"],
    "protocol": PROTOCOL,
    "config": {"seed": 0},
    "provenance": {"time": "2026-01-01T00:00:00+0000", "dirty": False},
}
ADAPTIVE = {"steps": None, "accepted_steps": {"mean": 9.5, "smallest": 9, "largest": 10, "images": {"9": 4, "10": 4}}}
FAILED = {
    "id": "failed-x",
    "status": "failed",
    "error": "no memory",
    "study": "digits",
    "settings": {"solver": "heun", "steps": None, "cache": "none"},
    "config": {"seed": 0},
}


@pytest.mark.parametrize(
    "found",
    [
        DONE,
        DONE | {"cost": COST | ADAPTIVE},
        DONE | {"metrics": {}, "deviations": {}, "protocol": PROTOCOL | {"feature": None, "reference": None}},
        DONE | {"cached": False, "film": "/outputs/results/a1.gif"},
        FAILED,
    ],
)
def test_json_and_back(found):
    result = Result.from_json(json.loads(json.dumps(found)))
    assert result.to_json() == found
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_the_parts_of_a_result():
    result = Result.from_json(DONE)
    assert result.is_done and result.network == "inception"
    assert result.grid == Path("/outputs/results/a1.png") and result.film is None
    assert isinstance(result.cost, CostPerImage) and result.cost.numbers() == COST
    assert result.deviations == {"fid": Deviations(units=8, mean=3.0, halves=[0.1, -0.1])}
    assert result.details["trajectory"]["curvature"] == 0.25 and result.error_along_t[1] == [1.0, 0.5]
    assert result.measurement is not None and result.measurement.reference is not None
    assert result.measurement.reference.count == 100


def test_results_of_earlier_versions_still_load():
    cost = {"forwards": 5.0, "seconds_per_image": 0.1}
    found = {"id": "a", "status": "done", "settings": {"solver": "euler", "steps": 5}, "num_samples": 4, "cost": cost}
    result = Result.from_json(found | {"metrics": {"fid": 1.0}, "deviations": {"fid": 0.1, "kid": [0.1], "is": None}})
    assert result.deviations == {} and result.measurement is None and result.network == "unknown"
    assert result.cost is not None and result.cost.peak_memory_mb is None


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"id": None}, "id is missing"),
        ({"id": 5}, "id is not of type str"),
        ({"status": "fine"}, "status is not one of running, done, failed, incomplete"),
        ({"settings": {"solver": "heun"}}, "settings lack solver or steps"),
        ({"cost": None}, "cost, num_samples or metrics is missing"),
        ({"cost": {"forwards": True, "seconds_per_image": 0.1}}, "forwards is not of type float"),
        ({"metrics": {"fid": None}}, "fid is not of type float"),
        ({"deviations": {"fid": {"units": 8}}}, "mean is missing"),
        ({"protocol": {"feature": {"sha256": "c3"}}}, "feature has no name"),
        ({"trajectory": {"error_along_t": [1.0]}}, "error_along_t is not a list of pairs"),
        ({"status": "failed"}, "no error"),
    ],
)
def test_a_damaged_result_says_what_is_wrong(change, wrong, tmp_path):
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(DONE | change))
    with pytest.raises(ValueError) as caught:
        read_result(path)
    assert str(caught.value) == f"{path} is damaged ({wrong})"


def test_a_result_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_result(tmp_path / "cell.json")


def test_keys_in_messages_are_short_and_printable():
    with pytest.raises(ValueError) as caught:
        decode(dict[str, str], {"x\n" * 50: 1})
    assert str(caught.value).isprintable() and len(str(caught.value)) < 80


def test_an_evaluation_as_json():
    images = ImagesRecord(name="samples.npz", fingerprint="e5", count=8)
    measurement = Measurement(protocol="adm", feature={"name": "inception"}, reference=None, images=images)
    noise = {"fid": Deviations(units=8, mean=3.0, halves=[0.1, -0.1])}
    found = Evaluation(id="f6", metrics={"fid": 2.5}, deviations=noise, measurement=measurement).to_json()
    assert found["protocol"]["images"] == {"name": "samples.npz", "fingerprint": "e5", "count": 8}
    assert found["deviations"] == {"fid": {"units": 8, "mean": 3.0, "halves": [0.1, -0.1]}}
    assert list(found) == ["id", "metrics", "deviations", "protocol", "command", "provenance"]
