"""Damaged files in an outputs folder: the next run makes them again and says so; readers name them and continue."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from ditexp.cli.packaged import packaged
from ditexp.files.records import misfit
from ditexp.outputs import Outputs
from ditexp.report.html.embedding import embed
from ditexp.report.picture_files import is_picture
from ditexp.report.plots.side_by_side import side_by_side
from ditexp.report.reading import read_results, study_results
from ditexp.report.writing import write_report
from ditexp.result import Result
from ditexp.run import cell, job
from ditexp.run.outcome import save_result, saved_result
from ditexp.run.settings import without_hydra
from ditexp.run.watch import Watch
from ditexp.samples.claims import Claims
from ditexp.samples.store import SampleStore
from ditexp.values import Cost
from tests.helpers.refusals import refused
from tests.helpers.results import results_of, table_of
from tests.helpers.sample_sets import files_of

FEW = ("num_samples=8", "batch_size=8", "steps=2", "solver=euler", "devices=cpu:1", "resamples=0", "tracker=none")


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(packaged("conf")), version_base="1.3"):
        return compose("config", overrides=[*FEW, *overrides], return_hydra_config=True)


@cache
def built(outputs: Path, *overrides: str) -> cell.Cell:
    return cell.build(without_hydra(composed(f"outputs={outputs}", *(overrides or ["metric=[inception_score]"]))))


def run(outputs: Path, *overrides: str) -> dict:
    settings = {"solver": "euler", "steps": 2}
    cell = built(outputs, *overrides)
    return job.run(cell, settings=settings, command="ditexp run", watch=Watch()).to_json()


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """The outputs of a cell that is done."""
    outputs = tmp_path_factory.mktemp("damage") / "outputs"
    assert run(outputs)["cached"] is False and run(outputs)["cached"] is True
    return outputs


@pytest.fixture
def outputs(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "outputs"))


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def replace_with_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "kept.txt").write_text("a person's")


def replace_with_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "an empty object": lambda path: path.write_text("{}"),
    "a list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "NUL bytes": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "not UTF-8": lambda path: path.write_bytes(b'{"id": "\xff\xfe"}'),
    "nested deeply": lambda path: path.write_text("[" * 100_000),
    "a folder": replace_with_folder,
    "a pipe": replace_with_pipe,
}


def without(*names: str):
    """Damages a JSON file by removing a key: the last name, inside the objects that the others lead to."""

    def damage(path: Path) -> None:
        found = part = json.loads(path.read_text())
        for name in names[:-1]:
            part = part[name]
        del part[names[-1]]
        path.write_text(json.dumps(found))

    return damage


def with_value(name: str, value):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))


OF_RESULTS = {
    "of another id": with_value("id", "0" * 16),
    "of another set": with_value("sample_id", "0" * 16),
    "failed": with_value("status", "failed"),
    "without metrics": without("metrics"),
    "without forwards": without("cost", "forwards"),
    "with a metric of text": with_value("metrics", {"fid": "low"}),
    "with a list of settings": with_value("settings", []),
}


@pytest.mark.parametrize("damage", DAMAGE | OF_RESULTS)
def test_a_damaged_result_is_none(damage, original, tmp_path, caplog):
    done = replace(built(original), outputs=Outputs(tmp_path))
    path = done.outputs.result(done.id)
    path.parent.mkdir()
    shutil.copy(only(original / "results", "*.json"), path)
    assert done.result() == Result.from_json(json.loads(path.read_text()))
    (DAMAGE | OF_RESULTS)[damage](path)
    assert done.result() is None
    (line,) = caplog.messages
    assert str(path) in line and "scored again" in line and "\n" not in line


def test_a_cell_without_its_result_is_scored_again(outputs):
    path = only(outputs / "results", "*.json")
    before, samples = json.loads(path.read_text()), files_of(outputs / "samples")
    replace_with_folder(path)
    again = run(outputs)
    assert again["cached"] is False and again["metrics"] == before["metrics"]
    assert json.loads(path.read_text())["metrics"] == before["metrics"] and run(outputs)["cached"] is True
    assert files_of(outputs / "samples") == samples
    assert only(outputs / "results", "*.json.aside-*/kept.txt").read_text() == "a person's"


OF_SETS = {
    "without command": without("command"),
    "without identity": without("identity"),
    "with no number of samples": with_value("num_samples", 0),
    "with labels of another kind": with_value("labels", {"many": 3}),
    "with an edited identity": with_value("identity", {"block_size": 4, "image_shape": [2, 2, 1]}),
}


@pytest.mark.parametrize("damage", DAMAGE | OF_SETS)
def test_a_damaged_set_json_is_written_again(damage, tmp_path, caplog):
    store = set_of_three(tmp_path)
    path = store.folder / "set.json"
    before = path.read_text()
    (DAMAGE | OF_SETS)[damage](path)
    assert store.begin(**ABOUT) and path.read_text() == before and not store.begin(**ABOUT)
    assert any(f"{path} is damaged" in line for line in caplog.messages)
    (DAMAGE | OF_SETS)[damage](path)
    if damage not in ("without command", "with an edited identity"):  # readers do not notice these
        with refused([str(path), "is damaged", "the run that made the set mends it"]):
            SampleStore.find(store.folder)


def test_a_damaged_set_json_of_a_complete_set_is_mended(outputs):
    path = only(outputs / "samples", "*/set.json")
    before = json.loads(path.read_text())
    path.write_text("{")
    (path.parent / "README.md").unlink()
    assert run(outputs)["cached"] is True and (path.parent / "README.md").exists()
    for name in ("id", "identity", "num_samples", "labels", "command"):
        assert json.loads(path.read_text())[name] == before[name]


def test_a_mended_set_is_as_large_as_its_blocks_are_many(tmp_path):
    large = set_of_three(tmp_path)
    small = SampleStore(tmp_path, identity=large.identity, num_samples=8)
    for damage in (Path.unlink, DAMAGE["null"]):
        damage(large.folder / "set.json")
        small.begin(**ABOUT)
        assert len(SampleStore.find(small.folder)) == 24


ABOUT = {"config": {}, "command": "ditexp run", "provenance": {"time": "2026-01-01T00:00:00"}}


def set_of_three(samples: Path) -> SampleStore:
    store = SampleStore(samples, identity={"block_size": 8, "image_shape": [2, 2, 1]}, num_samples=24)
    store.begin(**ABOUT)
    for block in range(3):
        write_block(store, block)
    return store


def write_block(store: SampleStore, block: int) -> None:
    images = np.full((8, 2, 2, 1), block, np.uint8)
    cost = Cost(images=8, velocity_rows=8, network_rows=8, seconds=1.0, peak_memory_mb=1.0)
    store.write(block, images, None, cost=cost, maker={"host": "here", "device": "a GPU"})


OF_MANIFESTS = {name: without(name) for name in ("sha256", "cost", "maker", "written")}
OF_MANIFESTS["without a cost"] = without("cost", "seconds")


@pytest.mark.parametrize("damage", DAMAGE | OF_MANIFESTS)
def test_a_block_of_a_damaged_manifest_is_absent(damage, tmp_path):
    store = set_of_three(tmp_path)
    (DAMAGE | OF_MANIFESTS)[damage](store.block(1).manifest_path)
    assert store.missing() == [1] and len(list(store.manifests())) == 2
    write_block(store, 1)
    assert not store.missing() and store.cost(steps=None).nfe == 1


def test_a_block_under_the_name_of_another_is_absent(tmp_path):
    """Its file and its manifest are intact. A manifest of an earlier version does not record the block's number."""
    store = set_of_three(tmp_path)
    for path in (store.path(1), store.block(1).manifest_path):
        path.rename(str(path).replace("000001", "000002"))
    assert store.missing() == [1, 2]
    without("block")(store.block(0).manifest_path)
    assert store.missing() == [1, 2]


