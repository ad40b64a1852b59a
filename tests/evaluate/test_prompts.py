"""Prompts of images: from a set, a table, or texts beside them; and the scores of each prompt."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ditexp.cli.composing import settled
from ditexp.evaluate.evaluator import Evaluator
from ditexp.evaluate.per_prompt import extremes, scores_per_prompt, summary, write_table
from ditexp.evaluate.prompts import prompts_of
from ditexp.evaluate.scoring import score
from ditexp.feature.digits import DigitsFeature
from ditexp.files.prompt_table import read_prompts
from ditexp.images.arrays import ArrayImages
from ditexp.images.folder import FolderImages
from ditexp.metric.clip_score import ClipScore
from ditexp.metric.label_accuracy import LabelAccuracy
from ditexp.samples.export import export
from ditexp.samples.store import SampleStore
from ditexp.values import Cost, LabelMeaning, Prompt
from tests.helpers.refusals import refused

TEXTS = ["zero", "one", "two"]
PROMPTS = [Prompt(f"p{number}", text, number, seed) for number, (text, seed) in enumerate(zip(TEXTS, (None, 5, 0)))]


class Counting(DigitsFeature):
    """Embeds the text of digit d as the unit vector of its class, and remembers what it has embedded."""

    name = "counting"

    def __init__(self) -> None:
        super().__init__()
        self.embedded: list[str] = []
        self.outputs = {"pool": 10}
        self.identity = {"name": "counting"}

    def __call__(self, images):
        return {"pool": super().__call__(images)["logits"]}

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        self.embedded += texts
        return torch.eye(10)[[TEXTS.index(text) for text in texts]]


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def evaluator(feature, metric) -> Evaluator:
    protocol = {"protocol": "adm", "changed": [], "beyond": []}
    return Evaluator(feature, None, {metric.name: metric}, protocol)


def test_scores_of_prompts_are_means_of_their_images(tmp_path):
    feature, source = Counting(), ArrayImages(images(8))
    given = {"count": 8, "resamples": 4, "cache": tmp_path, "device": torch.device("cpu"), "prompts": PROMPTS}
    found = evaluator(feature, ClipScore()).score(source, **given)
    pool = feature(torch.from_numpy(images(8)).permute(0, 3, 1, 2))["pool"].double()
    by_hand = [100 * max(0.0, (x[i % 3] / x.norm()).item()) for i, x in enumerate(pool)]
    assert found.metrics["clip_score"] == pytest.approx(np.mean(by_hand))
    assert [(each.id, each.prompt, each.samples) for each in found.per_prompt] == [
        ("p0", "zero", [0, 3, 6]),
        ("p1", "one", [1, 4, 7]),
        ("p2", "two", [2, 5]),
    ]
    for each in found.per_prompt:
        assert each.scores["clip_score"] == pytest.approx(np.mean([by_hand[i] for i in each.samples]))
    assert found.deviations["clip_score"].sd > 0
    assert evaluator(feature, ClipScore()).score(source, **given) == found
    assert feature.embedded == TEXTS  # each once, and then from the cache

    write_table(found.per_prompt, tmp_path / "x.csv")
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert [row["samples"] for row in rows] == ["0 3 6", "1 4 7", "2 5"]
    assert [float(row["clip_score"]) for row in rows] == [each.scores["clip_score"] for each in found.per_prompt]


def test_extremes_are_the_lowest_and_the_highest_and_no_prompt_is_both():
    values = {"clip_score": torch.tensor([3.0, 1.0, 2.0])}
    lowest, highest = extremes(scores_per_prompt(PROMPTS, 3, values))
    assert [each.id for each in lowest] == ["p1"] and [each.id for each in highest] == ["p0"]
    facts = summary(scores_per_prompt(PROMPTS, 3, values), Path("a/x.csv"))
    assert facts["lowest"] == [{"id": "p1", "prompt": "one", "images": 1, "clip_score": 1.0}]
    assert (facts["table"], facts["count"]) == ("x.csv", 3)
    lowest, highest = extremes(scores_per_prompt(PROMPTS[:1], 3, values))
    assert len(lowest) == 1 and highest == []
    assert scores_per_prompt([], 3, values) == scores_per_prompt(PROMPTS, 3, {}) == []


def test_rows_of_one_id_are_one_prompt():
    seeded = [Prompt("a", "one", 0, 5), Prompt("b", "two", 1), Prompt("a", "one", 0, 6)]
    first, second = scores_per_prompt(seeded, 5, {"x": torch.arange(5, dtype=torch.float64)})
    assert (first.samples, first.scores["x"]) == ([0, 2, 3], 5 / 3) and second.samples == [1, 4]


def test_mistakes_come_before_any_work():
    source = ArrayImages(images(3))
    judge = evaluator(Counting(), ClipScore())
    assert list(judge.mistakes(source, 3, PROMPTS)) == []
    [mistake] = judge.mistakes(source, 3)
    remedy = "give captions=<file>, or metadata.jsonl in their folder"
    assert mistake == f"clip_score: nothing says the prompts of images in memory: {remedy}"
    [mistake] = evaluator(DigitsFeature(), ClipScore()).mistakes(source, 3, PROMPTS)
    assert mistake == "clip_score: feature=digits embeds no prompts: choose feature=clip, or leave it out"


# ---- A set


def made(folder: Path, count: int = 6) -> SampleStore:
    identity = {"block_size": 8, "image_shape": [8, 8, 1]}
    meaning = LabelMeaning((0, 1, 2))
    store = SampleStore(folder, identity=identity, num_samples=count, label_meaning=meaning, prompts=PROMPTS)
    store.begin(config={"task": {"_target_": "ditexp.task.generate.Generate"}})
    store.write(0, images(8), np.arange(8) % 3, cost=Cost(), maker={})
    return store


def test_a_set_keeps_its_prompts(tmp_path):
    store = made(tmp_path)
    opened = SampleStore.open(store.folder)
    assert opened.prompts == PROMPTS and prompts_of(opened, None) == PROMPTS
    for damaged in ("{", "[]", '{"id": "a", "prompt": 7, "label": 0}', ""):
        (store.folder / "prompts.jsonl").write_text(damaged)
        with refused(["prompts.jsonl is damaged", "the set's command writes it again"]):
            _ = SampleStore.open(store.folder).prompts
    (store.folder / "prompts.jsonl").unlink()
    assert SampleStore.open(store.folder).prompts == []
    store.begin()  # the command that made an older set adds them
    assert SampleStore.open(store.folder).prompts == PROMPTS


def test_a_folder_of_a_set_has_its_prompts(tmp_path):
    store = made(tmp_path)
    export(store, tmp_path / "out", lambda count: None, store.prompts)
    found = prompts_of(FolderImages(tmp_path / "out", channels=1), None)
    assert [(prompt.id, prompt.text) for prompt in found] == [(f"p{i % 3}", TEXTS[i % 3]) for i in range(6)]


def test_label_accuracy_of_a_set_has_a_table_of_prompts(tmp_path):
    store = made(tmp_path / "samples")
    given = [f"images={store.id}", "feature=digits", "reference=none", "metric=[label_accuracy]", f"outputs={tmp_path}"]
    with settled("evaluate", given) as (cfg, _):
        result = score(cfg, evaluator(DigitsFeature(), LabelAccuracy()), SampleStore.open(store.folder, num_samples=6))
    assert [each.samples for each in result.per_prompt] == [[0, 3], [1, 4], [2, 5]]
    mean = np.mean([each.scores["label_accuracy"] for each in result.per_prompt])
    assert result.metrics["label_accuracy"] == pytest.approx(mean)
    [table] = tmp_path.glob("results/evaluate-*.prompts.csv")
    assert len(table.read_text().splitlines()) == 4
    assert "per_prompt" not in json.loads(table.with_name(f"evaluate-{result.id}.json").read_text())


# ---- Images on disk


def folder(tmp_path: Path, names: Sequence[str]) -> FolderImages:
    for name, image in zip(names, images(len(names))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(tmp_path / name)
    return FolderImages(tmp_path, channels=1)


def texts(found: Sequence[Prompt]) -> list[str]:
    return [prompt.text for prompt in found]


def test_captions_of_a_folder(tmp_path):
    found = folder(tmp_path, ["a/0.png", "a/1.png", "b/2.png"])
    assert not prompts_of(found, None)
    for number, name in enumerate(["a/0.txt", "a/1.txt", "b/2.txt"]):
        (tmp_path / name).write_text(f"text {number}\nof two lines\n")
    assert texts(prompts_of(found, None)) == [f"text {number} of two lines" for number in range(3)]
    (tmp_path / "metadata.csv").write_text("file_name,caption\na/1.png,one\nb/2.png,two\n2.png,no\na/0.png,zero\n")
    assert texts(prompts_of(found, None)) == TEXTS  # a path goes before a name
    coco = {"annotations": [{"id": i, "image_id": i, "caption": str(i)} for i in range(3)]}
    coco["images"] = [{"id": i, "file_name": f"{i}.png"} for i in range(3)]
    (tmp_path / "captions.json").write_text(json.dumps(coco))
    assert texts(prompts_of(found, str(tmp_path / "captions.json"))) == ["0", "1", "2"]
    (tmp_path / "mjhq.json").write_text(json.dumps({str(i): {"prompt": f"m{i}"} for i in range(3)}))
    assert texts(prompts_of(found, str(tmp_path / "mjhq.json"))) == ["m0", "m1", "m2"]
    (tmp_path / "metadata.csv").write_text("file_name,caption\na/1.png,one\n")
    with refused(["0.png has no prompt among 1", "captions=<file>"]):
        prompts_of(found, None)


def test_a_text_is_beside_each_image_or_none(tmp_path):
    found = folder(tmp_path, ["0.png", "1.png"])
    (tmp_path / "0.txt").write_text("zero")
    with refused(["1.png has no 1.txt beside it"]):
        prompts_of(found, None)


def test_other_images_have_the_prompts_of_a_file_in_turn(tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(TEXTS))
    file = str(tmp_path / "x.txt")
    for count in (2, 3, 6):
        assert texts(prompts_of(ArrayImages(images(count)), file)) == TEXTS
    with refused([f"captions={file}", "3 prompts, which 4 images"]):
        prompts_of(ArrayImages(images(4)), file)
    assert prompts_of(ArrayImages(images(4)), None) == ()
    assert len(read_prompts(file, name="x")) == 3
