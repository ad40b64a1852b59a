"""The label of an image is that of its class folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ditexp.condition.original import Original
from ditexp.condition.unconditional import Unconditional
from ditexp.data import CaptionedDigits, Digits, ImageFolder
from ditexp.model.analytic import GaussianMixture
from ditexp.solver.heun import Heun
from ditexp.task.edit import Edit
from tests.helpers.refusals import refused
from tests.helpers.samplers import sampler_of


def class_folders(root: Path, *names: str) -> Path:
    """Two images in each folder."""
    for name in names:
        (root / name).mkdir(parents=True)
        for index in range(2):
            Image.fromarray(np.full((4, 4), 9 * index, np.uint8)).save(root / name / f"{index}.png")
    return root


def labels(root: Path) -> tuple[dict[str, int], list[str]]:
    data = ImageFolder(path=str(root), size=4, channels=1)
    assert data.num_classes == len(data.class_names) and data.labels.dtype == torch.int64
    return {file.parent.name: int(label) for file, label in zip(data.images.files, data.labels)}, data.class_names


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        ([str(number) for number in range(12)], range(12)),
        ([f"{number:03d}" for number in range(12)], range(12)),
        (["0", "01", "2", "10", *map(str, range(3, 10))], [0, 1, 2, 10, *range(3, 10)]),
        (["dog", "cat", "Eel"], [2, 1, 0]),
        (["b", "a-2", "a-10"], [2, 1, 0]),
    ],
)
def test_numbers_are_labels_and_words_are_sorted(tmp_path, names, numbers, caplog):
    found, class_names = labels(class_folders(tmp_path, *names))
    assert found == dict(zip(names, numbers))
    assert [class_names[number] for number in numbers] == names
    assert not caplog.text


def test_a_part_of_a_numbered_data_set_keeps_its_labels(tmp_path, caplog):
    found, class_names = labels(class_folders(tmp_path, "0", "03", "7"))
    assert found == {"0": 0, "03": 3, "7": 7}
    assert class_names == ["0", "1", "2", "03", "4", "5", "6", "7"]
    assert "5 of the labels 0 to 7 have no folder: 1, 2, 4, 5, 6" in caplog.text


def test_folders_numbered_from_one_keep_their_numbers(tmp_path, caplog):
    data = ImageFolder(path=str(class_folders(tmp_path, "1", "2", "3")), size=4, channels=1)
    assert data.labels.unique().tolist() == [1, 2, 3] and data.num_classes == 4
    assert "1 of the labels 0 to 3 has no folder: 0" in caplog.text
    with refused(["the images have 4 classes, this model 3"]):
        Original(data).check(GaussianMixture(num_classes=3, shape=(1, 4, 4)))


def test_numbers_among_words_are_no_labels(tmp_path, caplog):
    assert labels(class_folders(tmp_path, "0", "10", "2", "cat"))[0] == {"0": 0, "10": 1, "2": 2, "cat": 3}
    assert "not all class folders are numbers" in caplog.text and "10 is label 1" in caplog.text


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["1", "01", "2"], ["the class folders 01 and 1 are the same number"]),
        (["20240101", "20240102"], ["20240102 is too large", "up to 999999"]),
    ],
)
def test_numbers_that_are_no_labels(tmp_path, names, words):
    with refused(words):
        labels(class_folders(tmp_path, *names))


def hide(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"")
    class_folders(folder, ".cache")


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda folder: None, ["data/1 holds no image: put its images there, or remove it"]),
        (hide, ["data/1 holds no image"]),
        (lambda folder: (folder / "sub").mkdir(), ["data/1 holds no image"]),
        (lambda folder: (folder / "notes.txt").write_text(""), ["data/1 holds no image: put"]),
        (lambda folder: (folder / "a.gif").write_bytes(b""), ["data/1 holds no image that can be read", "1/a.gif"]),
    ],
)
def test_an_empty_class_folder_is_refused_by_name(tmp_path, fill, words):
    root = class_folders(tmp_path / "data", "0", "2", "3")
    (root / "1").mkdir()
    fill(root / "1")
    with refused(words):
        labels(root)


def test_an_empty_class_folder_may_be_a_link(tmp_path):
    root = class_folders(tmp_path / "data", "a", "c")
    (tmp_path / "empty").mkdir()
    (root / "b").symlink_to(tmp_path / "empty")
    with refused(["data/b holds no image"]):
        labels(root)
    (root / "b").unlink()
    (root / "b").symlink_to(class_folders(tmp_path / "elsewhere", "x") / "x")
    assert labels(root)[0] == {"a": 0, "b": 1, "c": 2}


def test_images_may_lie_deeper_in_a_class_folder(tmp_path):
    class_folders(tmp_path, "a/one", "a/two", "b", ".hidden")
    data = ImageFolder(path=str(tmp_path), size=4, channels=1)
    assert data.labels.tolist() == [0, 0, 0, 0, 1, 1] and data.class_names == ["a", "b"]


def test_images_without_class_folders_have_no_labels(tmp_path):
    class_folders(tmp_path, "a")
    (tmp_path / "a" / "no images").mkdir()
    data = ImageFolder(path=str(tmp_path / "a"), size=4, channels=1)
    assert (data.num_classes, data.class_names, data.labels.tolist()) == (0, [], [-1, -1])


def test_labels_are_part_of_the_identity(tmp_path):
    """By content alone, the same files in other folders could be taken for the same data."""
    identities = [
        ImageFolder(path=str(class_folders(tmp_path / str(names), *names)), size=4, channels=1).identity["labels"]
        for names in (("0", "1"), ("a", "b"), ("0", "2"))
    ]
    assert identities[0] == identities[1] != identities[2]


def test_digits_have_names():
    assert Digits().class_names == CaptionedDigits().class_names == [str(digit) for digit in range(10)]


def test_data_of_fewer_classes_than_the_model_are_noticed(tmp_path, caplog):
    data = ImageFolder(path=str(class_folders(tmp_path, "a", "b", "c")), size=4, channels=1)
    three, ten = (GaussianMixture(num_classes=count, shape=(1, 4, 4)) for count in (3, 10))
    Original(data).check(three)
    edit = Edit(data=data, source=Unconditional(), direction={0: 1})
    edit.check(sampler_of(three, Heun(), task=edit, conditioner=Unconditional()))
    assert not caplog.text
    notice = "the images have 3 classes and the model 10: labels 0 to 2 of the images become the model's first 3"
    edit.check(sampler_of(ten, Heun(), task=edit, conditioner=Unconditional()))
    assert notice in caplog.text
    with refused(["the images have 3 classes, this model 2"]):
        Original(data).check(GaussianMixture(num_classes=2, shape=(1, 4, 4)))
