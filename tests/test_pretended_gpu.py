"""A guard for GPUs on machines that have none: nothing mixes devices, and fixed steps don't wait for the GPU.

torch's FakeTensorMode computes shapes and devices without values, and so can pretend to have a CUDA device. It refuses
to mix devices as CUDA would. Values that are read are replaced: every number is 0.001, and nothing is true. Lower
precisions are left out: without CUDA, torch switches autocast for it off.
"""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

from ditexp.condition.original import Original
from ditexp.core import FlowModel, Guidance, Solver
from ditexp.data import Digits
from ditexp.feature.digits import DigitsFeature
from ditexp.guidance.apg import AdaptiveProjected
from ditexp.guidance.autoguidance import Autoguidance
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.cfg_zero import CFGZero
from ditexp.guidance.none import NoGuidance
from ditexp.guidance.rescaled import Rescaled
from ditexp.metric import fid
from ditexp.metric.density_coverage import DensityCoverage
from ditexp.metric.fid import FrechetDistance
from ditexp.metric.fid_infinity import FrechetInfinity
from ditexp.metric.inception_score import InceptionScore
from ditexp.metric.kid import KernelDistance
from ditexp.metric.label_accuracy import LabelAccuracy
from ditexp.metric.precision_recall import PrecisionRecall
from ditexp.model.analytic import GaussianMixture
from ditexp.model.paths import Discrete, Exponential, Linear, Trigonometric
from ditexp.model.prediction import DataOnPath, Noise, Score, VelocityOnPath
from ditexp.model.pretrained import PretrainedDiT
from ditexp.run.blocks import BlockMaker
from ditexp.run.underway import Underway
from ditexp.sampler import Sampler
from ditexp.schedule.shift import Shift
from ditexp.solver.base import FixedStep
from ditexp.solver.bosh3 import Bosh3
from ditexp.solver.euler import Euler
from ditexp.solver.flow_map import FlowMapJumps
from ditexp.solver.heun import Heun
from ditexp.task.edit import Edit
from ditexp.task.generate import Generate
from ditexp.task.inpaint import Inpaint
from ditexp.task.interpolate import Interpolate, InterpolateImages
from ditexp.task.progressive import Progressive
from ditexp.values import Features, Solution
from tests.helpers.codecs import Blocks
from tests.helpers.components import ONE_TIME, classes, component, solver_for_any_model
from tests.helpers.flow_maps import GaussianFlowMap
from tests.helpers.networks import model_of, tiny_ddt
from tests.helpers.paths import WEIGHTS
from tests.helpers.samplers import sampler_of

DIGITS = str(WEIGHTS / "digits_dit.safetensors")
SIZES = str(WEIGHTS / "digits_sizes.safetensors")
INDICES = [0, 1, 2]

ON = {"weight": 1.5, "interval": [0.0, 0.8], "profile": "cosine"}
GUIDANCE: dict[str, Guidance] = {
    "none": NoGuidance(),
    "cfg": ClassifierFree(**ON),
    "cfg everywhere": ClassifierFree(weight=1.5),
    "cfg_zero": CFGZero(**ON, zero_init=0.1, zero_init_in="t"),
    "apg": AdaptiveProjected(**ON, norm_threshold=0.7),
    "rescaled": Rescaled(**ON),
    "autoguidance": Autoguidance(**ON, weak=GaussianMixture(seed=1)),
}
TASKS = {
    "generate": (Generate(), GaussianMixture),
    "inpaint": (Inpaint(data=Digits(), passes=2), GaussianMixture),
    "edit": (Edit(data=Digits(), source=Original(Digits())), GaussianMixture),
    "interpolate": (Interpolate(frames=3, of="noise"), GaussianMixture),
    "interpolate images": (InterpolateImages(data=Digits(), frames=3), GaussianMixture),
    "interpolate both": (Interpolate(frames=3, of="both"), lambda: PretrainedDiT(checkpoint=DIGITS)),
    "progressive": (Progressive(sizes=[4], restart=0.4), lambda: PretrainedDiT(checkpoint=SIZES)),
}


