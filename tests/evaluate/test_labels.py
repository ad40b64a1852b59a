"""The meaning of labels: scores that use labels know the classes, or are refused before any work."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from ditexp.cli.packaged import packaged
from ditexp.condition.labels import Balanced
from ditexp.condition.original import Original
from ditexp.condition.prompts import Prompts
from ditexp.condition.unconditional import Unconditional
from ditexp.data import Digits
from ditexp.evaluate import __main__ as evaluate
from ditexp.evaluate.checks import check_labels
from ditexp.evaluate.evaluator import Evaluator
from ditexp.feature.digits import DigitsFeature
from ditexp.guidance.autoguidance import Autoguidance
from ditexp.metric.label_accuracy import LabelAccuracy
from ditexp.model.analytic import GaussianMixture
from ditexp.run import cell
from ditexp.samples.folders import is_in_use
from ditexp.samples.store import SampleStore
from ditexp.task.edit import Edit, caption
from ditexp.values import Cost, Features, LabelMeaning
from tests.helpers.refusals import refused

DIGITS = tuple("0123456789")


@dataclass
class Model:
    """What a condition sees of a model of classes."""

    num_classes: int = 10
    class_names: tuple[str, ...] = ()


def build(tmp_path, *overrides):
    with initialize_config_dir(str(packaged("conf")), version_base="1.3"):
        few = ["num_samples=4", "batch_size=4", "steps=2", f"outputs={tmp_path}", "metric=[label_accuracy]"]
        return cell.build(compose("config", overrides=[*few, *overrides]))


TEXT = ("model=digits_text", "condition=prompts")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            (*TEXT, "condition.prompts=[a seven,a one]"),
            ["a list of prompts", "condition.prompts={7: a seven, 1: a one}"],
        ),
        (
            (*TEXT, "condition.prompts={0: a zero, 12: twelve}"),
            ["samples of class 12", "feature=digits knows", "0 to 9"],
        ),
        ((*TEXT, "condition.prompts={0: a zero, 1: []}"), ["class 1 has no prompt"]),
        ((*TEXT, "condition.prompts={0: a zero, 1: [a one, '']}"), ["class 1 has no prompt, or an empty one"]),
        ((*TEXT, "condition.prompts={0: a zero, -1: a one}"), ["-1 is no class"]),
        ((*TEXT, "condition.prompts={0: a zero, true: a one}"), ["True is no class"]),
        (("model=digits_text", "condition=unconditional"), ["condition=unconditional", "no class"]),
        (("condition=unconditional",), ["condition=unconditional", "no class", "condition=balanced"]),
        (("model=analytic", "model.num_classes=1000", "condition.classes=[0,7]"), ["has 1,000 classes", "digits 10"]),
        (("condition.classes=[true,3]",), ["condition.classes=[True, 3]"]),
        (("condition.classes=[3.0]",), ["condition.classes=[3.0]"]),
    ],
)
def test_labels_that_the_network_does_not_know_are_refused_before_any_work(overrides, words, tmp_path):
    with refused(words):
        build(tmp_path, *overrides)
    assert list(tmp_path.iterdir()) == []


def test_classes_of_prompts_can_be_scored(tmp_path):
    made = build(tmp_path, *TEXT, "condition.prompts={7: a seven, 1: a one}")
    assert made.store.label_meaning == LabelMeaning((1, 7))


def test_classes_of_prompts_are_numbers():
    with refused(["'1' is no class, a whole number from 0 on"]):
        Prompts(prompts={0: "a zero", "1": "a one"})


def test_a_file_of_prompts_is_a_list(tmp_path):
    (tmp_path / "prompts.txt").write_text("a seven\na one\n")
    assert Prompts(file=str(tmp_path / "prompts.txt")).label_meaning(Model(0)).classes is None


def test_what_labels_mean_is_no_part_of_a_sets_id(tmp_path):
    both = (Prompts(prompts=["a zero", "a one"]), Prompts(prompts={0: "a zero", 1: "a one"}))
    assert both[0].identity == both[1].identity == {"class": "Prompts", "prompts": [(0, "a zero"), (1, "a one")]}


# ---- Classes by their names


def store_of(meaning: LabelMeaning | None, root: Path = Path("nowhere")) -> SampleStore:
    identity = {"block_size": 4, "image_shape": [8, 8, 1], "model": {"num_classes": 10}}
    return SampleStore(root, identity=identity, num_samples=4, label_meaning=meaning)


@pytest.mark.parametrize(
    ("meaning", "words"),
    [
        (LabelMeaning((0, 1), 10, DIGITS), None),
        (LabelMeaning((0, 4), 5, DIGITS[:5]), None),  # a part of the classes, under their own numbers
        (LabelMeaning((0, 1), 10), None),
        (LabelMeaning((0, 1), 2), ["the model has 2 classes and feature=digits 10"]),
        (LabelMeaning((0, 1), 2, ("3", "8")), ["class 0 is 3 to the model, but 0 to feature=digits"]),
        (LabelMeaning((0, 2), 3, ("0", "1", "10")), ["class 2 is 10 to the model, but 2 to feature=digits"]),
        (LabelMeaning((0, 4), 10, DIGITS[:4]), ["class 4 is without a name to the model"]),
        (None, ["by the command that made them"]),
    ],
)
def test_classes_are_compared_by_their_names_where_these_are_known(meaning, words):
    if words is None:
        check_labels(store_of(meaning), DigitsFeature())
    else:
        with refused(words):
            check_labels(store_of(meaning), DigitsFeature())


def test_the_bundled_judge_knows_the_digits():
    assert tuple(DigitsFeature().class_names) == tuple(Digits.class_names) == DIGITS
    assert GaussianMixture().class_names == ()


def test_labels_of_images_are_those_of_a_model_of_the_same_classes():
    digits = Digits()
    Original(digits).check(Model(10, DIGITS))
    Original(digits).check(Model(10))
    assert Original(digits).label_meaning(Model(10)).names == DIGITS
    with refused(["condition=original: class 2 of the images is 2, of the model 10", "class folders"]):
        Original(digits).check(Model(12, ("0", "1", "10", "11", *DIGITS[2:])))


def test_a_notice_says_that_classes_were_not_trained(caplog):
    Balanced().check(Model(4, ("a", "b", "c")))
    assert "this model was trained on 3 of its 4 classes: those from 3 on are noise" in caplog.text
    caplog.clear()
    Balanced(classes=[0, 2]).check(Model(4, ("a", "b", "c")))
    assert not caplog.records


def test_a_label_beyond_the_logits_is_never_counted_as_wrong():
    fake = Features(count=2, logits=torch.eye(10)[:2], labels=torch.tensor([0, 10]))
    with refused(["label 10", "10 classes"]):
        LabelAccuracy()(fake)


def test_a_weak_model_of_other_classes_guides_nothing():
    model, weak = GaussianMixture(num_classes=2), GaussianMixture(num_classes=2, components=1)
    model.class_names, weak.class_names = ("cat", "dog"), ("dog", "cat")
    with refused(["guidance.weak has as class 0 dog, the model cat"]):
        Autoguidance(weak=weak, weight=1).check(model)


# ---- Edits


def test_an_edit_between_classes_has_labels_of_the_data():
    edit = Edit(data=Digits(), source=Unconditional(), direction={3: 8})
    assert edit.label_meaning(Model(10)) == LabelMeaning([0, 1, 2, 4, 5, 6, 7, 8, 9], 10, DIGITS)
    assert Edit(data=Digits(), source=Unconditional()).label_meaning(Model(10)) is None


def test_captions_are_the_names_of_classes():
    assert caption(Model(3, ("cat", "dog", "eel")), 2, 0) == "eel -> cat"
    assert caption(Model(3), 2, 0) == "2 -> 0" and caption(Model(3), 1, 1) == "1" and caption(Model(3), 3) == ""


# ---- Sets on disk


@pytest.fixture
def judge(tmp_path, monkeypatch, capsys):
    """Score a set of four digits by label_accuracy in this process: exit code and output."""
    monkeypatch.chdir(tmp_path)

    def run(about: dict, meaning: LabelMeaning | None = None):
        store, images = store_of(meaning, Path("outputs/samples")), np.zeros((4, 8, 8, 1), np.uint8)
        store.begin(**about)
        store.write(0, images, np.array([0, 1, 0, 1]), cost=Cost(), maker={})
        if meaning is None:  # as sets were begun before
            path = store.folder / "set.json"
            path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "labels"}))
        monkeypatch.setattr(sys, "argv", ["ditexp", f"images={store.id}", "metric=[label_accuracy]", *JUDGED])
        try:
            evaluate.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        return code, "".join(capsys.readouterr())

    return run


JUDGED = ("feature=digits", "reference=none", "resamples=0")


def test_a_set_on_disk_knows_what_its_labels_are(judge):
    code, output = judge({}, Balanced(classes=[0, 1]).label_meaning(Model(10)))
    assert code == 0 and "label_accuracy" in output
    for meaning in (Prompts(prompts=["a zero", "a one"]).label_meaning(Model(0)), LabelMeaning((0, 12))):
        Path(next(Path("outputs/samples").glob("*/set.json"))).unlink()
        code, output = judge({}, meaning)
        assert code == 2 and output.startswith("ditexp: label_accuracy: ")


def test_a_set_is_claimed_while_it_is_scored(judge, monkeypatch):
    claimed, score = [], Evaluator.score

    def watched(self, images, **options):
        claimed.append(is_in_use(images))
        return score(self, images, **options)

    monkeypatch.setattr(Evaluator, "score", watched)
    assert judge({}, Balanced(classes=[0, 1]).label_meaning(Model(10)))[0] == 0
    assert claimed == [True] and not list(Path("outputs").rglob("*.claim"))


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ({"_target_": "ditexp.condition.labels.Balanced", "classes": None}, 0),
        ({"_target_": "ditexp.condition.labels.Random", "classes": [0, 1]}, 0),
        ({"_target_": "ditexp.condition.prompts.Prompts", "prompts": {"0": "a zero", "1": "a one"}}, 0),
        ({"_target_": "ditexp.condition.prompts.Prompts", "prompts": ["a zero", "a one"]}, 2),
        ({"_target_": "mine.Condition"}, 2),
    ],
)
def test_the_labels_of_an_older_set_follow_from_its_configuration(condition, code, judge):
    assert judge({"config": {"condition": condition}})[0] == code