@pytest.mark.parametrize("damage", [replace_with_folder, replace_with_pipe, cut])
def test_a_block_that_is_no_file_is_absent(damage, tmp_path):
    store = set_of_three(tmp_path)
    damage(store.path(1))
    assert store.missing() == [1]
    store.drop(1)
    write_block(store, 1)
    assert not store.missing()


@pytest.mark.parametrize("text", [bytes(40), b"someone", b"a~b", b"host~1~x~1", b"~~~", b"\xff~1~2~3\n", b"9" * 10**7])
def test_a_damaged_claim_holds_nothing(text, tmp_path, caplog):
    (tmp_path / "000001.claim").write_bytes(text)
    with Claims(tmp_path) as claims:
        assert claims.take("000001") and claims.owner("000001") == claims.me
    assert any("000001.claim is damaged" in line for line in caplog.messages)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [replace_with_folder, replace_with_pipe])
def test_what_is_no_file_holds_no_claim(damage, tmp_path):
    path = tmp_path / "000001.claim"
    path.touch()
    damage(path)
    Claims(tmp_path).remove_void()
    with Claims(tmp_path) as claims:
        assert claims.take("000001")


def test_a_link_to_nothing_holds_no_claim(tmp_path):
    (tmp_path / "000001.claim").symlink_to(tmp_path / "nothing")
    with Claims(tmp_path) as claims:
        assert claims.take("000001")


