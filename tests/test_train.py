"""Training as users meet it: it learns, it resumes to the bit, it refuses what cannot work, and its file samples."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch._utils import ExceptionWrapper

from ditexp.core import Condition
from ditexp.data import Digits, ImageFolder, ShuffledBatches
from ditexp.feature.digits import DigitsClassifier
from ditexp.model.dit import DiT
from ditexp.model.pretrained import PretrainedDiT
from ditexp.objective import FlowMatching
from ditexp.train import plain_errors
from tests import commands

TINY = ("network.hidden_size=16", "network.depth=1", "network.num_heads=2", "batch_size=16", "warmup=2")
CLASSIFIER = ("network=digits_classifier", "objective=classifier", "batch_size=64", "warmup=2")


@pytest.fixture
def train(ditexp, tmp_path):
    return lambda *arguments, **options: ditexp(
        f"folder={tmp_path / 'trained'}",
        f"hydra.run.dir={tmp_path / 'runs'}",
        *arguments,
        module="ditexp.train",
        **options,
    )


def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(train, tmp_path):
    arguments = (*TINY, "steps=100", "save_every=10")
    straight = train(*arguments)
    assert straight.code == 0 and "trained: " in straight.output, straight.output
    expected = (tmp_path / "trained" / "model.safetensors").read_bytes()

    killed = tmp_path / "killed"
    again = (f"folder={killed}", f"hydra.run.dir={tmp_path / 'runs'}", *arguments)
    command = commands.start(tmp_path / "killed.log", "ditexp.train", *again)
    while not (killed / "checkpoint.pt").exists() and command.process.is_alive():
        time.sleep(0.001)
    command.process.kill()
    command.wait()
    assert not (killed / "model.safetensors").exists()
    assert 0 < torch.load(killed / "checkpoint.pt")["step"] < 100
    assert train(*again).code == 0
    assert (killed / "model.safetensors").read_bytes() == expected

    (killed / "model.safetensors").unlink()  # killed between the last checkpoint and this file
    assert train(*again).code == 0
    assert (killed / "model.safetensors").read_bytes() == expected
    assert sorted(file.name for file in killed.iterdir()) == ["checkpoint.pt", "model.safetensors"]


def test_a_finished_training_is_left_alone_and_other_settings_are_refused(train, tmp_path):
    assert train(*TINY, "steps=3").code == 0
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "trained").iterdir()}
    again = train(*TINY, "steps=3", "device=cpu")
    assert again.code == 0 and again.output == f"already trained: {tmp_path / 'trained' / 'model.safetensors'}\n"
    other = train(*TINY, "steps=4", "learning_rate=0.1")
    assert other.code == 2 and len(other.output.splitlines()) == 1
    assert "was made with other settings (learning_rate, steps): give another folder=" in other.complaints[0]
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "trained").iterdir()}


def untrained() -> DiT:
    """What training with TINY begins with."""
    sizes = {"input_size": 8, "patch_size": 2, "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2}
    torch.manual_seed(0)
    return DiT(**sizes, num_classes=10)


def label_table(network: DiT) -> torch.Tensor:
    return network.y_embedder.embedding_table.weight


@torch.no_grad()
def test_it_learns_and_its_file_samples(train, ditexp, tmp_path):
    assert train(*TINY, "steps=200", "learning_rate=0.005", "ema=0.9").code == 0
    file = tmp_path / "trained" / "model.safetensors"
    trained = PretrainedDiT(checkpoint=str(file)).network
    images, labels = Digits()[:]
    before, after = (
        FlowMatching()(net, images, labels, torch.Generator().manual_seed(7)) for net in (untrained(), trained)
    )
    assert after < 0.6 * before
    change = (label_table(trained) - label_table(untrained())).abs().amax(1)
    assert len(change) == 11 and change.min() > 0.01, change  # every class, and the null one of dropped labels
    x, t = torch.randn(1, 1, 8, 8), torch.full((1,), 0.5)
    assert not torch.equal(trained(x, t, torch.tensor([3])), trained(x, t, torch.tensor([10])))

    guided = ("num_samples=32", "batch_size=32", "steps=2", "guidance=cfg", "guidance.weight=1")
    assert ditexp("model=dit", f"model.checkpoint={file}", *guided).code == 0
    (result,) = (tmp_path / "outputs" / "results").glob("*.json")
    assert json.loads(result.read_text())["cost"]["forwards"] == 4


def test_only_dropped_labels_train_the_null_class(train, tmp_path):
    assert train(*TINY, "steps=5", "objective.label_dropout=1e-9").code == 0
    trained = PretrainedDiT(checkpoint=str(tmp_path / "trained" / "model.safetensors")).network
    changed = (label_table(trained) != label_table(untrained())).any(1)
    assert changed.tolist() == 10 * [True] + [False]


def test_without_dropped_labels_there_is_no_null_class(train, tmp_path):
    arguments = (*TINY, "steps=2", "objective.label_dropout=0")
    refused = train(*arguments)
    assert refused.code == 2 and "never trains the null class: give +network.has_null=false" in refused.complaints[0]
    assert train(*arguments, "+network.has_null=false").code == 0
    model = PretrainedDiT(checkpoint=str(tmp_path / "trained" / "model.safetensors"))
    assert (model.num_classes, model.has_null) == (10, False)
    assert model(torch.zeros(1, 1, 8, 8), torch.zeros(1), Condition(torch.tensor([9]))).shape == (1, 1, 8, 8)


def test_a_classifier_learns_the_digits(train, tmp_path):
    assert train(*CLASSIFIER, "steps=120", "learning_rate=0.003", "ema=0.9").code == 0
    file = tmp_path / "trained" / "model.safetensors"
    network = DigitsClassifier()
    network.load_state_dict(load_file(file))
    images, labels = Digits()[:]
    assert (network(images)[1].argmax(1) == labels).float().mean() > 0.8
    with safe_open(file, "pt") as opened:
        assert json.loads(opened.metadata()["training"])["steps"] == 120


def class_folders(root: Path) -> Path:
    """Two classes of 6 x 6 images, of 0 and of 255; the second is a link, as subsets of ImageNet are."""
    for folder, level in ((root / "data" / "cats", 0), (root / "elsewhere", 255)):
        folder.mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (6, 6), (level, 0, 255)).save(folder / f"{index}.png")
    (root / "data" / "dogs").symlink_to(root / "elsewhere")
    return root / "data"


def of_folder(path: Path) -> tuple[str, ...]:
    network = ("network.input_size=6", "network.in_channels=3", "network.num_classes=2")
    return (*TINY, *network, "data=folder", f"data.path={path}", "data.size=6", "steps=3")


def test_images_come_from_class_folders(train, tmp_path):
    data = ImageFolder(path=str(class_folders(tmp_path)), size=6)
    assert len(data) == 6 and data.num_classes == 2
    assert [label.item() for _, label in data] == [0, 0, 0, 1, 1, 1]
    image, _ = data[4]
    assert image.shape == (3, 6, 6) and image.dtype == torch.float32
    assert image[:, 2, 3].tolist() == [1, -1, 1]
    assert train(*of_folder(tmp_path / "data")).code == 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: Image.new("L", (6, 6)).save(file), "is of mode L, not RGB (data.channels=3): convert it"),
        (lambda file: Image.new("RGB", (6, 5)).save(file), "is 6 x 5, expected 6 x 6: bring all images to one size"),
        (lambda file: file.write_text("no image"), "cannot be read"),
        (lambda file: file.write_bytes(file.read_bytes()[:45]), "cannot be read (image file is truncated"),
    ],
    ids=["mode", "size", "text", "truncated"],
)
def test_an_image_that_does_not_fit_is_named_in_one_line(spoil, reason, train, tmp_path):
    file = class_folders(tmp_path) / "cats" / "1.png"
    spoil(file)
    command = train(*of_folder(tmp_path / "data"))
    assert command.code == 2 and "Traceback" not in command.output, command.output
    (complaint,) = command.complaints
    assert complaint.startswith(f"{file} {reason}")


def test_an_error_of_a_loading_process_is_told_as_plainly():
    def batches():
        try:
            raise ValueError("a.png is of mode L")
        except ValueError:
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()  # as torch does
        yield

    with pytest.raises(ValueError) as error:
        list(plain_errors(batches()))
    assert str(error.value) == "a.png is of mode L"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["steps=0"], "steps=0: give a whole number of at least 1"),
        (["save_every=0"], "save_every=0: give a whole number of at least 1"),
        (["batch_size=2.5"], "batch_size=2.5: give a whole number of at least 1"),
        (["network=dit_m_2"], "unknown network 'dit_m_2'; did you mean network="),
        (["network.depht=2"], "unknown key 'network.depht'; did you mean network.depth?"),
        (["network.num_heads=5"], "hidden_size=96 one of num_heads=5"),
        (["network.num_classes=3"], "the data has 10 classes, the network 3: set network.num_classes"),
        (["network.input_size=16"], "the images are 8 x 8, the network 16 x 16: set network.input_size"),
        (["network.in_channels=3"], "DiT cannot be trained by FlowMatching on images of 1 x 8 x 8 in 10 classes"),
        (["network=digits_classifier"], "DigitsClassifier cannot be trained by FlowMatching"),
        (["objective=classifier"], "DiT cannot be trained by Classification"),
        (["objective.label_dropout=2"], "objective.label_dropout=2: give a share between 0 and 1"),
        (["device=tpu0"], "device=tpu0: choose auto, cpu, cuda or cuda:N"),
        (["data=folder", "data.path=/missing", "data.size=8"], "/missing is not a folder"),
        (["data=folder", "data.path=/"], "data.size has no default: give data.size=..."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_before_any_work(arguments, complaint, train, tmp_path):
    command = train(*arguments)
    assert command.code == 2, command.output
    assert command.output.splitlines() == [f"ditexp: {line}" for line in command.complaints]
    assert len(command.complaints) == 1 and complaint in command.complaints[0], command.output
    assert not (tmp_path / "trained").exists()


def test_images_outside_class_folders_are_refused(tmp_path):
    Image.new("RGB", (6, 6)).save(class_folders(tmp_path) / "stray.png")
    with pytest.raises(ValueError, match=r"stray.png is in no class folder: move it"):
        ImageFolder(path=str(tmp_path / "data"), size=6)


def test_batches_are_permutations_and_resume_where_they_stopped():
    settings = {"length": 10, "batch_size": 4, "seed": 3}
    straight = list(ShuffledBatches(**settings, start=0, stop=25))
    assert [len(batch) for batch in straight] == [4] * 25
    epochs = np.concatenate(straight).reshape(10, 10).tolist()
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert all(one != next_one for one, next_one in pairwise(epochs))
    for start in (1, 2, 5, 24):
        assert list(ShuffledBatches(**settings, start=start, stop=25)) == straight[start:]
    assert list(ShuffledBatches(**settings | {"seed": 4}, start=0, stop=25)) != straight
