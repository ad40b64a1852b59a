"""Seconds are those of sampling alone, without first uses of a shape, encoding of prompts or reading of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.utils._pytree import tree_leaves

import ditexp.evaluated
import ditexp.meter
from ditexp.condition.labels import Balanced
from ditexp.condition.unconditional import Unconditional
from ditexp.data import Digits
from ditexp.guidance.apg import AdaptiveProjected
from ditexp.guidance.autoguidance import Autoguidance
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.cfg_zero import CFGZero
from ditexp.guidance.none import NoGuidance
from ditexp.guidance.rescaled import Rescaled
from ditexp.model.pretrained import PretrainedDiT
from ditexp.network import Padded
from ditexp.run.components import build_for_sampling
from ditexp.sampler import Sampler
from ditexp.samples.store import SampleStore
from ditexp.solver.dopri5 import Dopri5
from ditexp.solver.euler import Euler
from ditexp.solver.euler_maruyama import EulerMaruyama
from ditexp.solver.heun import Heun
from ditexp.solver.step_doubling import StepDoubling
from ditexp.task.edit import Edit
from ditexp.task.generate import Generate
from ditexp.task.inpaint import Inpaint
from ditexp.task.interpolate import Interpolate
from ditexp.task.progressive import Progressive
from ditexp.values import Condition, Cost
from tests.helpers.components import SOLVERS
from tests.helpers.paths import CONF, WEIGHTS
from tests.helpers.samplers import sampler_of

MODEL, WEAK = (PretrainedDiT(checkpoint=str(WEIGHTS / "digits_sizes.safetensors")) for _ in range(2))
BATCH, STEPS = 5, 4  # a batch that is no power of two

NARROW = (0.41, 0.43)  # an interval that the large steps of an adaptive solver may leap over
GUIDANCES = {
    "none": NoGuidance(),
    "cfg": ClassifierFree(weight=1.0),
    "interval": ClassifierFree(weight=1.0, interval=NARROW),
    "profile": ClassifierFree(weight=1.0, profile="linear"),
    "rescaled": Rescaled(weight=1.0, interval=(0.3, 0.7)),
    "apg": AdaptiveProjected(weight=1.0, norm_threshold=2.0),
    "cfg_zero": CFGZero(weight=1.0, zero_init=0.2, zero_init_in="t"),
    "autoguidance": Autoguidance(weight=1.0, weak=WEAK, interval=(0.3, 0.7)),
}
TASKS = {
    "generate": Generate(),
    "interpolate": Interpolate(frames=3, of="both"),
    "edit": Edit(data=Digits(), source=Balanced(), direction={2: 3}, count=2),
    "inpaint": Inpaint(data=Digits(), passes=2),
    "progressive": Progressive(sizes=[4], restart=0.3),
}
LOOSE = {"rtol": 3e-2, "atol": 3e-2}
ADAPTIVE = [Dopri5(**LOOSE), StepDoubling(method=Heun(), **LOOSE)]


def sampler(solver, guidance, task, *, model=MODEL, **settings) -> Sampler:
    parts = {"steps": STEPS, "conditioner": Unconditional() if isinstance(task, Edit) else Balanced()}
    return sampler_of(model, solver, guidance=guidance, task=task, **parts | settings)


def name(component) -> str:
    return type(component).__name__


def recording(met: set, function: Callable) -> Callable:
    """A block or network that remembers the kinds of inputs it was given, as torch.compile's guards tell them apart."""

    def recorded(*inputs):
        leaves = tree_leaves([part.parts if isinstance(part, Condition) else part for part in inputs])
        shapes = [(part.dtype, *part.shape, *part.stride()) for part in leaves if isinstance(part, torch.Tensor)]
        met.add((torch.is_inference_mode_enabled(), *shapes))
        return function(*inputs)

    return recorded


