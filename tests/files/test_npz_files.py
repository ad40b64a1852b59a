"""Errors for npz files whose images have another form: the proposed command is run, and must make the right file."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from ditexp.images.folder import FolderImages
from ditexp.images.npz import NpzImages
from tests.helpers.refusals import refused

rng = np.random.default_rng(0)
X = rng.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
X[0, 0, 0, :2] = 0, 255
GREY = X[..., :1]
LABELS = np.arange(40)


def message(make) -> str:
    with pytest.raises(ValueError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


def follow(text: str) -> None:
    """Run the one command of a message."""
    _, _, command = text.partition(" by python -c ")
    exec(shlex.split(command)[0], {})


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ([X.astype(np.int64)], "arr_0 is int64 (the first images range from 0 to 255), not uint8"),
        ([X.astype(">i2")], "arr_0 is >i2 (the first"),
        ([X.astype(np.uint16) * 257], "arr_0 is uint16 (the first images range from 0 to 65535)"),
        ([X.astype(np.int32) * 257], "int32"),
        ([X / np.float32(127.5) - 1], "arr_0 is float32 (the first images range from -1 to 1)"),
        ([X / 127.5 - 1 + (X == 255) * 0.2], "range from -1 to 1.2"),
        ([X / 255], "arr_0 is float64 (the first images range from 0 to 1)"),
        ([(X / 255).astype(np.float16)], "arr_0 is float16"),
        ([X.astype(float)], "range from 0 to 255)"),
        ([X.transpose(0, 3, 1, 2).copy()], "arr_0 has shape (40, 3, 6, 5), not (N, H, W, C)"),
        (
            [X.transpose(0, 3, 1, 2) / 255],
            "arr_0 has shape (40, 3, 6, 5), not (N, H, W, C) with C = 1 or 3 and is float",
        ),
        ([np.asfortranarray(X)], "in Fortran order"),
        ([np.asfortranarray(X.transpose(0, 3, 1, 2) / 255)], "in Fortran order"),
        ([X[None]], "(1, 40, 6, 5, 3)"),
        ([np.pad(X, [(0, 0)] * 3 + [(0, 1)], constant_values=255)], "(40, 6, 5, 4)"),
        ([LABELS, X], "arr_0 has shape (40,), the images seem to be in arr_1: make"),
        ([LABELS, X / 255], "the images seem to be in arr_1, which is float64"),
        (np.split(X, 4), "holds its images in parts, arr_0 (10, 6, 5, 3), arr_1 (10, 6, 5, 3) and 2 more"),
        ([*np.array_split(X, 12), LABELS], "and 10 more"),
        ({"images": X, "labels": LABELS}, "arr_0 is missing, the images seem to be in images: make"),
        ({"samples": X.transpose(0, 3, 1, 2).copy()}, "the images seem to be in samples, which has shape"),
    ],
)
def test_a_remedy_makes_the_right_file(tmp_path, arrays, words):
    path = tmp_path / "it's x.npz"
    np.savez(path, *arrays) if isinstance(arrays, list) else np.savez(path, **arrays)
    text = message(lambda: NpzImages(path))
    assert str(path) in text and words in text and "make it's x_images.npz by python" in text
    follow(text)
    source = NpzImages(tmp_path / "it's x_images.npz")
    np.testing.assert_array_equal(np.concatenate(list(source.blocks())), X)


@pytest.mark.parametrize(
    ("array", "right"),
    [
        (GREY[..., 0], GREY),
        (np.asfortranarray(GREY[..., 0]), GREY),
        (X[0], X[:1]),
        (GREY[..., 0] > 99, (GREY > 99) * np.uint8(255)),
    ],
)
def test_an_axis_that_lacks_is_added(tmp_path, array, right):
    np.savez(tmp_path / "x.npz", array)
    follow(message(lambda: NpzImages(tmp_path / "x.npz")))
    np.testing.assert_array_equal(np.concatenate(list(NpzImages(tmp_path / "x_images.npz").blocks())), right)


def test_parts_of_grey_images_are_joined_first(tmp_path):
    np.savez(tmp_path / "x.npz", *np.split(GREY[..., 0] / 255, 4))
    follow(message(lambda: NpzImages(tmp_path / "x.npz")))
    (tmp_path / "x_images.npz").replace(tmp_path / "x.npz")
    follow(message(lambda: NpzImages(tmp_path / "x.npz")))
    np.testing.assert_array_equal(next(NpzImages(tmp_path / "x_images.npz").blocks()), GREY)


@pytest.mark.parametrize("source", [lambda path: FolderImages(path, settings=None), NpzImages])
def test_an_npy_file_is_made_an_npz(tmp_path, source):
    np.save(tmp_path / "x.npy", X)
    follow(message(lambda: source(tmp_path / "x.npy")))
    np.testing.assert_array_equal(next(NpzImages(tmp_path / "x_images.npz").blocks()), X)


LATER = np.concatenate([X.astype(np.int64), X[:1].astype(np.int64) * 300])


@pytest.mark.parametrize(
    "array",
    [
        LATER,
        LATER * 257,
        LATER / 255,
        LATER.astype(float),
        LATER / 127.5 - 1,
        np.dstack([X[..., 0]] * 4).reshape(40, 6, 5, 4),
    ],
    ids=["int", "uint16", "one", "255", "minus one", "transparency"],
)
def test_a_command_checks_the_images_that_were_not_looked_at(tmp_path, array):
    np.savez(tmp_path / "x.npz", array)
    text = message(lambda: NpzImages(tmp_path / "x.npz"))
    with pytest.raises(AssertionError):
        follow(text)
    assert not (tmp_path / "x_images.npz").exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ([X.astype(np.int64) - 128], ["range from -128 to 127", "bring the grey levels to 0..255"]),
        ([(X - 128).astype(np.int8)], ["int8", "bring the grey levels"]),
        ([X.astype(np.uint16) * 16], ["range from 0 to 4080", "bring the grey levels"]),
        ([X.astype(np.int64) // 128], ["range from 0 to 1", "255 * x"]),
        ([X.astype(np.int64) // 86 - 1], ["range from -1 to 1", "if they were floats, make them again"]),
        ([X / 50 - 2.5], ["float64", "bring the grey levels"]),
        ([X * 3.0 - 100], ["float64", "bring the grey levels"]),
        ([X / 255 - 0.1], ["float64", "bring the grey levels"]),
        ([np.where(X < 9, np.inf, X)], ["NaN or infinite", "make the images again"]),
        ([X + 0j], ["complex128", "save grey levels"]),
        ([X.astype(object)], ["object", "save grey levels"]),
        ([rng.normal(size=(9, 4, 8, 8))], ["(9, 4, 8, 8)", "decode them if they are latents"]),
        ([X.reshape(40, -1)], ["(40, 90)", "save images of that shape"]),
        ([LABELS], ["(40,)", "save images of that shape"]),
        ([np.float64(3)], ["shape ()", "save images of that shape"]),
        ([np.array("a cat")], ["shape ()", "save images of that shape"]),
        (
            [X, X[:, :3]],
            ["holds several arrays that may be images, arr_0 (40, 6, 5, 3), arr_1 (40, 3, 5, 3): save the"],
        ),
        ([X, X / 255], ["holds several arrays"]),
        ([X, LABELS[:30]], ["arr_0 holds 40 images, but arr_1 30 labels"]),
        ([X[:0]], ["holds no images"]),
        ([X[:, :0]], ["holds no images"]),
        ({"a": X, "b": X}, ["no arr_0, only a, b"]),
        ({"labels": LABELS}, ["no arr_0, only labels"]),
    ],
)
def test_where_nothing_is_certain_no_command_is_given(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", *arrays) if isinstance(arrays, list) else np.savez(tmp_path / "x.npz", **arrays)
    with refused(["x.npz", *words]):
        NpzImages(tmp_path / "x.npz")
    assert "python -c" not in message(lambda: NpzImages(tmp_path / "x.npz"))


def test_images_and_their_labels_are_taken(tmp_path):
    np.savez(tmp_path / "x.npz", X, LABELS, names=np.array(["a"]))
    assert len(NpzImages(tmp_path / "x.npz")) == 40


def test_images_that_are_nearly_black_are_noticed(tmp_path, caplog):
    np.savez(tmp_path / "x.npz", (X / 255).astype(np.uint8))
    NpzImages(tmp_path / "x.npz")
    assert "the first images hold only 0 and 1" in caplog.text


def test_a_folder_is_no_npz(tmp_path):
    with refused(["is a folder"]):
        NpzImages(Path(tmp_path))
