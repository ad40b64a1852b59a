"""The scores of each prompt: the mean over the images that have it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditexp.files.atomic import atomic, make_way
from ditexp.result import PromptScore
from ditexp.terminal.escape import for_csv
from ditexp.values import Prompt

if TYPE_CHECKING:
    from torch import Tensor

EXTREMES = 5  # prompts with the lowest and with the highest score that reports show


def scores_per_prompt(prompts: Sequence[Prompt], count: int, values: Mapping[str, Tensor]) -> list[PromptScore]:
    """In the order of the prompts; none without prompts or values.

    prompts: that the first `count` images have in turn. values: (count,) of each score, by its name.
    """
    if not prompts or not values:
        return []
    images: dict[str, list[int]] = {}
    for index in range(count):
        images.setdefault(prompts[index % len(prompts)].id, []).append(index)
    texts = {prompt.id: prompt.text for prompt in prompts}
    found = []
    for id, samples in images.items():
        means = {name: each[samples].mean().item() for name, each in values.items()}
        found.append(PromptScore(id=id, prompt=texts[id], samples=samples, scores=means))
    return found


def extremes(scores: Sequence[PromptScore]) -> tuple[list[PromptScore], list[PromptScore]]:
    """The prompts with the lowest first score, from the lowest on, and those with the highest, from the highest on."""
    name = next(iter(scores[0].scores))
    ordered = sorted(scores, key=lambda each: each.scores[name])
    shown = min(EXTREMES, len(ordered) // 2)
    return ordered[: max(1, shown)], ordered[len(ordered) - shown :][::-1]


def summary(scores: Sequence[PromptScore], table: Path) -> dict[str, Any]:
    """What a result keeps of them: the table's file, and the prompts with the lowest and highest scores."""
    lowest, highest = ([facts_of(each) for each in part] for part in extremes(scores))
    return {"table": table.name, "count": len(scores), "lowest": lowest, "highest": highest}


def facts_of(score: PromptScore) -> dict[str, Any]:
    return {"id": score.id, "prompt": score.prompt, "images": len(score.samples), **score.scores}


def write_table(scores: Sequence[PromptScore], path: Path) -> None:
    """A CSV: id, prompt, images, each score, and the numbers of the images."""
    names = list(scores[0].scores)
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["id", "prompt", "images", *names, "samples"])
    for each in scores:
        numbers = [repr(each.scores[name]) for name in names]
        samples = " ".join(map(str, each.samples))
        lines.writerow([for_csv(each.id), for_csv(each.prompt), len(each.samples), *numbers, samples])
    make_way(path)
    with atomic(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def table_beside(result: Path) -> Path:
    """Where the scores of each prompt are kept, beside the file of a result."""
    return result.with_suffix(".prompts.csv")