def first_met_in_time(made: Sampler, met: set) -> set:
    """The kinds of inputs that are new to the network when its batches are timed."""
    made.prepare(BATCH)
    known = set(met)
    for start in range(0, 3 * BATCH, BATCH):
        made.images(range(start, start + BATCH))
    return met - known


def check_compiled(monkeypatch, solver, guidance, task, **settings) -> set:
    met = set()
    monkeypatch.setattr(ditexp.evaluated, "compiled", lambda function: recording(met, function))
    assert not first_met_in_time(sampler(solver, guidance, task, compile=True, **settings), met)
    return met


@pytest.mark.parametrize("solver", SOLVERS, ids=name)
def test_no_solver_meets_a_shape_in_time(solver, monkeypatch):
    """Including guidance that is on for some samples of an adaptive solver and off for others."""
    solver = replace(solver, **LOOSE) if solver.adaptive else solver
    assert check_compiled(monkeypatch, solver, ClassifierFree(weight=1.0, interval=(0.3, 0.7)), Generate())


@pytest.mark.slow
@pytest.mark.parametrize("guidance", GUIDANCES)
@pytest.mark.parametrize("task", TASKS)
def test_no_task_and_no_guidance_meets_a_shape_in_time(task, guidance, monkeypatch):
    solvers = [Heun()]
    solvers += [] if task == "edit" else [EulerMaruyama()]
    solvers += [] if task == "inpaint" else ADAPTIVE[:1]
    chosen = TASKS[task]
    if task == "interpolate" and guidance == "autoguidance":  # whose weak model has embeddings of its own
        chosen = Interpolate(frames=3)
    for solver in solvers:
        check_compiled(monkeypatch, solver, GUIDANCES[guidance], chosen)


@pytest.mark.parametrize("solver", ADAPTIVE, ids=name)
def test_a_compiled_network_sees_few_batch_sizes(solver, monkeypatch):
    sizes = {kind[1][1] for kind in check_compiled(monkeypatch, solver, NoGuidance(), Generate())}
    assert sizes == {2, 4, BATCH}
    sizes = {kind[1][1] for kind in check_compiled(monkeypatch, solver, GUIDANCES["interval"], Generate())}
    assert sizes == {2, 4, 8, BATCH, 2 * BATCH}


def test_fixed_steps_are_not_padded(monkeypatch):
    sizes = {kind[1][1] for kind in check_compiled(monkeypatch, Heun(), GUIDANCES["interval"], Generate())}
    assert sizes <= {BATCH, 2 * BATCH}


def test_padding_changes_no_sample_and_no_cost(monkeypatch):
    monkeypatch.setattr(ditexp.evaluated, "compiled", lambda function: function)
    images, costs = [], []
    for compiled in (False, True):
        made = sampler(ADAPTIVE[0], GUIDANCES["profile"], Generate(), compile=compiled)
        made.prepare(BATCH)
        images.append(made.images(range(BATCH))[0].int())
        costs.append(made.take_cost())
    assert (images[0] - images[1]).abs().max() <= 1  # the last bits of float32 may turn a rounding
    assert costs[0].network_rows == costs[1].network_rows and costs[0].accepted == costs[1].accepted


def test_a_batch_is_filled_up_to_the_next_size():
    network = Padded(lambda x, t, condition: x + t[:, None] + condition.labels[:, None], full=20)
    assert network.sizes(20) == [2, 4, 8, 16, 20] and network.sizes(40) == [2, 4, 8, 16, 20, 32, 40]
    assert [network.size(count) for count in (1, 2, 3, 17, 20, 21, 33, 41)] == [2, 2, 4, 20, 20, 32, 40, 64]
    assert Padded(network.network, full=1).sizes(2) == [1, 2]
    x, t, labels = torch.randn(3, 2), torch.rand(3), torch.arange(3)
    assert torch.equal(network(x, t, Condition(labels)), network.network(x, t, Condition(labels)))


