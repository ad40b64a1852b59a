import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ditexp.evaluate import __main__ as evaluate
from ditexp.evaluate.units import units_of
from ditexp.feature.digits import DigitsFeature
from ditexp.images.digits import DigitsImages
from ditexp.reference import __main__ as reference
from ditexp.samples.store import SampleStore
from ditexp.values import Cost
from tests.helpers.paths import ROOT

DIGITS = np.concatenate(list(DigitsImages().blocks()))


@pytest.fixture
def ditexp(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder: its exit code, stdout and stderr. By default on digits, without deviations."""
    monkeypatch.chdir(tmp_path)

    def run(command, *arguments):
        given = {argument.partition("=")[0] for argument in arguments}
        usual = [f"{group}=digits" for group in ("feature", "reference") if group not in given]
        if command is evaluate and "resamples" not in given:
            usual.append("resamples=0")
        monkeypatch.setattr(sys, "argv", ["ditexp", *usual, *arguments])
        try:
            command.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def scores(outputs="outputs") -> dict:
    [file] = Path(outputs, "results").glob("evaluate-*.json")
    return json.loads(file.read_text())


def test_an_npz_is_scored_against_the_digits(ditexp):
    np.savez("x.npz", DIGITS[:400])
    code, out, _ = ditexp(evaluate, "images=x.npz")
    result = scores()
    assert code == 0
    assert set(result["metrics"]) == {"fid", "inception_score", "precision", "recall"}  # one part has no deviation
    assert result["metrics"]["precision"] == 1
    assert all(f"{value:.6g}" in out for value in result["metrics"].values())
    protocol = result["protocol"]
    assert (protocol["images"]["count"], protocol["reference"]["count"]) == (400, 1797)
    assert protocol["feature"] == {"name": "digits", **DigitsFeature().identity}
    assert (protocol["protocol"], protocol["changed"], protocol["beyond"]) == ("adm", [], [])
    assert protocol["metrics"]["inception_score"]["split_size"] == 5000
    assert protocol["metrics"]["precision_recall"]["k"] == 3


def test_a_folder_scores_as_the_npz_of_its_images(ditexp):
    Path("images").mkdir()
    for index, image in enumerate(DIGITS[:60]):
        Image.fromarray(image[..., 0]).save(f"images/{index:03d}.png")
    np.savez("x.npz", DIGITS[:60])
    for images, results in [("images", "a"), ("x.npz", "b")]:
        assert ditexp(evaluate, f"images={images}", f"outputs={results}")[0] == 0
    assert scores("a")["metrics"] == scores("b")["metrics"]
    assert scores("a")["id"] != scores("b")["id"]


def sample_set(task: dict, count: int = 256) -> SampleStore:
    """A set of digits in this folder's outputs, as if the task had made them."""
    store = SampleStore(
        Path("outputs/samples"), identity={"block_size": 256, "image_shape": [8, 8, 1]}, num_samples=count
    )
    store.begin(config={"task": task})
    store.write(0, DIGITS[:256], np.arange(256) % 10, cost=Cost(), maker={})
    return store


def units_of_scores() -> set[int]:
    return {found["units"] for found in scores()["deviations"].values()}


def test_samples_of_a_set_that_belong_together_are_drawn_together(ditexp):
    """The task that made the set knows which."""
    paths = sample_set({"_target_": "ditexp.task.interpolate.Interpolate", "frames": 11})
    assert ditexp(evaluate, f"images={paths.id}", "resamples=4")[0] == 0
    assert units_of_scores() == {24} and "fid" in scores()["deviations"]


def test_a_set_whose_task_is_gone_has_no_deviations(ditexp):
    gone = {"_target_": "ditexp.data.ImageFolder", "path": "gone", "size": 8}
    store = sample_set({"_target_": "ditexp.task.inpaint.Inpaint", "data": gone})
    code, _, err = ditexp(evaluate, f"images={store.id}", "resamples=4")
    assert code == 0 and scores()["deviations"] == {} and "fid" in scores()["metrics"]
    assert "which samples belong together is unknown (data.path=gone is not a folder" in err


WRITE = {"_target_": "pathlib.Path.write_text", "_args_": [{"_target_": "pathlib.Path", "_args_": ["ran"]}, "x"]}


@pytest.mark.parametrize(
    "task",
    [
        WRITE,
        {
            "_target_": "ditexp.data.Path.write_text",
            "_args_": [{"_target_": "ditexp.data.Path", "_args_": ["ran"]}, "x"],
        },
        {"_target_": "ditexp.task.generate.Generate", "more": [WRITE]},
        {"_target_": "ditexp.task.inpaint.Inpaint", "data": {"_target_": "ditexp.data.ImageFolder", "path": WRITE}},
        {"_target_": "ditexp.task.generate.Generate", "more": f"${{oc.create:{WRITE}}}"},
        {"_target_": "${kind}", "kind": "pathlib.Path"},
        {"_target_": "ran.Task"},
        {"_target_": "ditexp.cli.components.instantiate", "node": WRITE},
    ],
)
def test_a_strangers_set_builds_nothing_but_ditexps_own_tasks(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ran.py").write_text("open('ran', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="none of ditexp's own"):
        units_of(sample_set(task), 8)
    assert not Path("ran").exists()


def test_num_samples_takes_the_first(ditexp):
    np.savez("x.npz", DIGITS[:300])
    np.savez("y.npz", DIGITS[:200])
    assert ditexp(evaluate, "images=x.npz", "num_samples=200", "outputs=a")[0] == 0
    assert ditexp(evaluate, "images=y.npz", "outputs=b")[0] == 0
    assert scores("a")["metrics"] == scores("b")["metrics"]


def test_constant_images_have_exact_scores(ditexp):
    """They have no spread: every covariance and every radius is 0."""
    np.savez("x.npz", np.repeat(DIGITS[:1], 40, axis=0))
    metrics = "metric=[fid,kid,inception_score,precision_recall,density_coverage]"
    assert ditexp(evaluate, "images=x.npz", "reference=npz", "reference.path=x.npz", metrics, "outputs=a")[0] == 0
    same = scores("a")
    exact = {"fid": 0, "kid": 0, "inception_score": 1, "precision": 1, "recall": 1, "density": 0, "coverage": 0}
    assert same["metrics"] == pytest.approx(exact, abs=1e-9)
    assert same["protocol"]["beyond"] == ["kid", "density_coverage"]
    assert ditexp(evaluate, "images=x.npz", metrics, "outputs=b")[0] == 0
    # Balls of radius 0 hold their own image alone, which is one of the reference's.
    assert scores("b")["metrics"]["recall"] == 1 / 1797 and scores("b")["metrics"]["fid"] > 1


@pytest.mark.slow
def test_few_images_are_scored_with_a_notice_of_the_bias(tmp_path):
    """There are fewer images than features."""
    np.savez(tmp_path / "x.npz", DIGITS[:50])
    command = [sys.executable, "-m", "ditexp.evaluate", "images=x.npz", "feature=digits", "reference=digits"]
    environment = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DITEXP_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "fid of 50 images with 64 features is biased upward" in done.stderr


def test_a_setting_that_departs_from_the_protocol_is_recorded(ditexp):
    np.savez("x.npz", DIGITS[:100])
    _, out, _ = ditexp(evaluate, "images=x.npz", "metric.precision_recall.k=5", "protocol=pytorch_fid")
    assert scores()["protocol"]["changed"] == ["metric.precision_recall.k=5"]
    assert "protocol pytorch_fid, metric.precision_recall.k=5, features digits" in out
    assert "pytorch_fid's evaluator has no inception_score, precision_recall" in out


def test_inception_score_alone_needs_no_reference(ditexp):
    np.savez("x.npz", DIGITS[:100])
    arguments = ["reference=none", "metric=[inception_score]"]
    code, _, complaint = ditexp(evaluate, "images=x.npz", *arguments)
    assert (code, complaint) == (0, "")
    assert "inception_score" in scores()["metrics"]
    assert scores()["protocol"]["reference"] is None


def test_a_notice_says_that_the_order_of_images_changes_the_inception_score(ditexp):
    from sklearn.datasets import load_digits

    np.savez("x.npz", DIGITS[load_digits().target.argsort(kind="stable")])
    arguments = ["images=x.npz", "reference=none", "metric=[inception_score]", "resamples=0"]
    whole = ["metric.inception_score.splits=1", "metric.inception_score.split_size=null"]
    code, _, complaint = ditexp(evaluate, *arguments, "metric.inception_score.split_size=900", "outputs=parts")
    assert code == 0 and " ".join(whole) in complaint
    assert ditexp(evaluate, *arguments, *whole, "outputs=whole")[2] == ""
    parts, at_once = (scores(outputs)["metrics"]["inception_score"] for outputs in ("parts", "whole"))
    assert parts < 0.6 * at_once and f"of all images at once it is {at_once:.6g}" in complaint


def test_a_notice_says_that_the_first_images_are_from_some_class_folders_only(ditexp):
    for name in "abc":
        Path("images", name).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(DIGITS[index, :, :, 0]).save(f"images/{name}/{index}.png")
    arguments = ["images=images", "reference=none", "metric=[inception_score]", "resamples=0", "outputs=a"]
    assert "folders" not in ditexp(evaluate, *arguments)[2]
    assert "the first 6 images of images lie in 2 of its 3 folders" in ditexp(evaluate, *arguments, "num_samples=6")[2]


def test_a_prepared_reference_gives_the_same_numbers(ditexp):
    np.savez("x.npz", DIGITS[:200])
    assert ditexp(reference, "reference=digits", "out=digits.safetensors")[0] == 0
    arguments = ["reference=statistics", "reference.path=digits.safetensors"]
    assert ditexp(evaluate, "images=x.npz", "outputs=a")[0] == 0
    assert ditexp(evaluate, "images=x.npz", *arguments, "outputs=b")[0] == 0
    assert scores("a")["metrics"] == pytest.approx(scores("b")["metrics"], rel=1e-9)
    images, prepared = (scores(outputs)["protocol"] for outputs in "ab")
    assert prepared["reference"].pop("statistics")  # what else is in the file
    assert images == prepared


def test_a_prepared_reference_has_a_name_of_its_own(ditexp):
    for count in (50, 60):
        np.savez("x.npz", DIGITS[:count])
        code, out, _ = ditexp(reference, "reference=npz", "reference.path=x.npz")
        assert code == 0 and f"{count} images" in out
    assert len(list(Path("outputs/cache/references").glob("x.npz-digits-*.safetensors"))) == 2


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (evaluate, ["images=no.npz"], ["no.npz", "does not exist"]),
        (evaluate, ["images=no"], ["images=no does not exist", "folder", "id of a sample set"]),
        (evaluate, ["images=12345e67"], ["images=1.2345e+71 is not text", "quotes"]),
        (evaluate, ["images=elsewhere/0123456789abcdef"], ["images=elsewhere/0123456789abcdef does not exist"]),
        (evaluate, [], ["images"]),
        (evaluate, ["images=x.npz", "image=x.npz"], ["'image'", "images"]),
        (evaluate, ["images=x.npz", "metric=[fdi]"], ["unknown metric 'fdi'", "did you mean metric=fid"]),
        (evaluate, ["images=x.npz", "feature=inceptoin"], ["feature", "inceptoin", "inception"]),
        (evaluate, ["images=x.npz", "reference=none"], ["fid", "reference=digits"]),
        (evaluate, ["images=x.npz", "feature=none"], ["fid, inception_score, precision_recall", "feature=inception"]),
        (evaluate, ["images=x.npz", "num_samples=1", "metric=[fid]"], ["fid needs 2 images", "got 1"]),
        (evaluate, ["images=float.npz"], ["float64 (the first images range from 0 to 1)", "not uint8"]),
        (evaluate, ["images=x.npz", "reference=folder"], ["reference.path"]),
        (evaluate, ["images=x.npz", "reference=???"], ["reference", "npz"]),
        (evaluate, ["images=x.npz", "protocol=amd"], ["protocol 'amd'", "did you mean protocol=adm"]),
        (evaluate, ["images=x.npz", "metric=[sfid]"], ["sfid", "spatial", "feature=digits", "feature=inception"]),
        (evaluate, ["images=x.npz", "reference=npz", "reference.path=large.npz"], ["9 x 8 x 1", "8 x 8 x 1"]),
        (
            evaluate,
            ["images=x.npz", "reference=npz", "reference.path=mu.npz", "metric=[precision_recall]"],
            ["precision_recall", "mu.npz holds only statistics"],
        ),
        (
            evaluate,
            ["images=x.npz", "reference=npz", "reference.path=mu.npz", "metric=[fid]"],
            ["mu.npz", "statistics of 4 pool", "digits gives 64"],
        ),
        (evaluate, ["images=x.npz", "num_samples=31"], ["31", "1 to 30"]),
        (evaluate, ["images=x.npz", "num_samples=3", "metric=[precision_recall]"], ["k=3", "got 3"]),
        (evaluate, ["images=x.npz", "protocol=torch_fidelity", "num_samples=9"], ["splits=10", "got 9"]),
        (evaluate, ["images=rgb.npz"], ["rgb.npz", "3 channel", "needs 1", "feature=inception"]),
        (
            evaluate,
            ["images=x.npz", "feature=inception", "reference=none", "metric=[inception_score]"],
            ["x.npz", "1 channel", "needs 3", "feature=digits"],
        ),
        (evaluate, ["images=x.npz", "feature.weights=no.safetensors"], ["feature.weights=no.safetensors"]),
        (reference, ["reference=none"], ["reference=digits, folder, npz, torchvision"]),
        (reference, ["out=x.npz"], ["out=x.npz", ".safetensors"]),
        (reference, ["reference=npz", "reference.path=no.npz"], ["no.npz", "does not exist"]),
    ],
)
def test_mistakes_are_reported_in_one_line(ditexp, command, arguments, words):
    np.savez("x.npz", DIGITS[:30])
    np.savez("rgb.npz", DIGITS[:30].repeat(3, axis=3))
    np.savez("large.npz", DIGITS[:30].repeat([2, 1, 1, 1, 1, 1, 1, 1], axis=1))
    np.savez("float.npz", DIGITS[:30] / 255)
    np.savez("mu.npz", mu=np.zeros(4), sigma=np.eye(4))
    code, _, complaint = ditexp(command, *arguments)
    assert code == 2 and complaint.count("\n") == 1, complaint
    assert all(word in complaint for word in words), complaint


