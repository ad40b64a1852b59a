"""The Makefile: its help, and the Python that it sets an environment up with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

MAKEFILE = ROOT / "Makefile"
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    shutil.copy(MAKEFILE, folder)
    # `make PYTHON=... test` would hand its own settings down.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_help_lists_every_target(tmp_path):
    targets = re.search(r"^\.PHONY: (.*)", MAKEFILE.read_text(), re.MULTILINE)[1].split()
    assert [line.split()[0] for line in make(tmp_path, "help").stdout.splitlines()] == targets


@pytest.mark.slow
def test_the_first_python_that_fits_is_taken(tmp_path):
    for name, code in (("shim", "exit 127"), ("old", "exit 1"), ("fits", f'exec {sys.executable} "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)
    ended = make(tmp_path, "PYTHONS=./missing ./shim ./old ./fits", ".venv/bin/python")
    version = sys.version.split()[0]
    assert ended.returncode == 0 and ended.stdout == f"Setting up .venv with Python {version}\n", ended.stderr
    assert make(tmp_path, "PYTHON=./fits", ".venv/bin/python").stdout.startswith("make: "), (
        "it is of that Python already"
    )


@pytest.mark.parametrize("given", ["PYTHONS=./missing", "PYTHON=./missing"])
def test_without_a_python_that_fits_two_lines_say_so(given, tmp_path):
    ended = make(tmp_path, given, "test")
    assert ended.returncode == 2 and not ended.stdout
    assert ended.stderr.startswith("ditexp needs Python 3.11 or later with venv and pip")
    assert "Tried: ./missing. To name another: make PYTHON=/path/to/python3.12 test\n" in ended.stderr
