"""ditexp from Python: the same numbers, pixels, ids and messages as the commands'."""

from __future__ import annotations

import inspect
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton

import ditexp as package
from ditexp.api.overrides import override
from ditexp.cli.overrides import parse
from ditexp.samples.store import SampleStore
from tests.helpers.paths import CONF, WEIGHTS
from tests.helpers.refusals import refused
from tests.helpers.results import cell, failed, leave

SMALL = (
    "num_samples=20",
    "resamples=0",
    "batch_size=8",
    "metric=[]",
    "feature=none",
    "reference=none",
    "devices=cpu:1",
)
GUIDED = ("solver=heun", "steps=5", "guidance=cfg", "guidance.scale=1.5", "seed=3")


@pytest.fixture(scope="module")
def digits():
    return package.load("digits")


def set_of(outputs: Path) -> SampleStore:
    (folder,) = (outputs / "samples").iterdir()
    return SampleStore.open(folder, num_samples=20)


def assert_same(samples, store: SampleStore) -> None:
    assert np.array_equal(samples.images, np.concatenate(list(store.blocks()))[:20])
    assert np.array_equal(samples.labels, store.labels())


@pytest.mark.slow
def test_pixels_and_ids_are_the_commands(digits, ditexp, tmp_path):
    """Also in a last batch that holds more than was asked for, and with Hydra's state of somebody else around."""
    command = ditexp(*GUIDED, *SMALL)
    assert command.code == 0, command.output
    settings = {"solver": "heun", "steps": 5, "guidance": 1.5, "seed": 3, "batch_size": 8, "device": "cpu"}
    samples = package.sample(digits, 20, **settings)
    assert_same(samples, set_of(tmp_path / "outputs"))
    assert (samples.cost.steps, samples.cost.nfe, samples.cost.forwards) == (5, 10, 20)
    experiment = package.compose([*GUIDED, *SMALL, f"outputs={tmp_path / 'outputs'}"])
    (path,) = (tmp_path / "outputs" / "results").glob("*.json")
    written = json.loads(path.read_text())
    assert (experiment.id, experiment.sample_id) == (written["id"], written["sample_id"])
    result = experiment.run()
    assert result.cached and result.settings == written["settings"]
    assert not list((tmp_path / "outputs" / "reports").glob("*/api*"))
    (row,) = package.results(tmp_path / "outputs").to_dict("records")
    assert (row["id"], row["solver"], row["guidance.scale"], row["nfe"]) == (experiment.id, "heun", 1.5, 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "settings"),
    [
        (("solver=dopri5", "solver.rtol=0.01"), {"solver": {"name": "dopri5", "rtol": 0.01}}),
        (
            ("solver=euler_maruyama", "steps=6", "schedule=cosine"),
            {"solver": "euler_maruyama", "steps": 6, "schedule": "cosine"},
        ),
        (
            ("steps=3", "condition.classes=[3,8]", "rounding=truncate"),
            {"steps": 3, "labels": [3, 8], "rounding": "truncate"},
        ),
        (("steps=6", "cache=fora", "cache.interval=2"), {"steps": 6, "cache": {"name": "fora", "interval": 2}}),
    ],
)
def test_pixels_are_the_commands_with_other_settings(overrides, settings, digits, ditexp, tmp_path):
    command = ditexp(*overrides, *SMALL)
    assert command.code == 0, command.output
    assert_same(package.sample(digits, 20, batch_size=8, **settings), set_of(tmp_path / "outputs"))


@pytest.mark.slow
def test_an_experiment_samples_and_scores(tmp_path):
    overrides = ["steps=2", "num_samples=16", "batch_size=16", "devices=cpu:1", f"outputs={tmp_path}"]
    result = package.compose(overrides).run()
    assert result.is_done and not result.cached and result.metrics["fid"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"samples", "results", "cache"}
    again = package.compose(overrides)
    assert again.result() == result.__class__.from_json(
        json.loads((tmp_path / f"results/{result.id}.json").read_text())
    )


