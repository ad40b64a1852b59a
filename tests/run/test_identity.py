"""Identities: of files by content, whatever their name and date; of components by class and settings."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file

from ditexp import bundled
from ditexp.cli.packaged import published_file
from ditexp.data import ImageFolder
from ditexp.feature.digits import BUNDLED
from ditexp.metric.trajectory import Trajectory
from ditexp.model import contents
from ditexp.model.pretrained import PretrainedDiT
from ditexp.run.components import build_component
from ditexp.run.identity import identify
from ditexp.schedule.optimized import Optimized
from ditexp.solver import heun
from ditexp.solver.dopri5 import Dopri5
from ditexp.task import inpaint
from ditexp.task.direction import Given
from ditexp.task.inpaint import Inpaint
from ditexp.task.mask import ImageMask
from tests.helpers.refusals import refused

DIGITS_DIT = Path(bundled("digits_dit.safetensors"))


def write_classifier(path: Path, add: float) -> None:
    save_file({name: tensor + add for name, tensor in load_file(BUNDLED).items()}, path)


def write_checkpoint(path: Path, add: float) -> None:
    save_file({name: tensor + add for name, tensor in load_file(DIGITS_DIT).items()}, path)


def write_mask(path: Path, add: float) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[int(add)] = 255
    Image.fromarray(pixels).save(path, "BMP")


def write_direction(path: Path, add: float) -> None:
    np.save(path, np.full((1, 8, 8), add))


def write_images(folder: Path, add: float) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.full((8, 8), int(add), np.uint8)).save(folder / "0.bmp")
    os.utime(folder / "0.bmp", (0, 0))


@pytest.mark.parametrize(
    ("name", "write", "identity"),
    [
        (
            "x.safetensors",
            write_checkpoint,
            lambda path: PretrainedDiT(checkpoint=str(path), family="sit", num_heads=3).identity,
        ),
        ("x.bmp", write_mask, lambda path: ImageMask(str(path)).identity),
        ("x.npy", write_direction, lambda path: Given(str(path)).identity),
        ("x", write_images, lambda path: ImageFolder(path=str(path), size=8, channels=1).identity),
    ],
)
def test_the_content_of_a_file_is_its_identity(tmp_path, name, write, identity):
    """Overwritten in the same process, with the same name, size and date."""
    seen = []
    for add in (1, 2):
        write(tmp_path / name, add)
        os.utime(tmp_path / name, (0, 0))
        seen.append(identity(tmp_path / name))
        json.dumps(seen)
    copy = shutil.copytree if (tmp_path / name).is_dir() else shutil.copyfile
    (tmp_path / "elsewhere").mkdir()
    copy(tmp_path / name, tmp_path / "elsewhere" / name)
    assert seen[0] != seen[1] == identity(tmp_path / "elsewhere" / name)


def test_a_component_whose_file_has_changed_is_loaded_again(tmp_path):
    """An unchanged one is shared by all cells of a sweep."""
    path = tmp_path / "x.safetensors"
    node = OmegaConf.create({"feature": {"_target_": "ditexp.feature.digits.DigitsFeature", "weights": str(path)}})
    write_classifier(path, 0)
    first, again = (build_component(node, "feature") for _ in range(2))
    write_classifier(path, 0.5)
    os.utime(path, (0, 0))
    changed = build_component(node, "feature")
    assert first is again and first.identity != changed.identity
    assert torch.equal(changed.network.head.bias, first.network.head.bias + 0.5)


def test_a_checkpoint_that_is_replaced_while_it_is_read(tmp_path, monkeypatch):
    path, read = tmp_path / "x.safetensors", contents.read_checkpoint
    write_checkpoint(path, 0)

    def read_and_replace(*arguments, **options):
        found = read(*arguments, **options)
        write_checkpoint(tmp_path / "new", 1)
        (tmp_path / "new").rename(path)
        return found

    monkeypatch.setattr(contents, "read_checkpoint", read_and_replace)
    with refused(["was changed while it was in use", "run again"]):
        PretrainedDiT(checkpoint=str(path), family="sit", num_heads=3)


def test_training_data_that_change_after_they_were_hashed_are_not_read(tmp_path):
    write_images(tmp_path / "x", 1)
    data = ImageFolder(path=str(tmp_path / "x"), size=8, channels=1)
    assert data.identity and data[0][0].shape == (1, 8, 8)
    write_images(tmp_path / "x", 2)
    with refused(["0.bmp was changed while it was in use"]):
        data[0]


@dataclass(frozen=True)
class OfAFile:
    """A user's component with a path among its settings."""

    file: str
    name: str = "half"