@pytest.mark.slow
def test_the_commands_run_as_modules(tmp_path):
    """Without a terminal, from another folder, and with nothing on stderr."""
    command = [sys.executable, "-m", "ditexp.reference", "out=x.safetensors"]
    environment = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DITEXP_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1797 images: x.safetensors\n", "")


def test_statistics_alone_have_an_unknown_count(ditexp):
    np.savez("x.npz", DIGITS[:400])
    features = DigitsFeature()(torch.from_numpy(DIGITS).permute(0, 3, 1, 2))["pool"].double().numpy()
    np.savez("mu.npz", mu=features.mean(0), sigma=np.cov(features.T))
    statistics = ("reference=npz", "reference.path=mu.npz")
    code, out, _ = ditexp(evaluate, "images=x.npz", *statistics, "metric=[fid]", "resamples=0", "outputs=a")
    assert code == 0 and "against mu.npz (statistics, image count unknown)" in out
    assert ditexp(evaluate, "images=x.npz", "metric=[fid]", "resamples=0", "outputs=b")[0] == 0
    assert scores("a")["metrics"]["fid"] == pytest.approx(scores("b")["metrics"]["fid"], rel=1e-5)


def test_grey_images_for_a_colour_network_are_refused_with_a_remedy(ditexp):
    Path("grey").mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save("grey/a.jpg")
    colour = ("feature=inception", "reference=none", "metric=[inception_score]")
    code, _, complaint = ditexp(evaluate, "images=grey", *colour)
    assert code == 2 and "grey/a.jpg is of mode L, not RGB: convert it to RGB\n" in complaint
    np.savez("grey.npz", np.zeros((4, 9, 9, 1), np.uint8))
    code, _, complaint = ditexp(evaluate, "images=grey.npz", *colour)
    assert code == 2 and "feature=inception needs 3: give images with the grey channel three times" in complaint


