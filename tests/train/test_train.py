"""Training as users meet it: it learns, it resumes to the bit, it refuses what cannot work, and its file samples."""

from __future__ import annotations

import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch._utils import ExceptionWrapper

from ditexp.data import Digits, ImageFolder, ShuffledBatches
from ditexp.feature.digits import DigitsClassifier, DigitsFeature
from ditexp.model.dit import DiT
from ditexp.model.pretrained import PretrainedDiT
from ditexp.train import __main__ as command
from ditexp.train import data, training
from ditexp.train.checkpoint import Checkpoint
from ditexp.train.loading import plain_errors
from ditexp.train.loop import decay
from ditexp.train.objective import FlowMatching
from ditexp.values import Condition
from tests.helpers import commands, holds
from tests.helpers.holds import wait_for

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


@pytest.mark.slow
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(train, tmp_path):
    arguments = (*TINY, "steps=30", "save_every=10")
    straight = train(*arguments)
    assert straight.code == 0 and "trained: " in straight.output, straight.output
    expected = (tmp_path / "trained" / "model.safetensors").read_bytes()

    killed = tmp_path / "killed"
    again = (f"folder={killed}", f"hydra.run.dir={tmp_path / 'runs'}", *arguments)
    second = holds.as_it_writes(".checkpoint.pt.", in_place_of=killed / "checkpoint.pt")
    command = commands.start(tmp_path / "killed.log", "ditexp.train", *again, patches=second)
    wait_for(lambda: len(list(killed.glob("*checkpoint.pt*"))) == 2, command)
    command.process.kill()
    command.wait()
    assert not (killed / "model.safetensors").exists()
    assert torch.load(killed / "checkpoint.pt")["step"] == 10
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


@pytest.mark.slow
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
    assert ditexp("model=checkpoint", f"model.checkpoint={file}", *guided).code == 0
    (result,) = (tmp_path / "outputs" / "results").glob("*.json")
    result = json.loads(result.read_text())
    assert result["cost"]["forwards"] == 4 and result["class_names"] == Digits.class_names


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
    assert DigitsFeature(weights=str(file)).class_names == Digits.class_names
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


def test_an_error_of_a_loading_process_is_one_plain_line():
    def batches():
        try:
            raise ValueError("a.png is of mode L")
        except ValueError:
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()  # as torch does
        yield

    with pytest.raises(ValueError) as error:
        list(plain_errors(batches(), workers=1))
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
        (["objective.label_dropout=2"], "objective.label_dropout=2: give a number of at least 0 and below 1"),
        (["device=tpu0"], "device=tpu0: choose auto, cpu, cuda or cuda:N"),
        (["data=folder", "data.path=/missing", "data.size=8"], "/missing is not a folder"),
        (["data=folder", "data.path=/"], "data.size has no default: give data.size=..."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_before_any_work(arguments, complaint, in_process):
    ended = in_process("folder=trained", "hydra.run.dir=runs", *arguments, command="train")
    assert ended.code == 2 and not ended.out, ended.out
    assert ended.err.splitlines() == [f"ditexp: {line}" for line in ended.complaints]
    assert len(ended.complaints) == 1 and complaint in ended.complaints[0], ended.err
    assert not Path("trained").exists()


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


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Train a tiny network in this process, in tmp_path/run: its exit code and all that it says."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ditexp", "folder=run", "hydra.run.dir=runs", *TINY, *arguments])
        try:
            command.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        return code, "".join(capsys.readouterr())

    return run


def state_of(folder: str = "run") -> dict:
    return torch.load(Path(folder, "checkpoint.pt"), weights_only=True)


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [
        ("ema=1", "give a number of at least 0 and below 1"),
        ("ema=1.5", "give a number of at least 0 and below 1"),
        ("ema=-0.1", "give a number of at least 0 and below 1"),
        ("ema=.nan", "give a number of at least 0 and below 1"),
        ("ema=null", "give a number of at least 0 and below 1"),
        ("ema_warmup=1", "choose true or false"),
        ("learning_rate=0", "give a number above 0"),
        ("learning_rate=-1e-3", "give a number above 0"),
        ("learning_rate=.inf", "give a number above 0"),
        ("learning_rate=high", "give a number above 0"),
        ("learning_rate=true", "give a number above 0"),
        ("weight_decay=-1", "give a number of at least 0"),
        ("clip_gradient=-1", "give a number of at least 0"),
        ("clip_gradient=.nan", "give a number of at least 0"),
        ("warmup=-1", "give a whole number of at least 0"),
        ("workers=-1", "give a whole number of at least 0"),
        ("seed=-1", "give a whole number of at least 0"),
        ("seed=100000000000000", "give a whole number of at most 10,000,000,000,000"),
        ("objective.label_dropout=1", "give a number of at least 0 and below 1"),
        ("objective.label_dropout=.nan", "give a number of at least 0 and below 1"),
    ],
)
def test_a_number_that_no_training_can_have_is_refused(argument, remedy, here):
    code, output = here("steps=3", argument)
    (line,) = output.splitlines()
    assert code == 2 and f"ditexp: {argument.partition('=')[0]}=" in line and remedy in line, line
    assert not Path("run").exists()


