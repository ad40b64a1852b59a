"""The wheel works by itself: installed into an environment of its own, away from the checkout, without a network."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

OFFLINE = {**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": ""}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not importlib.util.find_spec("hatchling"), reason="hatchling builds the wheel: install the dev extra"
    ),
]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=OFFLINE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder, before = tmp_path_factory.mktemp("wheel"), set(os.listdir(ROOT))
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", folder, ROOT, cwd=folder)
    assert set(os.listdir(ROOT)) == before  # no build, dist or egg-info in the checkout
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A virtual environment that holds the wheel, and of everything else what the tests' own one has."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-deps")
    run(*pip, wheel, cwd=folder)
    return folder


def files(folder: str) -> set[str]:
    return {str(file.relative_to(ROOT)) for file in (ROOT / folder).rglob("*") if file.is_file()}


def test_it_holds_everything_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    code = {file for file in files("ditexp") if "__pycache__" not in file}
    assert {"ditexp/_plugins/hydra_plugins/ditexp_launchers.py", "ditexp/weights/digits_dit.safetensors"} <= code
    assert found == code | {f"ditexp/{file}" for file in files("conf") | files("experiments")}


def test_it_runs_far_from_the_checkout(environment, tmp_path):
    python = environment / "bin" / "python"
    sweep = ("-m", "solver=euler,heun", "steps=2", "num_samples=32", "batch_size=32", "tracker=none")
    run(python, "-m", "ditexp.run", *sweep, cwd=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["outputs"]
    assert len(list((tmp_path / "outputs" / "samples").rglob("*.npy.gz"))) == 2
    (table,) = (tmp_path / "outputs" / "reports").rglob("table.csv")
    assert sorted(row["solver"] for row in csv.DictReader(table.open())) == ["euler", "heun"]


def test_its_command_is_the_installed_one(environment, tmp_path):
    shown = run(environment / "bin" / "ditexp", "--help", cwd=tmp_path)
    assert "run        sample and score" in shown
    code = "from ditexp.cli.packaged import packaged; print(packaged('conf'))"
    where = run(environment / "bin" / "python", "-c", code, cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment)
