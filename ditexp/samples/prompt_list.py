"""prompts.jsonl: the prompts that the samples of a set have in turn, so that they can be scored without the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ditexp.files.atomic import atomic
from ditexp.files.prompt_table import as_prompts, read_prompts
from ditexp.values import Prompt

NAME = "prompts.jsonl"


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    """A line for each prompt, as condition.file reads it."""
    with atomic(path) as temporary:
        temporary.write_text("".join(f"{json.dumps(facts_of(prompt))}\n" for prompt in prompts))


def facts_of(prompt: Prompt) -> dict[str, str | int]:
    facts: dict[str, str | int] = {"id": prompt.id, "prompt": prompt.text, "label": prompt.label}
    return facts if prompt.seed is None else facts | {"seed": prompt.seed}


def stored_prompts(path: Path) -> list[Prompt]:
    """The prompts that `write_prompts` wrote; none if there is no file. Raises ValueError if it is damaged."""
    return as_prompts(read_prompts(str(path), name=str(path))) if path.exists() else []
