"""Runs the notebook docs/tour.ipynb and keeps its outputs: python -m docs.run_tour, after a change of what it shows."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOUR = Path(__file__).parent / "tour.ipynb"


def executed() -> nbformat.NotebookNode:
    """The notebook with new outputs, without what is written to stderr; it runs in a folder that is removed again."""
    notebook = nbformat.read(TOUR, as_version=4)
    os.environ["PYTHONPATH"] = str(TOUR.parents[1])  # the kernel imports this checkout
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata = {}  # times of execution
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(), TOUR)
