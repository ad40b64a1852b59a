"""Large libraries that are imported where they are used, without messages and progress bars of their own."""

from __future__ import annotations

import logging
import os
from typing import Any


def import_transformers(needy: str = "prompts need") -> Any:
    """needy: what needs it, with its verb. Raises ValueError if it is not installed."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    silence_torchao()
    try:
        import transformers
    except ImportError:
        raise ValueError(f"{needy} transformers and tokenizers: pip install 'ditexp[text]'") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def import_diffusers() -> Any:
    """Its import takes seconds. ditexp prints one line for an error; diffusers prints nothing."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")  # before the import, which warns of an optional package
    silence_torchao()
    import diffusers

    diffusers.utils.logging.set_verbosity(diffusers.utils.logging.CRITICAL)
    diffusers.utils.logging.disable_progress_bar()
    return diffusers


def silence_torchao() -> None:
    """It registers enums in an old way, and torch warns of each. Both libraries above import it if it is installed."""
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
