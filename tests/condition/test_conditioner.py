"""What every conditioner has without writing it, and what the built-in ones say of their labels."""

from __future__ import annotations

import pytest
import torch

from ditexp.condition.base import Conditioner
from ditexp.condition.labels import Balanced, InOrder, Random
from ditexp.condition.original import Original
from ditexp.condition.prompts import Prompts
from ditexp.condition.unconditional import Unconditional
from ditexp.data import Digits
from ditexp.model.analytic import GaussianMixture
from ditexp.values import Condition

MODEL = GaussianMixture()


class Sevens(Conditioner):
    def __call__(self, model, seed, indices) -> Condition:
        return Condition(torch.full((len(indices),), 7))


def test_only_the_call_is_required():
    sevens = Sevens()
    sevens.check(MODEL)
    assert sevens(MODEL, 0, [3, 1]).labels.tolist() == [7, 7]
    assert sevens.captions([3, 1]) is None
    meaning = sevens.label_meaning(MODEL)
    assert meaning.classes is None and "Sevens doesn't say what its labels are" in meaning.why_not
    with pytest.raises(TypeError, match="abstract"):
        Conditioner()


def test_labels_in_order():
    labels = InOrder(per_class=2)(MODEL, 0, range(22)).labels.tolist()
    assert labels == [number // 2 for number in range(20)] + [0, 0]
    assert InOrder(classes=[7, 3], per_class=1)(MODEL, 0, [0, 1, 2]).labels.tolist() == [7, 3, 7]
    with pytest.raises(ValueError, match=r"condition\.per_class=0"):
        InOrder(per_class=0)


@pytest.mark.parametrize(
    ("conditioner", "classes"),
    [
        (Balanced(), tuple(range(10))),
        (Balanced([8, 3, 3]), (3, 8)),
        (Random([2]), (2,)),
        (Original(Digits(), shift=1), tuple(range(10))),
        (Prompts({7: "a seven", 1: ["a one", "the digit 1"]}), (1, 7)),
        (Prompts(["a seven", "a one"]), None),
        (Unconditional(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_labels_are_classes(conditioner, classes):
    meaning = conditioner.label_meaning(MODEL)
    assert meaning.classes == classes and (classes is None) == bool(meaning.why_not)


def test_only_prompts_have_captions():
    assert Prompts({7: "a seven", 1: ["a one", "the digit 1"]}).captions(range(4)) == [
        *("a seven", "a one", "the digit 1"),
        "a seven",
    ]
    for conditioner in (Balanced(), Random(), Original(Digits()), Unconditional()):
        assert conditioner.captions(range(4)) is None
