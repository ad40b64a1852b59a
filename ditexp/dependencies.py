"""Whether this Python has the packages that ditexp needs. Standard library only: this runs before any other import."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

# The import name of each dependency in pyproject.toml. Without wandb, tracker=wandb warns and the run goes on.
MODULES = {
    "diffusers": "diffusers",
    "huggingface-hub": "huggingface_hub",
    "hydra-core": "hydra",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "omegaconf": "omegaconf",
    "pandas": "pandas",
    "pillow": "PIL",
    "pyarrow": "pyarrow",
    "pytorch-fid": "pytorch_fid",
    "pyyaml": "yaml",
    "rich": "rich",
    "safetensors": "safetensors",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "torch": "torch",
    "torchdiffeq": "torchdiffeq",
    "tqdm": "tqdm",
}


def require_dependencies() -> None:
    """Name all missing packages in one line: a command ends with exit code 2, an import raises ImportError.

    The packages are only looked up, not imported, which takes less than a millisecond.
    """
    missing = [name for name, module in MODULES.items() if find_spec(module) is None]
    if not missing:
        return
    verb, remedy = ("are", "them") if missing[1:] else ("is", "it")
    message = (
        f"{', '.join(missing)} {verb} not installed in this Python ({sys.executable}): "
        f"activate ditexp's environment, `. .venv/bin/activate` (`make test` sets it up), or pip install {remedy}"
    )
    # While Python looks for the module of `python -m ditexp.run`, the program's name is -m.
    if sys.argv and os.path.basename(sys.argv[0]) in ("-m", "ditexp"):
        print(f"ditexp: {message}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(message)