def save_digits(folder: str, first: int, count: int = 64) -> None:
    """Files with the same names, sizes and dates, as tar with a fixed date extracts them, whatever `first` is."""
    Path(folder).mkdir(parents=True)
    for index in range(count):
        path = Path(folder, f"{index:05d}.bmp")
        Image.fromarray(DIGITS[first + index, ..., 0]).save(path)
        os.utime(path, (0, 0))


def fid(ditexp, images: str, *arguments: str) -> float:
    code, out, complaint = ditexp(evaluate, f"images={images}", "metric=[fid]", "resamples=0", *arguments)
    assert code == 0, complaint
    result = json.loads(Path(out.split()[-1]).read_text())
    assert result["protocol"]["images"]["count"] == 64
    return result["metrics"]["fid"]


def test_two_folders_of_the_same_names_sizes_and_dates(ditexp):
    save_digits("a", 0)
    save_digits("b", 1000)
    assert fid(ditexp, "a") == pytest.approx(22.9153, abs=1e-4)
    assert fid(ditexp, "b") == pytest.approx(29.0068, abs=1e-4)
    shutil.rmtree("a")
    save_digits("a", 1000)
    assert fid(ditexp, "a") == pytest.approx(29.0068, abs=1e-4)
    features = Path("outputs/cache/features")
    assert len(list(features.glob("*/*"))) == 3  # of the digits, of the first folder, and of both that are alike


