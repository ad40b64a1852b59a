from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import torch

from ditexp.condition.base import Conditioner
from ditexp.core import FlowModel
from ditexp.files.content import digest
from ditexp.files.reading import read_text, unfit
from ditexp.terminal.notices import in_line
from ditexp.values import Condition, LabelMeaning

FILE_BYTES = 2**28
LONGEST = 10_000  # characters of a prompt; the longest contexts are some 500 tokens
CHOICES = (
    "give a list of texts, as ['a seven','a one'], or those of each class, as {0: [a zero, the digit 0], 1: a one}"
)


@dataclass(frozen=True)
class Prompts(Conditioner):
    """A prompt for each sample, in turn.

    prompts: a list, whose numbers from 0 are the samples' labels; or one or several for each class, which then are the
    labels: first the first prompt of every class, then the second, and so on. file: instead of them, a text file in
    UTF-8 with a prompt a line; empty lines don't count. Afterwards, prompts are (label, text) in the order of samples.
    Raises ValueError if there is not exactly one of both, or no prompt in it.
    """

    prompts: Sequence[str] | Mapping[int, str | Sequence[str]] | None = None
    file: str | None = None
    of_classes: bool = field(init=False, default=False, repr=False)  # whether the labels are classes

    def __post_init__(self):
        if (self.prompts is None) == (self.file is None):
            both = "neither is given" if self.file is None else "both are given"
            raise ValueError(f"condition=prompts takes condition.prompts or condition.file, and {both}: {CHOICES}")
        object.__setattr__(self, "of_classes", isinstance(self.prompts, Mapping))
        prompts = in_order(self.prompts) if self.file is None else list(enumerate(read_lines(self.file)))
        # What enters the set's id is what the prompts are, not where they came from.
        object.__setattr__(self, "prompts", prompts)
        object.__setattr__(self, "file", None)

    @property
    def identity(self) -> dict:
        """All prompts, or where they are many, what tells them from others."""
        many = len(self.prompts) > 100
        return {"class": "Prompts", "prompts": digest({"prompts": self.prompts}) if many else self.prompts}

    def check(self, model: FlowModel) -> None:
        if not hasattr(model, "encode"):
            raise ValueError(
                "condition=prompts: this model takes no text: choose model=digits_text, or condition=balanced"
            )
        model.tell_of_truncation(text for _, text in self.prompts)

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        if not self.of_classes:
            why_not = (
                "labels of a list of prompts are their numbers and no classes: give the prompts of each class, as "
            )
            return LabelMeaning(None, why_not=f"{why_not}condition.prompts={{7: a seven, 1: a one}}")
        return LabelMeaning(tuple(sorted({label for label, _ in self.prompts})))

    def captions(self, indices: Sequence[int]) -> list[str]:
        return [self.prompts[index % len(self.prompts)][1] for index in indices]

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        """Hidden states of the prompts, and labels (B,) int64."""
        labels, texts = zip(*(self.prompts[index % len(self.prompts)] for index in indices))
        return replace(model.encode(texts), labels=torch.tensor(labels, dtype=torch.int64))


def in_order(prompts) -> list[tuple[int, str]]:
    if isinstance(prompts, Mapping):
        check_classes(prompts)
        by_class = [[(label, text) for text in as_list(texts)] for label, texts in prompts.items()]
        pairs = [pair for turn in zip_longest(*by_class) for pair in turn if pair is not None]
    else:
        pairs = list(enumerate(as_list(prompts))) if not isinstance(prompts, str) else []
    if not pairs or not all(is_label(label) and isinstance(text, str) for label, text in pairs):
        raise ValueError(f"{given(prompts)}: {CHOICES}")
    return pairs


def given(prompts) -> str:
    """The setting as it was given, in short."""
    return in_line(f"condition.prompts={prompts}", 120)


def check_classes(prompts: Mapping) -> None:
    """Raise ValueError naming a key that is no class, or a class without a prompt."""
    for label, texts in prompts.items():
        if not is_label(label):
            wrong = in_line(f"{label!r} is no class, a whole number from 0 on", 120)
            raise ValueError(f"{given(prompts)}: {wrong}; {CHOICES}")
        if not as_list(texts) or any(text is None or not str(text).strip() for text in as_list(texts)):
            raise ValueError(f"{given(prompts)}: class {label} has no prompt, or an empty one; {CHOICES}")


def as_list(texts) -> list:
    return list(texts) if isinstance(texts, Sequence) and not isinstance(texts, str) else [texts]


def is_label(label) -> bool:
    return isinstance(label, int) and not isinstance(label, bool) and label >= 0


def read_lines(path: str) -> list[str]:
    """What ends a line is a line feed, or a carriage return and a line feed; all else belongs to the prompt."""
    name = f"condition.file={path}"
    lines = read_text(path, "a text file with a prompt a line", most=FILE_BYTES, name=name).split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST or "\0" in line:
            wrong = f"of {len(line):,} characters" if len(line) > LONGEST else "with a null character"
            raise unfit(name, f"has a line {wrong}, number {number}", f"give a prompt of up to {LONGEST:,} a line")
    if not (prompts := [line.removesuffix("\r").strip(" \t") for line in lines if line.strip()]):
        raise unfit(name, "holds no prompt", "write one a line")
    return prompts