@pytest.mark.parametrize("guidance", ["none", "interval"])
@pytest.mark.parametrize("solver", ADAPTIVE, ids=name)
def test_low_precision_on_a_cpu_meets_no_size_in_time(solver, guidance):
    """oneDNN makes its kernels for each shape, and that takes as long as an evaluation."""
    met = set()

    class Recorded(PretrainedDiT):
        def __call__(self, x, t, condition):
            return recording(met, super().__call__)(x, t, condition)

    model = Recorded(checkpoint=str(WEIGHTS / "digits_sizes.safetensors"))
    assert not first_met_in_time(sampler(solver, GUIDANCES[guidance], Generate(), model=model, precision="bf16"), met)


def test_only_padded_sets_have_another_id(tmp_path):
    """Padding changes last bits, so it is part of the id; the ids of all other sets stay as they were."""
    from hydra import compose, initialize_config_dir

    from ditexp.cli.command import register_with_hydra

    register_with_hydra()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = {}
        for solver in ("heun", "dopri5"):
            for compiled in ("false", "true"):
                cfg = compose("config", [f"solver={solver}", f"compile={compiled}", f"outputs={tmp_path}"])
                _, store = build_for_sampling(cfg, torch.device("cpu"))
                found[solver, compiled] = store.identity.get("network_batches")
    assert found == dict.fromkeys(found) | {("dopri5", "true"): "padded"}


class Stopwatch:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def after(self, seconds: float, function: Callable) -> Callable:
        def timed(*arguments):
            self.now += seconds
            return function(*arguments)

        return timed


@pytest.mark.parametrize("task", ["generate", "edit", "inpaint"])
def test_reading_and_conditions_are_told_apart(task, monkeypatch):
    """A fake clock: an evaluation takes 1 second, a condition 1,000, an image 1,000,000."""
    watch = Stopwatch()
    monkeypatch.setattr(ditexp.meter, "time", watch)

    class Slow(Digits):
        def __getitem__(self, index):
            return watch.after(1e6, super().__getitem__)(index)

    class Conditions(Balanced):
        def __call__(self, *arguments):
            return watch.after(1e3, super().__call__)(*arguments)

    class Network(PretrainedDiT):
        def __call__(self, *arguments):
            return watch.after(1, super().__call__)(*arguments)

    conditions, data = Conditions(), Slow()
    tasks = {"generate": Generate(), "edit": Edit(data=data, source=conditions), "inpaint": Inpaint(data=data)}
    model = Network(checkpoint=str(WEIGHTS / "digits_sizes.safetensors"))
    made = sampler(Euler(), NoGuidance(), tasks[task], model=model, conditioner=conditions)
    made.prepare(BATCH)
    first = made.take_cost()
    assert first.seconds == 0 and first.preparation_seconds >= 1001  # a condition and an evaluation at least
    made.images(range(BATCH))
    cost = made.take_cost()
    assert cost.seconds == {"generate": 4, "edit": 8, "inpaint": 4}[task]
    assert cost.preparation_seconds == {"generate": 1e3, "edit": 2e3 + 5e6, "inpaint": 1e3 + 5e6}[task]


def test_a_set_tells_its_preparation(tmp_path):
    """It is the sum over all workers; unknown if a block does not record it."""
    identity = {"block_size": 2, "image_shape": [1, 1, 1]}
    store = SampleStore(tmp_path, identity=identity, num_samples=4)
    store.begin()
    for block in range(2):
        cost = Cost(images=2, seconds=1.0, preparation_seconds=3.0)
        store.write(block, torch.zeros(2, 1, 1, 1, dtype=torch.uint8).numpy(), None, cost=cost, maker={})
    assert store.cost(steps=None).preparation_seconds == 6 and store.cost(steps=None).seconds_per_image == 0.5
    path = store.block(1).manifest_path
    path.write_text(path.read_text().replace('"preparation_seconds": 3.0, ', ""))
    assert store.cost(steps=None).preparation_seconds is None