def test_a_path_that_exists_is_not_taken_for_an_id(ditexp):
    """An edited export may have the name of its set."""
    store = SampleStore(Path("outputs/samples"), identity={"block_size": 64, "image_shape": [8, 8, 1]}, num_samples=64)
    store.begin()
    cost = Cost(images=64, velocity_rows=64, network_rows=64, seconds=1, peak_memory_mb=1)
    store.write(0, DIGITS[1000:1064], None, cost=cost, maker={})
    assert fid(ditexp, store.id) == fid(ditexp, f"outputs/samples/{store.id}") == pytest.approx(29.0068, abs=1e-4)
    save_digits(f"edited/{store.id}", 0)
    assert fid(ditexp, f"edited/{store.id}") == pytest.approx(22.9153, abs=1e-4)
    assert fid(ditexp, f"./edited/../edited/{store.id}/") == pytest.approx(22.9153, abs=1e-4)
    save_digits(store.id, 0)
    assert fid(ditexp, store.id) == pytest.approx(22.9153, abs=1e-4)


def test_a_set_of_another_machine_has_features_of_its_own(ditexp):
    """It has the same id, but its pixels may differ; and its folder may have any name."""
    identity, cost = {"block_size": 64, "image_shape": [8, 8, 1]}, Cost(images=64, velocity_rows=64, network_rows=64)
    for root, first in (("outputs/samples", 1000), ("theirs", 0)):
        store = SampleStore(Path(root), identity=identity, num_samples=64)
        store.begin()
        store.write(0, DIGITS[first : first + 64], None, cost=cost, maker={})
        assert fid(ditexp, f"{root}/{store.id}") == pytest.approx({0: 22.9153, 1000: 29.0068}[first], abs=1e-4)
    Path("theirs", store.id).rename("renamed")
    assert fid(ditexp, "renamed") == pytest.approx(22.9153, abs=1e-4)


def test_an_npz_by_another_name_and_a_folder_called_npz(ditexp):
    np.savez("x.npz", DIGITS[:64])
    Path("x.npz").rename("digits")
    save_digits("folder.npz", 0)
    assert fid(ditexp, "digits") == fid(ditexp, "folder.npz") == pytest.approx(22.9153, abs=1e-4)
