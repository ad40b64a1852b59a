"""The package diffusers, quiet and without progress bars of its own."""

from __future__ import annotations

import logging
import os
from typing import Any


def import_diffusers() -> Any:
    """Its import takes seconds. ditexp prints one line for an error; diffusers prints nothing."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")  # before the import, which warns of an optional package
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # torchao registers enums in an old way
    import diffusers

    diffusers.utils.logging.set_verbosity(diffusers.utils.logging.CRITICAL)
    diffusers.utils.logging.disable_progress_bar()
    return diffusers
