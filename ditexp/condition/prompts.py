from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import torch

from ditexp.condition.base import Conditioner
from ditexp.core import FlowModel, TextModel
from ditexp.files.content import digest
from ditexp.files.prompt_table import as_prompts, read_prompts
from ditexp.files.reading import unfit
from ditexp.terminal.notices import in_line
from ditexp.values import Condition, LabelMeaning, Prompt

MAX_IN_ID = 100  # prompts that a set's id spells out; more are hashed
CHOICES = (
    "give a list of texts, as ['a seven','a one'], or those of each class, as {0: [a zero, the digit 0], 1: a one}"
)


@dataclass(frozen=True)
class Prompts(Conditioner):
    """A prompt for each sample, in turn: sample i has prompt i modulo their number, P, and is image i // P of it.

    prompts: a list, whose numbers from 0 are the samples' labels; or one or several for each class, which are then the
    labels: first the first prompt of every class, then the second, and so on. file: in place of the list, a text file
    with one prompt a line, or a table with a column `prompt` and, if wanted, `id`, `seed` and `label`, a class: see
    `files.prompt_table.read_prompts`.
    rows: the prompts in the order of the samples, from either. has_classes: whether their labels are classes.
    has_seeds: whether any has a seed.

    The noise of image j of a prompt with a seed is that of sample j of a run with this seed, plus the run's own seed;
    prompts with equal seeds share it. Raises ValueError unless exactly one of the two is given and has a prompt.
    """

    prompts: Sequence[str] | Mapping[int, str | Sequence[str]] | None = None
    file: str | None = None
    rows: Sequence[Prompt] = field(init=False, repr=False)
    has_classes: bool = field(init=False, repr=False)
    has_seeds: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if (self.prompts is None) == (self.file is None):
            both = "neither is given" if self.file is None else "both are given"
            raise ValueError(f"condition=prompts needs condition.prompts or condition.file, and {both}: {CHOICES}")
        if self.file is None:
            rows, has_classes = numbered(in_order(self.prompts)), isinstance(self.prompts, Mapping)
        else:
            rows, has_classes = rows_in(self.file)
        facts = {"rows": rows, "has_classes": has_classes, "has_seeds": any(row.seed is not None for row in rows)}
        for name, fact in facts.items():
            object.__setattr__(self, name, fact)

    @property
    def identity(self) -> dict:
        """The prompts, wherever they came from, and their seeds; the hash of them if there are many."""
        many = len(self.rows) > MAX_IN_ID
        pairs, seeds = [(row.label, row.text) for row in self.rows], [row.seed for row in self.rows]
        facts = {"class": "Prompts", "prompts": digest({"prompts": pairs}) if many else pairs}
        return facts | {"seeds": digest({"seeds": seeds}) if many else seeds} if self.has_seeds else facts

    def check(self, model: FlowModel) -> None:
        if not isinstance(model, TextModel):
            raise ValueError(
                "condition=prompts: this model takes no text: choose model=digits_text, or condition=balanced"
            )
        model.notice_truncation([row.text for row in self.rows])

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        if not self.has_classes:
            return LabelMeaning(
                None,
                why_not="labels of a list of prompts are their numbers and no classes: give the prompts of each class, "
                "as condition.prompts={7: a seven, 1: a one}, or a file with a column label",
            )
        return LabelMeaning(tuple(sorted({row.label for row in self.rows})))

    def captions(self, indices: Sequence[int]) -> list[str]:
        return [row.text for row in self.rows_of(indices)]

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        """The model's encoding of the prompts, and labels (B,) int64."""
        assert isinstance(model, TextModel), "check refuses other models"
        rows = self.rows_of(indices)
        condition = model.encode([row.text for row in rows])
        return replace(condition, labels=torch.tensor([row.label for row in rows], dtype=torch.int64))

    def rows_of(self, indices: Sequence[int]) -> list[Prompt]:
        return [self.rows[index % len(self.rows)] for index in indices]

    def noise_keys(self, seed: int, indices: Sequence[int]) -> tuple[int | Sequence[int], Sequence[int]]:
        if not self.has_seeds:
            return seed, indices
        keys = [
            (seed, index) if row.seed is None else ((seed + row.seed) % 2**63, index // len(self.rows))
            for index, row in zip(indices, self.rows_of(indices))
        ]
        seeds, numbers = zip(*keys)
        return seeds, numbers


def numbered(pairs: Sequence[tuple[int, str]]) -> list[Prompt]:
    return [Prompt(str(number), text, label) for number, (label, text) in enumerate(pairs)]


def in_order(prompts: object) -> list[tuple[int, str]]:
    """(label, text) in the order of the samples. Raises ValueError if these are no prompts."""
    if isinstance(prompts, Mapping):
        check_classes(prompts)
        by_class = [[(label, text) for text in as_list(texts)] for label, texts in prompts.items()]
        pairs = [pair for turn in zip_longest(*by_class) for pair in turn if pair is not None]
    else:
        pairs = list(enumerate(as_list(prompts))) if not isinstance(prompts, str) else []
    if not pairs or not all(is_label(label) and isinstance(text, str) for label, text in pairs):
        raise ValueError(f"{given(prompts)}: {CHOICES}")
    return pairs


def given(prompts: object) -> str:
    """The setting as it was given, shortened."""
    return in_line(f"condition.prompts={prompts}", 120)


def check_classes(prompts: Mapping) -> None:
    """Raise ValueError for a key that is no class, or a class without a prompt."""
    for label, texts in prompts.items():
        if not is_label(label):
            wrong = in_line(f"{label!r} is no class, a whole number from 0 on", 120)
            raise ValueError(f"{given(prompts)}: {wrong}; {CHOICES}")
        if not as_list(texts) or any(text is None or not str(text).strip() for text in as_list(texts)):
            raise ValueError(f"{given(prompts)}: class {label} has no prompt, or an empty one; {CHOICES}")


def as_list(texts: object) -> list:
    return list(texts) if isinstance(texts, Sequence) and not isinstance(texts, str) else [texts]


def is_label(label: object) -> bool:
    return isinstance(label, int) and not isinstance(label, bool) and label >= 0


def rows_in(path: str) -> tuple[list[Prompt], bool]:
    """The prompts of a file, and whether it has labels, which are classes; if not, labels are the prompts' numbers."""
    name = f"condition.file={path}"
    found = read_prompts(path, name=name)
    labels = [row.label for row in found]
    has_labels = any(label is not None for label in labels)
    if has_labels and None in labels:
        raise unfit(name, f"has a label for some prompts, but none for number {labels.index(None)}", "give all one")
    return as_prompts(found), has_labels
