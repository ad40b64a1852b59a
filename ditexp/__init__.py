"""ditexp: what does each way of sampling a DiT / rectified-flow model cost, and what quality does it buy?

Importing this package loads no other: it only checks that they are installed. Each part is a module below it.
"""

from pathlib import Path

from ditexp.dependencies import require_dependencies

require_dependencies()  # before any import that would fail

__version__ = "0.1.0"


def bundled(name: str) -> str:
    """The path of weights that come with the package; ${bundled:...} in a configuration. Raises ValueError."""
    folder = Path(__file__).resolve().parent / "weights"
    known = sorted(path.name for path in folder.iterdir() if path.name != "README.md")
    if name not in known:
        raise ValueError(f"${{bundled:{name}}}: choose from {', '.join(known)}, or give a path without ${{bundled:}}")
    return str(folder / name)
