from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import torch

from ditexp.condition.base import Conditioner
from ditexp.core import FlowModel, TextModel
from ditexp.files.content import digest
from ditexp.files.reading import read_text, unfit
from ditexp.terminal.notices import in_line
from ditexp.values import Condition, LabelMeaning

FILE_BYTES = 2**28
MAX_CHARACTERS = 10_000  # of a prompt; the longest contexts are some 500 tokens
MAX_IN_ID = 100  # prompts that a set's id spells out; more are hashed
CHOICES = (
    "give a list of texts, as ['a seven','a one'], or those of each class, as {0: [a zero, the digit 0], 1: a one}"
)


@dataclass(frozen=True)
class Prompts(Conditioner):
    """A prompt for each sample, in turn.

    prompts: a list, whose numbers from 0 are the samples' labels; or one or several for each class, which are then the
    labels: first the first prompt of every class, then the second, and so on. file: a text file in UTF-8 in place of
    the list, with one prompt a line; empty lines are skipped.
    pairs: (label, text) in the order of the samples, from either.
    Raises ValueError unless exactly one of the two is given and has a prompt.
    """

    prompts: Sequence[str] | Mapping[int, str | Sequence[str]] | None = None
    file: str | None = None
    pairs: Sequence[tuple[int, str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if (self.prompts is None) == (self.file is None):
            both = "neither is given" if self.file is None else "both are given"
            raise ValueError(f"condition=prompts needs condition.prompts or condition.file, and {both}: {CHOICES}")
        pairs = in_order(self.prompts) if self.file is None else list(enumerate(read_lines(self.file)))
        object.__setattr__(self, "pairs", pairs)

    @property
    def identity(self) -> dict:
        """The prompts, wherever they came from; the hash of them if there are many."""
        many = len(self.pairs) > MAX_IN_ID
        return {"class": "Prompts", "prompts": digest({"prompts": self.pairs}) if many else self.pairs}

    def check(self, model: FlowModel) -> None:
        if not isinstance(model, TextModel):
            raise ValueError(
                "condition=prompts: this model takes no text: choose model=digits_text, or condition=balanced"
            )
        model.notice_truncation([text for _, text in self.pairs])

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        if not isinstance(self.prompts, Mapping):
            return LabelMeaning(
                None,
                why_not="labels of a list of prompts are their numbers and no classes: give the prompts of each class, "
                "as condition.prompts={7: a seven, 1: a one}",
            )
        return LabelMeaning(tuple(sorted({label for label, _ in self.pairs})))

    def captions(self, indices: Sequence[int]) -> list[str]:
        return [text for _, text in self.pairs_of(indices)]

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        """The model's encoding of the prompts, and labels (B,) int64."""
        assert isinstance(model, TextModel), "check refuses other models"
        labels, texts = zip(*self.pairs_of(indices))
        return replace(model.encode(texts), labels=torch.tensor(labels, dtype=torch.int64))

    def pairs_of(self, indices: Sequence[int]) -> list[tuple[int, str]]:
        return [self.pairs[index % len(self.pairs)] for index in indices]


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


def read_lines(path: str) -> list[str]:
    """The prompts of a file. A line ends at LF or CR LF; all other characters belong to the prompt."""
    name = f"condition.file={path}"
    lines = read_text(path, "a text file with a prompt a line", most=FILE_BYTES, name=name).split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_CHARACTERS or "\0" in line:
            wrong = f"of {len(line):,} characters" if len(line) > MAX_CHARACTERS else "with a null character"
            remedy = f"give a prompt of up to {MAX_CHARACTERS:,} characters a line"
            raise unfit(name, f"has a line {wrong}, number {number}", remedy)
    if not (prompts := [line.removesuffix("\r").strip(" \t") for line in lines if line.strip()]):
        raise unfit(name, "holds no prompt", "write one a line")
    return prompts