FILM = ("task=interpolate", "task.frames=4", "metric=[]")


@pytest.fixture(scope="module")
def original_film(tmp_path_factory) -> Path:
    outputs = tmp_path_factory.mktemp("damage") / "outputs"
    run(outputs, *FILM)
    return outputs


PICTURES = {name: DAMAGE[name] for name in ("empty", "cut", "NUL bytes", "a folder", "a pipe")}
PICTURES["missing"] = Path.unlink
PICTURES["of text"] = lambda path: path.write_text("no picture")
PICTURES["of another format"] = lambda path: Image.new("RGB", (9, 9)).save(path, "ppm")
PICTURES["with a flipped bit"] = lambda path: flip_a_bit(path)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", PICTURES)
def test_a_damaged_picture_is_none(damage, original, original_film, tmp_path):
    for path in (only(original / "results", "*[!y].png"), only(original_film / "results", "*.gif")):
        path = Path(shutil.copy(path, tmp_path))
        assert is_picture(path)
        PICTURES[damage](path)
        assert not is_picture(path) or (damage, path.suffix) == ("with a flipped bit", ".gif")  # it has no checksum


def test_damaged_pictures_are_drawn_again(outputs):
    result = run(outputs)
    paths = [Path(result[kind]) for kind in ("grid", "trajectory_picture")]
    before = [path.read_bytes() for path in paths]
    paths[0].unlink()
    replace_with_folder(paths[1])
    assert run(outputs)["cached"] is True and [path.read_bytes() for path in paths] == before


def test_a_missing_film_is_drawn_again(original_film, tmp_path):
    outputs = Path(shutil.copytree(original_film, tmp_path / "outputs"))
    path = only(outputs / "results", "*.gif")
    before = path.read_bytes()
    path.unlink()
    assert run(outputs, *FILM)["cached"] is True and path.read_bytes() == before


def test_a_picture_whose_samples_were_deleted_is_left_out(outputs, tmp_path, caplog):
    grid = only(outputs / "results", "*[!y].png")
    cut(grid)
    shutil.rmtree(only(outputs / "samples", "*"))
    result = run(outputs)
    assert result["cached"] is True
    said = [line for line in caplog.messages if str(grid) in line]
    assert len(said) == 1 and "were deleted: it is left out" in said[0]
    report = write_report(results_of([result]), tmp_path / "report", title="x")
    assert report.paths["samples.png"] is None and "data:image" in report.paths["report.html"].read_text()


