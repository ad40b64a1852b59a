"""The package transformers, which is optional, quiet and without progress bars of its own."""

from __future__ import annotations

import os
from typing import Any


def import_transformers(needy: str = "prompts need") -> Any:
    """needy: what needs it, with its verb. Raises ValueError if it is not installed."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        import transformers
    except ImportError:
        raise ValueError(f"{needy} transformers and tokenizers: pip install 'ditexp[text]'") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