def test_a_training_that_fails_stops_and_keeps_the_last_good_checkpoint(here, monkeypatch):
    assert here("steps=8", "save_every=2", "learning_rate=1e30", "clip_gradient=1e30")[0] == 1
    assert list(Path("run").iterdir()) == []
    losses = iter([0.9, 0.8, 0.7, float("nan")])

    def loss(self, network, images, labels, generator):
        return network(images, torch.zeros(len(images)), labels).square().mean() + next(losses)

    with monkeypatch.context() as patched:
        patched.setattr(training, "check", lambda *_: None)
        patched.setattr(FlowMatching, "__call__", loss)
        code, output = here("steps=8", "save_every=2")
    (line,) = [line for line in output.splitlines() if line.startswith("ditexp: ")]
    assert code == 1 and line.startswith("ditexp: the loss of step 4 is not finite, at a learning rate of ")
    assert "the last good checkpoint is kept: run/checkpoint.pt" in line
    assert state_of()["step"] == 2 and [file.name for file in Path("run").iterdir()] == ["checkpoint.pt"]
    assert here("steps=8", "save_every=2")[0] == 0  # it goes on from there


def test_weights_that_overflow_never_become_a_checkpoint(here, monkeypatch):
    step = torch.optim.AdamW.step

    def overflow(self, *arguments):
        step(self, *arguments)
        self.param_groups[0]["params"][3].data[0] = float("inf")

    monkeypatch.setattr(torch.optim.AdamW, "step", overflow)
    code, output = here("steps=1", "save_every=1")
    assert code == 1 and "after step 1, " in output and "is not finite" in output
    assert list(Path("run").iterdir()) == []


def test_a_checkpoint_of_lost_weights_is_refused(here):
    assert here("steps=2")[0] == 0
    state = state_of()
    next(iter(state["ema"].values())).fill_(float("nan"))
    torch.save(state, "run/checkpoint.pt")
    code, output = here("steps=2")
    assert code == 2 and "its training has failed" in output and "trained: " not in output