def test_samples_are_shown_and_saved(digits, tmp_path):
    samples = package.sample(digits, 12, steps=1, labels=7, device="cpu")
    assert samples.images.shape == (12, 8, 8, 1) and samples.images.dtype == np.uint8 and set(samples.labels) == {7}
    assert samples._repr_png_().startswith(b"\x89PNG") and samples.grid(columns=4).size[0] < samples.grid().size[0]
    assert repr(samples).startswith("<12 images of 8 x 8 x 1, 1 network evaluations")
    samples.save(tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as saved:
        assert np.array_equal(saved["arr_0"], samples.images) and np.array_equal(saved["arr_1"], samples.labels)
    samples.save(tmp_path / "pngs")
    assert len(list((tmp_path / "pngs").glob("*.png"))) == 12


def test_scores_are_the_commands(tmp_path, in_process):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    np.savez("x.npz", arr_0=images)
    settings = ("feature=digits", "metric=[fid,kid]", "resamples=4")
    assert not in_process("images=x.npz", "reference=digits", *settings, command="evaluate").code
    (path,) = Path("outputs/results").glob("evaluate-*.json")
    written = json.loads(path.read_text())
    given = {"feature": "digits", "metrics": ["fid", "kid"], "resamples": 4}
    found = package.evaluate("x.npz", "digits", **given)
    assert (found.id, found.metrics) == (written["id"], written["metrics"])
    assert found.deviations["fid"].sd == pytest.approx(np.std(written["deviations"]["fid"]["halves"], ddof=1))
    in_memory = package.evaluate(images, {"name": "npz", "path": "x.npz"}, **given | {"metrics": ["fid"]})
    assert in_memory.metrics["fid"] == pytest.approx(0, abs=1e-4)
    with refused(["images in memory are 4 x 8 x 8 of float64: give N x H x W x C of uint8"]):
        package.evaluate(np.zeros((4, 8, 8)), images, **given)
    assert inspect.signature(package.evaluate).parameters["protocol"].default == "adm"


def test_results_of_a_sweep_and_of_a_study(tmp_path):
    leave([cell(id="a"), failed(id="b")], tmp_path / "runs" / "sweep")
    leave([cell(id="c", study="other")], tmp_path / "runs" / "other")
    assert list(package.results(tmp_path / "runs" / "sweep").id) == ["a", "b"]
    assert list(package.results(tmp_path, study="other").id) == ["c"]
    with refused(["neither cell.json nor"]):
        package.results(tmp_path)


def test_composing_leaves_hydra_as_it_was():
    overrides = ["solver=heun", "steps=3", *SMALL]
    before = package.compose(overrides).id
    with initialize_config_dir(version_base="1.2", config_dir=str(CONF / "solver"), job_name="theirs"):
        theirs, config = GlobalHydra.instance(), HydraConfig.instance()
        kept, hydra = config.cfg, theirs.hydra
        assert package.compose(overrides).id == before
        with refused(["unknown solver 'hun'"]):
            package.compose(["solver=hun"])
        assert GlobalHydra.instance() is theirs and theirs.hydra is hydra and HydraConfig.instance().cfg is kept
    assert not GlobalHydra.instance().is_initialized()
    ids, singletons = [], Singleton._instances
    threads = [threading.Thread(target=lambda: ids.append(package.compose(overrides).id)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids == [before] * 2 and Singleton._instances is singletons


@pytest.mark.slow
def test_a_folder_of_ones_own_configurations_counts(tmp_path):
    (tmp_path / "solver").mkdir()
    (tmp_path / "solver" / "mine.yaml").write_text("_target_: ditexp.solver.midpoint.Midpoint\n")
    mine = package.compose(["solver=mine", *SMALL], config_dir=tmp_path)
    assert mine.sample_id == package.compose(["solver=midpoint", *SMALL]).sample_id
    assert f"--config-dir {tmp_path}" in mine.command


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: package.load("digts"), "unknown model 'digts'; did you mean model=digits?"),
        (lambda model: package.load("digits", wieghts="ema"), "did you mean model.weights?"),
        (lambda model: package.sample(model, 0), "num_samples=0: give a whole number of at least 1"),
        (lambda model: package.sample(model, 4, solver={"rtol": 1}), "give a name, or a dictionary with one"),
        (lambda model: package.sample(model, 4, guidance={"name": "cfg", "scal": 2}), "did you mean guidance.scale?"),
        (lambda model: package.sample(model, 4, labels=12), "labels of this model run from 0 to 9"),
        (lambda model: package.sample(model, 4, labels=1, prompts="a one"), "labels and prompts are both given"),
        (lambda model: package.sample(model, 4, device="tpu"), "device=tpu: choose cpu, cuda or cuda:1"),
        (lambda model: package.evaluate("none.npz", "digits"), "images=none.npz does not exist"),
        (lambda model: package.compose("steps=2"), "give a list of overrides"),
        (lambda model: package.compose(["steps=2,3"]), "add -m to sweep over these values"),
        (lambda model: package.compose(["experiment=digits_solvers"]), "this is a sweep over"),
    ],
)
def test_a_mistake_is_a_value_error_with_the_commands_line(call, message, digits):
    with pytest.raises(ValueError) as raised:
        call(digits)
    (line,) = str(raised.value).splitlines()
    assert message in line


@pytest.mark.parametrize(
    "value",
    [None, True, 3, -0.5, 1e-5, np.int64(4), np.float32(0.5), "heun", "1e3", "a b", "it's [x], ${y}", "null", "", "~/x"]
    + [[1, "2"], (0.2, 0.8), {"a": [1]}, {0: "a zero", 1: ["b", "c"]}, np.array([3, 8])],
)
def test_a_value_arrives_as_it_was_given(value):
    expected = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    expected = list(expected) if isinstance(expected, tuple) else expected
    found = parse(override("key", value)).value()
    assert found == expected and type(found) is type(expected)


def test_the_package_names_what_it_offers():
    assert {"load", "sample", "evaluate", "results", "compose"} <= set(dir(package)) & set(package.__all__)
    assert package.load(WEIGHTS / "digits_dit.safetensors").num_classes == 10
    with pytest.raises(AttributeError, match="ditexp has no sampel: it has"):
        package.sampel  # noqa: B018
