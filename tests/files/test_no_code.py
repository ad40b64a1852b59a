"""Files that never run code: what docs/security.md says of them, tried with files that hold some."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ditexp.checkpoint.container import read_checkpoint
from ditexp.condition.prompts import Prompts
from ditexp.feature.weights import Weights
from ditexp.images.folder import FolderImages
from ditexp.images.npz import NpzImages
from ditexp.model.text_encoder import TextEncoder
from ditexp.reference.npz import NpzReference
from ditexp.report.studies.published import load
from ditexp.result import read_result
from ditexp.samples.block_format import decode
from ditexp.samples.store import SampleStore
from ditexp.task.direction import Given
from ditexp.train.checkpoint import read_state
from tests.helpers.paths import WEIGHTS

TEXT = WEIGHTS / "digits_text"
RAN = "ran"  # a file that the code would leave in the working folder


class Evil:
    """Whoever unpickles it runs code."""

    def __reduce__(self):
        return os.mkdir, (RAN,)


PICKLE = pickle.dumps(Evil())
EVIL = np.array([[Evil()]], dtype=object)
YAML = f"title: !!python/object/apply:os.mkdir [{RAN}]\nsources: {{}}\nrows: []\n"
PYTHON = f"import os\nos.mkdir('{RAN}')\n"


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def torch_file(value: object) -> Callable[[Path], None]:
    return lambda path: torch.save(value, path)


def text_file(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text)


def bytes_file(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)


def weights_of(path: Path) -> dict:
    return Weights(str(path), url="x/f", published="").load()


def images_in(path: Path) -> list:
    return list(FolderImages(path.parent, channels=3, settings=None).blocks())


FILES: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "checkpoint": ("a.pt", torch_file({"model": Evil()}), lambda path: read_checkpoint(path, name=str(path))),
    "pickle as checkpoint": ("a.pth", bytes_file(PICKLE), lambda path: read_checkpoint(path, name=str(path))),
    "pickle as safetensors": ("a.safetensors", bytes_file(PICKLE), lambda path: read_checkpoint(path, name=str(path))),
    "training's checkpoint": ("checkpoint.pt", torch_file({"settings": Evil()}), read_state),
    "feature's weights": ("f.pth", torch_file({"w": Evil()}), weights_of),
    "direction .pt": ("d.pt", torch_file(Evil()), lambda path: Given(str(path))),
    "direction .npy": ("d.npy", bytes_file(npy(EVIL)), lambda path: Given(str(path))),
    "npz images": ("i.npz", lambda path: np.savez(path, arr_0=EVIL), lambda path: list(NpzImages(path).blocks())),
    "npz labels": (
        "i.npz",
        lambda path: np.savez(path, np.zeros((1, 8, 8, 3), np.uint8), EVIL),
        lambda path: list(NpzImages(path).blocks()),
    ),
    "npz statistics": ("s.npz", lambda path: np.savez(path, mu=EVIL, sigma=EVIL), lambda path: NpzReference(str(path))),
    "pickled statistics": ("s.pkl", bytes_file(PICKLE), lambda path: NpzReference(str(path))),
    "block": ("0.npy.gz", bytes_file(gzip.compress(npy(EVIL) * 2)), lambda path: decode(path.read_bytes())),
    "published.yaml": ("published.yaml", text_file(YAML), load),
    "prompts": ("p.txt", text_file("${oc.env:HOME} `touch ran` $(touch ran)\n"), lambda path: Prompts(file=str(path))),
    "result": ("cell.json", text_file('{"id": "!!python/object/apply:os.mkdir [ran]"}'), read_result),
    "set": (
        "set.json",
        text_file('{"_target_": "os.mkdir", "path": "ran"}'),
        lambda path: SampleStore.find(path.parent),
    ),
    "image": ("a.png", bytes_file(PICKLE), images_in),
}


@pytest.mark.parametrize("kind", FILES)
def test_no_file_runs_code(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    name, write, read = FILES[kind]
    write(tmp_path / "files" / name)
    try:
        read(tmp_path / "files" / name)
    except Exception as error:
        assert isinstance(error, ValueError) or kind in ("block", "feature's weights"), repr(error)
    assert not Path(RAN).exists()


def test_what_these_tests_look_for_would_be_seen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Evil()))
    assert Path(RAN).is_dir()


def test_texts_of_published_yaml_are_not_resolved(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "of this machine")
    source = {"title": "${oc.env:SECRET}", "read": "x"}
    row = {"name": "${oc.env:SECRET}", "source": "s", "where": "x", "settings": {}, "numbers": {"fid": 1}}
    study = {"title": "x", "sources": {"s": source}, "rows": [row], "tolerance": {"fid": {"within": 1, "because": "x"}}}
    (tmp_path / "published.yaml").write_text(json.dumps(study))
    published = load(tmp_path / "published.yaml")
    assert "of this machine" not in str(published)


def encoder_with_code(folder: Path) -> None:
    """As a model of the hub that brings its own code."""
    (folder / "modeling.py").write_text(f"{PYTHON}from transformers import PreTrainedModel as Model\n")
    auto = {"AutoConfig": "modeling.Model", "AutoModel": "modeling.Model", "AutoTokenizer": ["modeling.Model", None]}
    (folder / "config.json").write_text(json.dumps({"model_type": "unheard-of", "auto_map": auto}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto, "tokenizer_class": "Unheard"}))


def test_a_text_encoder_brings_no_code_of_its_own(tmp_path, monkeypatch):
    """Nor is anybody asked to let it run."""
    pytest.importorskip("transformers", reason="the text extra is not installed")
    encoder_with_code(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *question: pytest.fail(str(question)))
    with pytest.raises(ValueError, match=r"no tokenizer at|no text encoder at"):
        TextEncoder.load(str(tmp_path), str(tmp_path))
    assert not Path(RAN).exists()


@pytest.mark.slow
def test_nor_does_it_in_a_pickle(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers", reason="the text extra is not installed")
    shutil.copytree(TEXT / "tokenizer", tmp_path / "tokenizer")
    config = transformers.AutoConfig.from_pretrained(TEXT / "text_encoder")
    config.save_pretrained(tmp_path / "encoder")
    torch.save({"weight": Evil()}, tmp_path / "encoder" / "pytorch_model.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        TextEncoder.load(str(tmp_path / "tokenizer"), str(tmp_path / "encoder"))
    assert not Path(RAN).exists()