SOLVERS = {name: solver_for_any_model(name) for name in ONE_TIME}


def sampler(solver: Solver, guidance: Guidance, *, model: FlowModel | None = None, **parts) -> Sampler:
    fixed = {"schedule": Shift(3), "device": torch.device("cuda")}
    return sampler_of(model or GaussianMixture(), solver, guidance=guidance, **fixed, **parts)


class Waits(TorchDispatchMode):
    """Records what makes the CPU wait for the GPU: reads of values, and copies that are not asynchronous."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and not kwargs.get("non_blocking"):
            ends = {args[0].device.type, torch.device(kwargs.get("device") or args[0].device).type}
            if ends == {"cpu", "cuda"}:
                self.found.append("copy")
        return func(*args, **kwargs)

    def read(self, name: str, tensor: torch.Tensor) -> None:
        if tensor.device.type == "cuda":
            self.found.append(name)


class Event:
    """A moment on the pretended device; waiting for it is recorded."""

    waits: Waits

    def __init__(self, enable_timing: bool = False) -> None:
        pass

    def record(self, stream: object) -> None:
        pass

    def synchronize(self) -> None:
        self.waits.found.append("event")

    def elapsed_time(self, end: Event) -> float:
        return 1.0


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def pretended_gpu(monkeypatch, waits) -> Iterator[None]:
    def values(tensor: torch.Tensor) -> list:
        waits.read("tolist", tensor)
        with unset_fake_temporarily():
            return torch.full(tensor.shape, 0.001).tolist()

    def none_of(tensor: torch.Tensor) -> torch.Tensor:
        waits.read("nonzero", tensor)
        with unset_fake_temporarily():
            return torch.empty(0, tensor.dim(), dtype=torch.int64)

    def is_true(tensor: torch.Tensor) -> bool:
        waits.read("bool", tensor)
        return False

    def are_equal(first: torch.Tensor, second: torch.Tensor) -> bool:
        waits.read("equal", first)
        return True

    monkeypatch.setattr(FakeTensor, "tolist", values, raising=False)
    monkeypatch.setattr(FakeTensor, "nonzero", none_of, raising=False)
    monkeypatch.setattr(FakeTensor, "__bool__", is_true, raising=False)
    monkeypatch.setattr(torch, "equal", are_equal)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    monkeypatch.setattr(Event, "waits", waits, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: None)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    with FakeTensorMode(allow_non_fake_inputs=True), waits:
        yield


@pytest.fixture
def waits_of_steps(monkeypatch, waits) -> list[list[str]]:
    """What each integration with fixed steps waits for; it grows as they are made."""
    found: list[list[str]] = []
    integrate = FixedStep.integrate

    def watched(solver: FixedStep, *given) -> Solution:
        before = len(waits.found)
        solution = integrate(solver, *given)
        found.append(waits.found[before:])
        return solution

    monkeypatch.setattr(FixedStep, "integrate", watched)
    return found


def samples(made: Sampler) -> torch.Tensor:
    made.load(len(INDICES))
    x, labels = made.task(made, INDICES)
    assert labels is None or labels.device.type == "cuda"
    return x


# Every solver with one kind of guidance, and every kind with a solver of fixed and one of adaptive steps. torchdiffeq
# is left out: it compares the values of its times, which pretended tensors don't have.
PAIRS = {(solver, "cfg") for solver in SOLVERS if solver != "torchdiffeq"} | {
    (solver, kind) for solver in ("heun", "bosh3") for kind in GUIDANCE
}


@pytest.mark.parametrize(("solver", "guidance"), sorted(PAIRS))
def test_a_solver_and_a_guidance_stay_on_the_device(solver, guidance, waits_of_steps, request):
    made = sampler(SOLVERS[solver], GUIDANCE[guidance])
    request.getfixturevalue("pretended_gpu")
    x = samples(made)
    assert isinstance(x, FakeTensor) and x.device.type == "cuda" and x.shape == (3, 1, 8, 8)
    assert made.take_cost().velocity_rows >= 3 * 2
    assert waits_of_steps == ([] if made.solver.adaptive else [[]])


def test_jumps_stay_on_the_device(waits_of_steps, request):
    made = sampler(FlowMapJumps(), NoGuidance(), model=GaussianFlowMap())
    request.getfixturevalue("pretended_gpu")
    assert samples(made).device.type == "cuda" and waits_of_steps == [[]]


@pytest.mark.parametrize("cache", classes("cache"))
def test_a_cache_stays_on_the_device(cache, request):
    model = model_of(tiny_ddt()) if cache == "ddt" else PretrainedDiT(checkpoint=DIGITS)
    made = sampler(Heun(), GUIDANCE["cfg"], model=model, cache=component("cache", cache))
    request.getfixturevalue("pretended_gpu")
    assert samples(made).device.type == "cuda"
    assert made.take_cost().network_rows % 1  # some evaluations reused outputs


@pytest.mark.parametrize("solver", [Heun(), Bosh3()], ids=["heun", "bosh3"])
@pytest.mark.parametrize("task", TASKS)
def test_a_task_stays_on_the_device(task, solver, waits_of_steps, request):
    task, model = TASKS[task]
    if solver.adaptive and isinstance(task, Inpaint):
        pytest.skip("inpaint needs fixed steps")
    made = sampler(solver, GUIDANCE["cfg"], task=task, model=model())
    request.getfixturevalue("pretended_gpu")
    assert samples(made).device.type == "cuda"
    assert not any(waits_of_steps) and bool(waits_of_steps) != solver.adaptive


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_a_precision_stays_on_the_device(precision, waits_of_steps, monkeypatch, request):
    move = torch.nn.Module.to  # pretended weights cannot be moved a second time, back to the CPU
    monkeypatch.setattr(torch.nn.Module, "to", lambda net, to: net if to == "cpu" else move(net, to))
    made = sampler(Heun(), GUIDANCE["cfg"], model=PretrainedDiT(checkpoint=DIGITS), precision=precision)
    request.getfixturevalue("pretended_gpu")
    x = samples(made)
    assert x.device.type == "cuda" and x.dtype == torch.float32
    assert waits_of_steps == [[]]


def test_a_read_within_the_steps_is_found(waits_of_steps, request):
    """The guard itself can fail: a solver that passes times of its own makes guidance read them."""
    made = sampler(Timid(), GUIDANCE["cfg"])
    request.getfixturevalue("pretended_gpu")
    samples(made)
    assert waits_of_steps[0].count("tolist") == 3


@pytest.mark.parametrize("task", ["inpaint", "edit", "interpolate images"])
def test_a_task_on_latents_stays_on_the_device(task, request):
    model = GaussianMixture(shape=(4, 4, 4))
    model.codec = None
    made = sampler(Heun(), ClassifierFree(weight=1.5), task=TASKS[task][0], model=model, vae=Blocks((8, 8, 1)))
    request.getfixturevalue("pretended_gpu")
    x = samples(made)
    assert x.device.type == made.task.finish(made, INDICES, made.decode(x)).device.type == "cuda"


@pytest.mark.parametrize("solver", ["heun", "bosh3", "ab3", "euler_maruyama"])
def test_a_tensor_on_another_device_is_refused(solver, request):
    """The guard itself can fail: a model that leaves its means on the CPU."""
    made = sampler(SOLVERS[solver], NoGuidance(), model=Forgetful())
    request.getfixturevalue("pretended_gpu")
    with pytest.raises((RuntimeError, torch._subclasses.fake_tensor.UnsupportedFakeTensorException)) as error:
        samples(made)
    assert "cuda" in str(error.value) and "cpu" in str(error.value)


PREDICTIONS = [Noise(Discrete()), Score(Exponential(last=0.999)), DataOnPath(Linear()), VelocityOnPath(Trigonometric())]


@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda prediction: type(prediction).__name__)
def test_a_prediction_stays_on_the_device(prediction, pretended_gpu):
    x, t = torch.zeros(3, 1, 8, 8, device="cuda"), torch.zeros(3, device="cuda")
    z, time = prediction.inputs(x, t)
    velocity = prediction.velocity(z, x, t)
    assert (z.shape, time.shape, velocity.shape) == (x.shape, t.shape, x.shape)
    assert {part.device.type for part in (z, time, velocity)} == {"cuda"}
    assert {part.dtype for part in (z, time, velocity)} == {torch.float32}


def test_a_block_is_launched_without_waiting_for_the_device(tmp_path, waits, request, monkeypatch):
    """Samples, pixels and features: the host waits for none before it needs them."""
    made = sampler(Heun(), ClassifierFree(weight=1.5))
    feature = DigitsFeature()
    maker = BlockMaker(
        sampler=made,
        store=Mock(indices=lambda number: range(6), keeps_latents=False),
        latents=Mock(manifest=lambda number: None),
        batch_size=3,
        feature=feature,
        features=tmp_path,
        maker={},
        underway=Underway(made),
    )
    request.getfixturevalue("pretended_gpu")
    for owner, name in ((Sampler, "samples"), (Sampler, "pixels"), (DigitsFeature, "__call__")):
        monkeypatch.setattr(owner, name, vars(owner)[name].__wrapped__)  # inference mode knows no pretended device
    made.load(3)
    feature.to("cuda")
    maker.prepared.update({"sampling", "decoding"})
    waits.found.clear()
    block = maker.make(0)
    maker.extract(block)
    assert not waits.found and block.pixels.device.type == "cuda"
    assert block.cost.images == 6 and waits.found
    assert block.pixels_at_host().device.type == "cpu" and block.pixels_at_host().shape == (6, 1, 8, 8)


METRICS = {
    "fid": FrechetDistance(),
    "fid_infinity": FrechetInfinity(),
    "inception_score": InceptionScore(splits=2),
    "kid": KernelDistance(),
    "kid of subsets": KernelDistance(subsets=2, subset_size=20),
    "precision_recall": PrecisionRecall(),
    "density_coverage": DensityCoverage(),
    "label_accuracy": LabelAccuracy(),
}


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_stays_on_the_device(metric, monkeypatch, request):
    labels = torch.arange(40) % 10
    fake, real = (Features(n, torch.randn(n, 4), torch.randn(n, 10), labels=labels) for n in (40, 60))
    request.getfixturevalue("pretended_gpu")
    monkeypatch.setattr(FakeTensor, "__bool__", lambda tensor: tensor.numel() == 1, raising=False)  # all are finite
    monkeypatch.setattr(FakeTensor, "item", lambda tensor: 0.5, raising=False)
    monkeypatch.setattr(fid, "trace_of_root", eigenvalues := Mock(return_value=0.5))
    monkeypatch.setattr(torch.Tensor, "cpu", Mock(side_effect=AssertionError("it leaves the device")))
    x, y = (features.to(torch.device("cuda")) for features in (fake, real))
    found = METRICS[metric](x, y)
    assert METRICS[metric].against(y)(x.take(torch.arange(30))).keys() == found.keys()
    assert all(gaussian.device.type == "cuda" for call in eigenvalues.call_args_list for gaussian in call.args)


class Forgetful(GaussianMixture):
    def to(self, device: torch.device | str) -> Forgetful:
        return self


class Timid(Euler):
    def step(self, field, x, t0, t1):
        return x + (t1 - t0) * field(x, x.new_full((len(x),), t0))
