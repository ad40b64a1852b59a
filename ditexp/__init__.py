"""ditexp: what does each way of sampling a DiT / rectified-flow model cost, and what quality does it buy?"""

from pathlib import Path

from ditexp.cli.dependencies import require_dependencies

require_dependencies()  # before the imports that would fail

from omegaconf import OmegaConf  # noqa: E402

__version__ = "0.1.0"


def bundled(name: str) -> str:
    """The path of weights that come with the package. Raises ValueError for what is no name of some."""
    folder = Path(__file__).resolve().parent / "weights"
    known = sorted(path.name for path in folder.iterdir() if path.name != "README.md")
    if name not in known:
        raise ValueError(f"${{bundled:{name}}}: choose from {', '.join(known)}, or give a path without ${{bundled:}}")
    return str(folder / name)


# Here, so that a configuration can be composed and built without a command.
OmegaConf.register_new_resolver("bundled", bundled)