@pytest.mark.parametrize("off", ["0", "null"])
def test_without_clipping_gradients_stay_as_they_are(off, here):
    assert here("steps=3", f"clip_gradient={off}")[0] == 0
    shutil.move("run", "off")
    assert here("steps=3", "clip_gradient=1e9")[0] == 0
    ours, theirs = (load_file(f"{folder}/model.safetensors") for folder in ("off", "run"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert any(not torch.equal(ours[key], value) for key, value in untrained().state_dict().items())


def test_what_changes_no_weight_may_change_on_the_way(here):
    assert here("steps=4", "save_every=4")[0] == 0
    expected = Path("run/model.safetensors").read_bytes()
    shutil.rmtree("run")
    assert here("steps=4", "save_every=2")[0] == 0
    half = state_of() | {"step": 4}
    Path("run/model.safetensors").unlink()
    torch.save(half, "run/checkpoint.pt")
    code, output = here("steps=4", "save_every=1", "device=cpu", "workers=1")
    assert code == 0, output
    assert Path("run/model.safetensors").read_bytes() == expected


def test_the_same_training_is_the_same_file_whoever_writes_it(here, train, tmp_path):
    """Several keys of metadata lie in safetensors' files as chance has it, another in each process."""
    assert here("steps=2")[0] == 0
    with safe_open("run/model.safetensors", "pt") as file:
        assert list(file.metadata()) and set(file.metadata()) >= {"architecture", "class_names", "data", "training"}
    header = Path("run/model.safetensors").read_bytes()
    header = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    assert list(header["__metadata__"]) == sorted(header["__metadata__"])
    assert train(*TINY, "steps=2").code == 0
    assert (tmp_path / "trained" / "model.safetensors").read_bytes() == Path("run/model.safetensors").read_bytes()


def grey_folders(*names: str) -> Path:
    for number, name in enumerate(names):
        Path("data", name).mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * number).save(Path("data", name, "0.png"))
    return Path("data")


OF_GREY = ("data=folder", "data.size=8", "data.channels=1", "network.num_classes=4", "steps=4")


def test_images_that_changed_are_refused_finished_or_not(here):
    grey_folders("a", "b", "c")
    arguments = (*OF_GREY, "data.path=data")
    code, output = here(*arguments)
    assert code == 0 and "the network has 4 classes, the data 3: labels from 3 on are never trained" in output
    assert here(*arguments)[1].startswith("already trained")
    grey_folders("aa")  # b and c become 2 and 3
    for step in (4, 2):
        torch.save(state_of() | {"step": step}, "run/checkpoint.pt")
        code, output = here(*arguments)
        assert code == 2
        assert "of other images (3 then, 4 now; classes a, b, c then, a, aa, b, c now): give another" in output
    shutil.rmtree("data/aa")
    Image.new("L", (8, 8), 200).save("data/a/0.png", compress_level=0)
    code, output = here(*arguments)
    assert code == 2 and "of other images (with other contents or names)" in output


def test_images_may_lie_elsewhere(here):
    grey_folders("a", "b", "c")
    assert here(*OF_GREY, "data.path=data")[0] == 0
    shutil.move("data", "elsewhere")
    assert "already trained" in here(*OF_GREY, "data.path=elsewhere")[1]


def as_before() -> None:
    """Make of a checkpoint one that knows neither what its images were nor how averages are warmed up."""
    state = state_of()
    settings = json.loads(state["settings"]) | {"save_every": 2}
    settings["data"] |= {"path": "data"} if settings["data"]["_target_"].endswith("ImageFolder") else {}
    del state["data"], settings["ema_warmup"]
    torch.save(state | {"settings": json.dumps(settings)}, "run/checkpoint.pt")


def test_a_checkpoint_of_before_goes_on_as_it_began(here, monkeypatch):
    assert here("steps=4", "ema_warmup=false")[0] == 0
    expected = load_file("run/model.safetensors")
    shutil.rmtree("run")
    with monkeypatch.context() as patched:
        patched.setattr(training, "write_model", exit)  # killed after its second checkpoint
        patched.setattr(Checkpoint, "save", saved_until(2, Checkpoint.save))
        here("steps=4", "save_every=2", "ema_warmup=false")
    as_before()
    code, output = here("steps=4")
    assert code == 0 and "run/checkpoint.pt began without ema_warmup, and continues without it" in output
    ours = load_file("run/model.safetensors")
    assert all(torch.equal(ours[key], expected[key]) for key in ours)
    as_before()
    assert here("steps=4")[1].startswith("already trained")


def saved_until(last: int, save):
    return lambda self, *, step, **state: save(self, step=step, **state) if step <= last else None


def test_a_checkpoint_of_folders_numbered_as_text_is_refused(here, monkeypatch):
    grey_folders("0", "1", "2", "10")
    arguments = (*OF_GREY, "data.path=data", "network.num_classes=11")
    assert here(*arguments)[0] == 0
    as_before()
    names = {"images": 4, "class_names": [str(label) for label in range(11)], "labels": [0, 1, 2, 10]}
    monkeypatch.setattr(training, "facts_of", lambda data: names | {"identity": {"data": "of four classes"}})
    code, output = here(*arguments)
    assert code == 2 and "numbered as text: 2 was label 3 and is 2 now" in output


def test_images_of_ones_own_are_known_by_their_path():
    class Images:
        num_classes = 3

        def __len__(self):
            return 7

    facts = data.facts_of(Images())
    assert facts == {"images": 7, "class_names": [], "labels": [], "identity": {}}
    config = {"data": {"_target_": "mine.Images", "path": "here"}, "clip_gradient": 0, "workers": 1}
    assert Checkpoint(Path("checkpoint.pt"), config, facts).settings == {"data": config["data"], "clip_gradient": None}


def test_the_random_start_is_soon_forgotten():
    def share_of_start(steps: int, **settings) -> float:
        return float(np.prod([decay(step, **settings) for step in range(steps)]))

    assert share_of_start(300, ema=0.999, warmup=False) == pytest.approx(0.741, abs=1e-3)
    assert share_of_start(300, ema=0.999, warmup=True) < 1e-12
    assert decay(10**6, ema=0.999, warmup=True) == 0.999 and decay(0, ema=0.05, warmup=True) == 0.05


def test_odd_settings_give_notices(here):
    code, output = here("steps=2", "batch_size=2000")
    assert code == 0
    assert "warmup=2: the learning rate still rises when steps=2 end" in output
    assert "batch_size=2000: there are 1797 images, so that a batch holds some of them twice" in output


def test_names_of_classes_are_in_the_file(here):
    grey_folders("cats", "dogs")
    assert here(*OF_GREY, "data.path=data", "network.num_classes=2")[0] == 0
    model = PretrainedDiT(checkpoint="run/model.safetensors")
    assert model.class_names == ("cats", "dogs") and "cats" not in str(model.identity)
    assert PretrainedDiT(checkpoint="run/checkpoint.pt", num_heads=2).class_names == ("cats", "dogs")
    shutil.rmtree("run")
    assert here(*OF_GREY, "data.path=data", "network.num_classes=0")[0] == 0
    assert PretrainedDiT(checkpoint="run/model.safetensors").class_names == ()
