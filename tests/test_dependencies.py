"""A Python that lacks a dependency: one line, without a traceback."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ditexp import dependencies
from tests.helpers.paths import ROOT

NEEDED = re.compile(
    r"ditexp: diffusers, huggingface-hub, hydra-core, .*torchdiffeq, tqdm are not installed in this Python \(.+\): "
    r"activate ditexp's environment, `\. \.venv/bin/activate` \(`make test` sets it up\), or pip install .*\n"
)


def test_every_dependency_is_looked_for():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.match(r"[\w-]+", line)[0] for line in declared} - {"wandb"} == set(dependencies.MODULES)


def bare_python(*arguments: str | Path) -> subprocess.CompletedProcess:
    """This Python without any package, as a system's own has none."""
    return subprocess.run([sys.executable, "-S", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("command", ["run", "evaluate", "train", "optimize", "report", "reference", "samples"])
def test_a_command_says_what_is_missing_in_one_line(command):
    ended = bare_python("-m", f"ditexp.{command}", "--help")
    assert ended.returncode == 2 and not ended.stdout
    assert NEEDED.fullmatch(ended.stderr), ended.stderr


def test_the_installed_script_says_it_too(tmp_path):
    script = tmp_path / "ditexp"
    script.write_text(f"import sys; sys.path.append({str(ROOT)!r}); from ditexp.__main__ import main")
    ended = bare_python(script)
    assert ended.returncode == 2 and NEEDED.fullmatch(ended.stderr), ended.stderr


def test_an_import_raises_it():
    ended = bare_python("-c", "import ditexp")
    assert (
        ended.returncode == 1
        and "ImportError: diffusers, huggingface-hub, hydra-core, " in ended.stderr.splitlines()[-1]
    )


def test_one_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"^torch is not installed in this Python"):
        dependencies.require_dependencies()
