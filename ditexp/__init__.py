"""ditexp: what does each way of sampling a DiT / rectified-flow model cost, and what quality does it buy?

    model = ditexp.load("digits")
    ditexp.sample(model, 16, solver="heun", steps=20, guidance=1.5)

Importing this package loads no other: it only checks that they are installed. A function is loaded when it is first
used; docs/python.md explains them all.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from ditexp.dependencies import require_dependencies

if TYPE_CHECKING:
    from ditexp.api.evaluation import evaluate
    from ditexp.api.experiments import Experiment, compose
    from ditexp.api.models import Model, load
    from ditexp.api.results import results
    from ditexp.api.samples import Samples
    from ditexp.api.sampling import sample

require_dependencies()  # before any import that would fail

__version__ = "0.1.0"
__all__ = ["Experiment", "Model", "Samples", "compose", "evaluate", "load", "results", "sample"]

LOADED_FROM = {
    "Experiment": "experiments",
    "Model": "models",
    "Samples": "samples",
    "compose": "experiments",
    "evaluate": "evaluation",
    "load": "models",
    "results": "results",
    "sample": "sampling",
}


def __getattr__(name: str) -> object:
    if name not in LOADED_FROM:
        raise AttributeError(f"ditexp has no {name}: it has {', '.join(__all__)}")
    return vars(importlib.import_module(f"ditexp.api.{LOADED_FROM[name]}"))[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def bundled(name: str) -> str:
    """The path of weights that come with the package; ${bundled:...} in a configuration. Raises ValueError."""
    folder = Path(__file__).resolve().parent / "weights"
    known = sorted(path.name for path in folder.iterdir() if path.name != "README.md")
    if name not in known:
        raise ValueError(f"${{bundled:{name}}}: choose from {', '.join(known)}, or give a path without ${{bundled:}}")
    return str(folder / name)
