"""The notebook docs/tour.ipynb and the page docs/python.md: what they show is what the code of today does."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import nbformat
import pytest

import ditexp
from docs.run_tour import TOUR, executed
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What each code cell prints and returns, without times."""
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            parts = [output.get("text") or output.data.get("text/plain", "") for output in cell.outputs]
            shown.append(re.sub(r"[\d.]+ s each", "... s each", "".join(parts)))
    return shown


def test_the_tour_has_outputs_and_is_small():
    notebook = nbformat.read(TOUR, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert all(texts(notebook)) and sum("image/png" in output.get("data", ()) for output in outputs) == 3
    assert TOUR.stat().st_size < 200_000 and str(ROOT) not in TOUR.read_text()


@pytest.mark.slow
def test_the_tour_shows_what_the_code_does(monkeypatch):
    """If only the code is right: python -m docs.run_tour."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert texts(executed()) == texts(nbformat.read(TOUR, as_version=4))


@pytest.mark.slow
def test_the_code_on_the_page_is_a_script(tmp_path):
    """One block after another, in one file that starts workers without a guard; `# = ...` says what a line gives."""
    blocks = "\n".join(BLOCKS)
    script = re.sub(r"^([^#\n]+?)  # = (.+)$", r'assert str((\1)) == """\2""", (\1)', blocks, flags=re.MULTILINE)
    (tmp_path / "page.py").write_text(script)
    command, environment = [sys.executable, "page.py"], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(BLOCKS) >= 5 and script.count("assert str") >= 4


def test_the_page_explains_every_function():
    assert all(f"ditexp.{name}(" in PAGE for name in ditexp.__all__ if name.islower())
