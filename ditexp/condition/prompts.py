from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ditexp.core import Condition, FlowModel


@dataclass(frozen=True)
class Prompts:
    """A prompt for each sample, in turn; the labels of the samples are the prompts' numbers, from 0.

    prompts: a list; or one per class, {0: a zero, 1: a one}, in which case labels are these classes.
    file: instead, a text file in UTF-8 with a prompt a line; empty lines don't count.
    Raises ValueError if there is not exactly one of both, or no prompt in it.
    """

    prompts: Sequence[str] | Mapping[int, str] | None = None
    file: str | None = None

    def __post_init__(self):
        if (self.prompts is None) == (self.file is None):
            given = "neither is given" if self.file is None else "both are given"
            raise ValueError(f"condition=prompts takes condition.prompts or condition.file, and {given}")
        prompts = read_lines(self.file) if self.prompts is None else self.prompts
        if isinstance(prompts, str) or not isinstance(prompts, Sequence | Mapping) or not prompts:
            raise ValueError(
                f"condition.prompts={prompts}: give a list of texts, as ['a seven','a one'], or one per class, as "
                "{0:'a zero',1:'a one'}"
            )
        if not isinstance(prompts, Mapping):
            prompts = dict(enumerate(prompts))
        for label, prompt in prompts.items():
            if not isinstance(prompt, str) or not isinstance(label, int) or isinstance(label, bool):
                raise ValueError(f"condition.prompts: {label}: {prompt!r} is no text for a class; give it in quotes")
        # What enters the set's id is what the prompts are, not where they came from.
        object.__setattr__(self, "prompts", dict(prompts))
        object.__setattr__(self, "file", None)

    def check(self, model: FlowModel) -> None:
        if not hasattr(model, "encode"):
            raise ValueError(
                "condition=prompts: this model takes no text; choose model=digits_text, or another condition"
            )
        model.tell_of_truncation(self.prompts.values())

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        """Hidden states of the prompts, and labels (B,) int64."""
        labels, texts = zip(*self.prompts.items())
        chosen = [index % len(texts) for index in indices]
        condition = model.encode([texts[number] for number in chosen])
        return replace(condition, labels=torch.tensor([labels[number] for number in chosen], dtype=torch.int64))


def read_lines(path: str) -> list[str]:
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise ValueError(f"condition.file={path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {error.object[error.start]:#04x}"
        raise ValueError(f"condition.file={path} is not UTF-8 ({byte}): save it as UTF-8") from None
    if not (prompts := [line for line in lines if line]):
        raise ValueError(f"condition.file={path} holds no prompt: write one a line")
    return prompts
