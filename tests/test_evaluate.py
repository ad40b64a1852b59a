import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditexp import evaluate, reference
from ditexp.feature.digits import DigitsFeature
from ditexp.images import DigitsImages

DIGITS = np.concatenate(list(DigitsImages().blocks()))


@pytest.fixture
def ditexp(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder and return its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(command, *arguments):
        monkeypatch.setattr(sys, "argv", ["ditexp", *arguments])
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
    assert set(result["metrics"]) == {"fid", "inception_score", "inception_score_std", "precision", "recall"}
    assert result["metrics"]["precision"] == 1
    assert all(f"{value:.4f}" in out for value in result["metrics"].values())
    protocol = result["protocol"]
    assert (protocol["images"]["count"], protocol["reference"]["count"]) == (400, 1797)
    assert protocol["feature"] == DigitsFeature().identity
    assert protocol["metrics"] == {"fid": {}, "inception_score": {"splits": 10}, "precision_recall": {"k": 3}}


def test_a_folder_scores_as_the_npz_of_its_images(ditexp):
    Path("images").mkdir()
    for index, image in enumerate(DIGITS[:60]):
        Image.fromarray(image[..., 0]).save(f"images/{index:03d}.png")
    np.savez("x.npz", DIGITS[:60])
    for images, results in [("images", "a"), ("x.npz", "b")]:
        assert ditexp(evaluate, f"images={images}", f"outputs={results}")[0] == 0
    assert scores("a")["metrics"] == scores("b")["metrics"]
    assert scores("a")["id"] != scores("b")["id"]


def test_num_samples_takes_the_first(ditexp):
    np.savez("x.npz", DIGITS[:300])
    np.savez("y.npz", DIGITS[:200])
    assert ditexp(evaluate, "images=x.npz", "num_samples=200", "outputs=a")[0] == 0
    assert ditexp(evaluate, "images=y.npz", "outputs=b")[0] == 0
    assert scores("a")["metrics"] == scores("b")["metrics"]


def test_inception_score_alone_needs_no_reference(ditexp):
    np.savez("x.npz", DIGITS[:100])
    arguments = ["reference=none", "metric=[inception_score]", "metric.inception_score.splits=1"]
    code, _, complaint = ditexp(evaluate, "images=x.npz", *arguments)
    assert (code, complaint) == (0, "")
    assert set(scores()["metrics"]) == {"inception_score", "inception_score_std"}
    assert scores()["protocol"]["reference"] is None


def test_a_prepared_reference_gives_the_same_numbers(ditexp):
    np.savez("x.npz", DIGITS[:200])
    assert ditexp(reference, "reference=digits", "out=digits.safetensors")[0] == 0
    arguments = ["reference=statistics", "reference.path=digits.safetensors"]
    assert ditexp(evaluate, "images=x.npz", "outputs=a")[0] == 0
    assert ditexp(evaluate, "images=x.npz", *arguments, "outputs=b")[0] == 0
    assert scores("a")["metrics"] == pytest.approx(scores("b")["metrics"], rel=1e-9)
    assert scores("a")["protocol"] == scores("b")["protocol"]


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
        (evaluate, ["images=no"], ["no", "not a folder"]),
        (evaluate, [], ["images"]),
        (evaluate, ["images=x.npz", "image=x.npz"], ["'image'", "images"]),
        (evaluate, ["images=x.npz", "metric=[fdi]"], ["metric/fdi"]),
        (evaluate, ["images=x.npz", "feature=inceptoin"], ["feature", "inceptoin", "inception"]),
        (evaluate, ["images=x.npz", "reference=none"], ["fid", "reference=digits"]),
        (evaluate, ["images=x.npz", "reference=folder"], ["reference.path"]),
        (evaluate, ["images=x.npz", "num_samples=31"], ["31", "1 to 30"]),
        (evaluate, ["images=x.npz", "num_samples=3", "metric=[precision_recall]"], ["k=3", "got 3"]),
        (evaluate, ["images=x.npz", "metric.inception_score.splits=31"], ["splits=31", "got 30"]),
        (evaluate, ["images=rgb.npz"], ["rgb.npz", "3 channel", "takes 1", "feature=inception"]),
        (
            evaluate,
            ["images=x.npz", "feature=inception", "reference=none", "metric=[inception_score]"],
            ["x.npz", "1 channel", "takes 3", "feature=digits"],
        ),
        (evaluate, ["images=x.npz", "feature.weights=no.safetensors"], ["feature.weights=no.safetensors"]),
        (reference, ["reference=none"], ["reference=digits, folder or npz"]),
        (reference, ["out=x.npz"], ["out=x.npz", ".safetensors"]),
        (reference, ["reference=npz", "reference.path=no.npz"], ["no.npz", "does not exist"]),
    ],
)
def test_mistakes_are_said_in_one_line(ditexp, command, arguments, words):
    np.savez("x.npz", DIGITS[:30])
    np.savez("rgb.npz", DIGITS[:30].repeat(3, axis=3))
    code, _, complaint = ditexp(command, *arguments)
    assert code == 2 and complaint.count("\n") == 1, complaint
    assert all(word in complaint for word in words), complaint


def test_the_commands_run_as_modules(tmp_path):
    """Without a terminal, from another folder, and with nothing on stderr."""
    command = [sys.executable, "-m", "ditexp.reference", "out=x.safetensors"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1797 images: x.safetensors\n", "")
