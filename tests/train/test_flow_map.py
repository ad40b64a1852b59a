"""Training a model of two times: the objective on a map that is known exactly, its first weights, and its file."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ditexp.core import FlowModel
from ditexp.model.analytic import GaussianMixture
from ditexp.model.dit import DiT
from ditexp.model.flow_map_network import FlowMapNetwork
from ditexp.model.mean_flow import MeanFlowDiT
from ditexp.model.pretrained import PretrainedDiT
from ditexp.model.pretrained_flow_map import PretrainedFlowMap
from ditexp.train import __main__ as command
from ditexp.train.checkpoint import Checkpoint
from ditexp.train.flow_map import FlowMapDistillation
from ditexp.train.objective import FlowMatching
from ditexp.values import Condition
from tests.helpers.flow_maps import GaussianFlowMap
from tests.helpers.paths import WEIGHTS
from tests.helpers.refusals import refused

SMALL = {"num_classes": 3, "shape": (1, 4, 4), "std": 0.4}
SIZES = {"input_size": 4, "patch_size": 2, "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2}
IMAGES, LABELS = torch.zeros(12, 1, 4, 4), torch.arange(12) % 3


def objective(teacher: FlowModel | None = None, **settings) -> FlowMapDistillation:
    settings = {"from_teacher": False, **settings}
    return FlowMapDistillation(teacher=teacher or GaussianMixture(components=1, **SMALL), **settings)


def loss(of: FlowMapDistillation, network) -> float:
    return of(network, IMAGES, LABELS, torch.Generator().manual_seed(0)).item()


class Exact(FlowMapNetwork):
    """The network of a flow map that is known. stretch: of the span, 1 for the true map."""

    has_null, label_table = False, torch.zeros(0)

    def __init__(self, stretch: float = 1.0) -> None:
        super().__init__()
        self.map, self.stretch = GaussianFlowMap(**SMALL), stretch

    def average(self, x, t, span, labels=None, guidance=None) -> Tensor:
        until, is_moment = t + self.stretch * span, (self.stretch * span == 0).view(-1, 1, 1, 1)
        condition = Condition(labels)
        return torch.where(is_moment, self.map(x, t, condition), self.map.average_velocity(x, t, condition, until))


def test_the_loss_of_a_true_map_is_zero_and_falls_with_the_square_of_the_paths_steps():
    """Paths are of order 2, so that the loss, a square, is of order 4."""
    losses = [loss(objective(steps=steps, pairs=4), Exact()) for steps in (16, 32, 64)]
    assert losses[2] < 1e-5
    assert losses[0] / losses[1] == pytest.approx(16, rel=0.5) and losses[1] / losses[2] == pytest.approx(16, rel=0.5)


@pytest.mark.parametrize("stretch", [0.0, 0.8])
def test_the_loss_of_another_map_is_not(stretch):
    """0: the velocity, in place of its average."""
    assert loss(objective(steps=64), Exact(stretch)) > 1000 * loss(objective(steps=64), Exact())


def test_guidance_is_inside_the_map():
    teacher, x, t = GaussianMixture(components=1, **SMALL), torch.randn(12, 1, 4, 4), torch.full((12,), 0.5)
    condition = Condition(LABELS)
    v, null = teacher(x, t, condition), teacher(x, t, teacher.null(condition))
    guided = objective(teacher, guidance_scale=3).velocity(x, t, condition)
    torch.testing.assert_close(guided, null + 3 * (v - null))
    assert (guided - v).abs().max() > 0.1


def test_a_network_learns():
    torch.manual_seed(0)
    network, of = MeanFlowDiT(**SIZES, num_classes=3, has_null=False), objective(pairs=4)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    before = loss(of, network)
    for step in range(40):
        optimizer.zero_grad()
        of(network, IMAGES, LABELS, torch.Generator().manual_seed(1 + step)).backward()
        optimizer.step()
    assert loss(of, network) < 0.5 * before


def test_a_network_begins_as_its_teacher():
    teacher = PretrainedDiT(checkpoint=str(WEIGHTS / "digits_dit.safetensors"))
    sizes = {"input_size": 8, "patch_size": 2, "in_channels": 1, "depth": 4, "num_heads": 3, "num_classes": 10}
    network = MeanFlowDiT(**sizes, hidden_size=96, has_null=False)
    objective(teacher, from_teacher=True).begin(network)
    x, t, span, labels = torch.randn(10, 1, 8, 8), torch.linspace(0, 0.5, 10), torch.full((10,), 0.5), torch.arange(10)
    with torch.no_grad():
        torch.testing.assert_close(network.average(x, t, span, labels), teacher(x, t, Condition(labels)))
    assert network.r_embedder.mlp[0].weight.std() > 0  # it can learn
    for wrong in ({"hidden_size": 48}, {"hidden_size": 96, "depth": 3}, {"hidden_size": 96, "depth": 5}):
        other = MeanFlowDiT(**{**sizes, **wrong}, has_null=False)
        with refused(["objective.from_teacher=true", "give the network its sizes", "choose false"]):
            objective(teacher, from_teacher=True).begin(other)
    with refused(["objective.from_teacher=true"]):
        objective(from_teacher=True).begin(network)


class Diffusion(GaussianMixture):
    start = 0.01


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: objective(GaussianFlowMap()), ["objective.teacher", "two times", "model@objective.teacher=digits"]),
        (lambda: objective(Diffusion()), ["objective.teacher", "t = 0.01", "choose a flow"]),
        (lambda: objective(steps=0), ["objective.steps=0", "at least 1"]),
        (lambda: objective(pairs=0), ["objective.pairs=0", "at least 1"]),
        (lambda: objective(whole=2), ["objective.whole=2", "at most 1"]),
        (lambda: objective(guidance_scale="strong"), ["objective.guidance_scale=strong", "give a number"]),
        (lambda: objective(from_teacher="yes"), ["objective.from_teacher=yes", "true or false"]),
        (lambda: loss(objective(GaussianMixture()), Exact()), ["samples of 1 x 8 x 8", "images are 1 x 4 x 4"]),
        (lambda: loss(objective(), MeanFlowDiT(**SIZES, num_classes=3)), ["null class", "network.has_null=false"]),
        (lambda: loss(objective(), DiT(**SIZES, num_classes=3)), ["network of two times", "digits_flow_map", "DiT"]),
        (lambda: objective()(Exact(), IMAGES, ["a 3"] * 12, torch.Generator()), ["captions", "data=digits"]),
        (lambda: loss(FlowMatching(), MeanFlowDiT(**SIZES, num_classes=3)), ["objective=flow", "two", "flow_map"]),
    ],
)
def test_what_cannot_be_trained_is_refused(make, words):
    with refused(words):
        make()


TINY = ("network=digits_flow_map", "network.hidden_size=16", "network.depth=1", "network.num_heads=2", "batch_size=4")
OF_MAP = (*TINY, "objective=flow_map", "objective.from_teacher=false", "objective.steps=2", "steps=4", "save_every=2")


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Train in this process, in tmp_path/run: its exit code and all that it says."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ditexp", "folder=run", "hydra.run.dir=runs", *arguments])
        try:
            command.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        return code, "".join(capsys.readouterr())

    return run


class Killed(BaseException):
    pass


def test_its_training_resumes_and_its_file_is_a_model_of_two_times(train, monkeypatch):
    assert train(*OF_MAP)[0] == 0
    expected = Path("run/model.safetensors").read_bytes()
    shutil.move("run", "straight")

    def save(self, **state):
        kept(self, **state)
        raise Killed

    kept = Checkpoint.save
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Checkpoint, "save", save)
        train(*OF_MAP)
    assert torch.load("run/checkpoint.pt", weights_only=True)["step"] == 2
    assert train(*OF_MAP)[0] == 0
    assert Path("run/model.safetensors").read_bytes() == expected

    shutil.copy(WEIGHTS / "digits_dit.safetensors", "elsewhere.safetensors")  # a teacher is known by its weights
    assert "already trained" in train(*OF_MAP, "objective.teacher.checkpoint=elsewhere.safetensors")[1]
    code, output = train(*OF_MAP, "model@objective.teacher=digits_sizes")
    assert code == 2 and "made with other settings (objective)" in output

    path, digits = "run/model.safetensors", str(WEIGHTS / "digits_dit.safetensors")
    model = PretrainedFlowMap(checkpoint=path)
    assert (model.num_classes, model.has_null, model.class_names[3]) == (10, False, "3")
    x, t, until, labels = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.ones(2), torch.tensor([3, 5])
    averages = model.average_velocity(x, t, Condition(labels), until)
    torch.testing.assert_close(averages, model.network.average(x, t, until, labels))  # in the time of its training
    with refused(["model of two times", "choose model=flow_map", "solver=flow_map"]):
        PretrainedDiT(checkpoint=path)
    with refused(["model.family=meanflow", "ditexp train", "choose model=flow_map"]):
        PretrainedFlowMap(checkpoint=path, family="meanflow")
    with refused(["model of one time", "choose model=sit"]):
        PretrainedFlowMap(checkpoint=digits)