def test_a_file_that_a_users_component_names_is_in_its_identity(tmp_path):
    seen = []
    for text in ("1", "2"):
        (tmp_path / "x.txt").write_text(text)
        seen.append(identify(OfAFile(str(tmp_path / "x.txt"))))
        json.dumps(seen)
    assert seen[0] != seen[1] and list(seen[0]["files"]) == ["file"]
    assert "files" not in identify(OfAFile("no file"))


def test_a_name_is_no_path(tmp_path):
    (tmp_path / "published.yaml").write_text("")
    assert published_file(str(tmp_path)) is None and published_file("../experiments/digits_solvers") is None
    assert published_file("x" * 300) is None and published_file("a\0b") is None
    assert published_file("solvers") is None or published_file("solvers").is_file()
    for name in ("../cli.py", str(DIGITS_DIT), "", "."):
        with refused(["${bundled:", "digits_dit.safetensors"]):
            bundled(name)


def test_a_kind_of_mask_is_one_whatever_lies_around(tmp_path, monkeypatch):
    """A notice says how to spell the path of a file with such a name."""
    monkeypatch.chdir(tmp_path)
    said = []
    monkeypatch.setattr(inpaint, "notice", said.append)
    (tmp_path / "half").mkdir()
    assert type(Inpaint(data=None, mask="half").mask).__name__ == "Half" and not said
    write_mask(tmp_path / "box", 1)
    assert type(Inpaint(data=None, mask="box").mask).__name__ == "Box" and "task.mask=./box" in said[0]
    assert type(Inpaint(data=None, mask="./box").mask).__name__ == "ImageMask"


def test_grids_are_found_in_a_folder_or_a_file_of_any_name(tmp_path):
    text = json.dumps({"grids": {"2": [0.0, 0.25, 1.0]}})
    (tmp_path / "grids").write_text(text)
    assert Optimized(steps=2, found=str(tmp_path / "grids")).tuned_to({}).points == (0, 0.25, 1)
    (tmp_path / "schedules.json").mkdir()
    with refused(["has no grids, ", "schedules.json/", ".json, for this model"]):
        Optimized(steps=2, found=str(tmp_path / "schedules.json")).tuned_to({})
    with refused(["has no grids, ", "none.json, for this model"]):
        Optimized(steps=2, found=str(tmp_path / "none.json")).tuned_to({})


def test_a_component_goes_by_its_class_alone_whatever_module_it_is_in():
    assert identify(heun.Heun()) == {"class": "Heun", "correct_last": True}
    assert identify(Trajectory(reference=Dopri5()))["reference"]["class"] == "Dopri5"
    assert identify(Optimized(steps=1, found="")) == {"class": "Optimized", "points": [0.0, 1.0]}


@pytest.mark.parametrize("group", ["solver", "schedule", "guidance", "condition", "task", "metric", "model"])
def test_no_two_classes_of_a_group_share_a_name(group):
    package = importlib.import_module(f"ditexp.{group}")
    modules = [importlib.import_module(f"ditexp.{group}.{found.name}") for found in iter_modules(package.__path__)]
    own = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    names = Counter(cls.__qualname__ for cls in own if cls.__module__.startswith(f"ditexp.{group}."))
    assert names and not [name for name, count in names.items() if count > 1]


@dataclass(frozen=True)
class Heun:
    """A user's class with the name and the settings of ditexp's."""

    correct_last: bool = True


def test_a_users_class_differs_from_ours_of_the_same_name():
    theirs = identify(Heun())
    assert theirs.pop("source") and theirs == identify(heun.Heun())
    with refused(["list must be a dataclass, so that its settings enter the sample set's id"]):
        identify([])
