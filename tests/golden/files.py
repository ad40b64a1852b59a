"""Golden files: npz archives with outputs of original code, and `facts` about how they were made, in JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent


def write_golden(
    path: Path, repository: Path, facts: dict[str, Any], outputs: dict[str, Tensor], *, commit: str = ""
) -> None:
    """Write a golden file with the commit of the original and the command that is running.

    repository: the checkout of the original, or `commit` must say what it is.
    """
    if not commit:
        git = ["git", "-C", str(repository), "rev-parse", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    command = f"python -m {sys.modules['__main__'].__spec__.name} {' '.join(sys.argv[1:])}"
    command = command.replace(str(repository), f"/path/to/{repository.name}")
    made = {"commit": commit, "command": command, "torch": torch.__version__, "numpy": np.__version__}
    path.parent.mkdir(exist_ok=True)
    arrays = {key: value.numpy() for key, value in outputs.items()}
    np.savez_compressed(path, facts=np.array(json.dumps({**made, **facts})), **arrays)
    print(f"{path}: {path.stat().st_size / 1e3:.1f} kB")


def read_golden(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts, and the outputs by name."""
    with np.load(path) as file:
        outputs = {key: torch.from_numpy(file[key]) for key in file.files if key != "facts"}
        return json.loads(file["facts"].item()), outputs
