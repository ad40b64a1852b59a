"""prompts.jsonl: the prompts that the samples of a set have in turn, so that they can be scored without the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ditexp.files.atomic import atomic
from ditexp.files.prompt_table import FILE_BYTES
from ditexp.files.reading import parse_json, read_text, unfit
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
    if not path.exists():
        return []
    lines = read_text(path, "a list of prompts", most=FILE_BYTES).removesuffix("\n").split("\n")
    try:
        return [prompt_in(parse_json(line)) for line in lines]
    except (KeyError, TypeError, ValueError) as error:
        raise unfit(path, f"is damaged ({error})", "delete it; the set's command writes it again") from None


def prompt_in(facts: dict[str, Any]) -> Prompt:
    """Raises KeyError, TypeError or ValueError if the facts are no prompt's."""
    prompt = Prompt(facts["id"], facts["prompt"], facts["label"], facts.get("seed"))
    if not isinstance(prompt.id, str) or not isinstance(prompt.text, str) or type(prompt.label) is not int:
        raise ValueError(f"a prompt is {facts}")
    return prompt