@pytest.mark.parametrize("damage", PICTURES)
def test_a_damaged_picture_is_left_out_of_a_report(damage, original, tmp_path, caplog):
    (result,) = read_results_of(original)
    whole, path = tmp_path / "whole.png", Path(shutil.copy(result["grid"], tmp_path))
    PICTURES[damage](path)
    Image.new("RGB", (40, 40)).save(whole)
    cells = [result | {"id": name, "grid": str(grid)} for name, grid in (("a", path), ("b", whole))]
    cells[1]["settings"] = result["settings"] | {"steps": 9}
    table = table_of(cells)
    assert side_by_side(table) and list(embed([path, whole])) == [whole]
    if damage not in ("missing", "a folder", "a pipe"):  # which are absent
        assert any(f"{path} is damaged" in line for line in caplog.messages)


def read_results_of(outputs: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in (outputs / "results").glob("*.json")]


def test_a_picture_that_cannot_be_drawn_costs_no_number(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("ditexp.run.pictures.image_grid", lambda *_, **__: 1 / 0)
    result = run(tmp_path / "outputs", "metric=[]")
    assert result["status"] == "done" and Path(result["trajectory_picture"]).exists()
    assert any("was not drawn (ZeroDivisionError" in line for line in caplog.messages)


@pytest.mark.parametrize("damage", DAMAGE | OF_RESULTS)
def test_a_report_leaves_out_what_it_cannot_read(damage, original, tmp_path, caplog):
    runs = tmp_path / "runs" / "sweep"
    (result,) = read_results_of(original)
    for name in ("1", "2"):
        (runs / name).mkdir(parents=True)
        (runs / name / "cell.json").write_text(json.dumps(result | {"id": name, "study": "a"}))
    (DAMAGE | OF_RESULTS)[damage](runs / "1" / "cell.json")
    left = [result.id for result in read_results(runs)]
    if damage in ("of another id", "of another set"):  # a folder of runs cannot show that
        return
    assert left == ["2"] == [result.id for result in study_results(Outputs(tmp_path), "a")]
    assert any("1/cell.json is damaged" in line for line in caplog.messages)


def test_a_cell_whose_result_cannot_be_read_has_failed(tmp_path):
    cfg = composed("hydra.sweep.subdir=0")
    (tmp_path / "cell.json").write_text("null")
    result = saved_result({tmp_path: cfg}, tmp_path)
    assert result.status == "failed" and "cell.json is damaged" in result.error
    replace_with_folder(tmp_path / "cell.json")
    save_result(result, without_hydra(cfg), tmp_path)
    assert saved_result({tmp_path: cfg}, tmp_path) == result


def test_a_folder_of_another_set_is_moved_aside(outputs, caplog):
    """Its blocks are intact, but of other images."""
    ours = only(outputs / "samples", "*")
    samples = files_of(ours)
    shutil.rmtree(ours)
    other = set_of_three(outputs / "samples")
    other.folder.rename(ours)
    only(outputs / "results", "*.json").unlink()
    assert run(outputs)["cached"] is False and files_of(ours) == samples
    (aside,) = outputs.glob("samples/*.aside-*")
    assert len(files_of(aside)) == 3 and any(f"{aside.name} now" in line for line in caplog.messages)


def test_what_a_value_lacks_is_said():
    shape = {"a": int, "b": [{"c": (int, str)}], "d": {...: str}}
    assert not misfit({"a": 1, "d": {}}, shape) and not misfit({"a": 1, "b": {"c": "x"}, "d": {"e": "f"}}, shape)
    assert misfit({"a": 1}, shape) == "d is missing" and misfit([], shape) == "it is no object"
    assert misfit({"a": "1", "d": {}}, shape) == "a is not of type int"
    assert misfit({"a": 1, "b": {"c": []}, "d": {}}, shape).startswith("c is not of type ")
    assert misfit({"a": 1, "d": {"x\n" * 50: 1}}, shape).isprintable()
