"""How a sampler is bound, and what its meter counts."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.cfg_zero import CFGZero
from ditexp.meter import Meter
from ditexp.model.analytic import GaussianMixture
from ditexp.run.identity import sampling_identity
from ditexp.schedule.compat import RAEPoints
from ditexp.solver.dopri5 import Dopri5
from ditexp.solver.heun import Heun
from ditexp.solver.rk4 import RK4
from ditexp.task.base import Task, blocks_of
from ditexp.task.generate import Generate
from ditexp.task.originals import check_end
from ditexp.values import Cost
from tests.helpers.errors import rms
from tests.helpers.refusals import refused
from tests.helpers.sample_sets import Samples
from tests.helpers.samplers import sampler_of

MODEL = GaussianMixture(num_classes=3, shape=(1, 2, 2))
LATE = CFGZero(weight=1.0, zero_init=0.25, zero_init_in="t")


def test_the_grid_begins_where_guidance_lets_samples_move():
    assert sampler_of(MODEL, Heun()).grid == [0, 0.25, 0.5, 0.75, 1]
    late = sampler_of(MODEL, Heun(), guidance=LATE)
    assert late.grid == late.since(0.25) == [0.25, 0.5, 0.75, 1]
    assert late.unguided().grid == [0, 0.25, 0.5, 0.75, 1]
    assert late.since(0.6) == [0.6, 0.75, 1]


@torch.inference_mode()
def test_samples_of_a_grid_that_ends_before_the_data_are_x_at_its_end():
    """Each part that knows the end takes it from the grid: steps, the way back, pictures, and what an id is made of."""
    early, indices = RAEPoints(21, dimension=4096), range(4)
    made = sampler_of(MODEL, RK4(), schedule=early)
    x, condition = made.noise(indices), made.condition(indices)
    end = made.integrate(x, condition, indices)
    exact = sampler_of(MODEL, Dopri5(rtol=1e-7, atol=1e-7), schedule=early)
    assert made.grid[-1] == exact.grid[-1] == pytest.approx(0.999) and made.evaluations() == (80, 80)
    assert rms(exact.integrate(x, condition, indices) - end) < 1e-4
    assert rms(made.invert(end, condition) - x) < 1e-4
    sheet = Generate().trajectory(exact, range(2))
    assert sheet.columns[-1] == "t=1.00" and torch.equal(sheet.images[:, -1], made.decode(end[:2]).cpu())
    for task in ("edit", "progressive"):
        with refused([f"task={task} needs samples at t = 1, and this schedule ends at t = 0.999: choose another"]):
            check_end(made, task=task)
    facts = [sampling_identity(one, batch_size=2, num_samples=4) for one in (exact, sampler_of(MODEL, Dopri5()))]
    assert facts[0]["end"] == exact.grid[-1] and "end" not in facts[1]


def test_a_sampler_does_not_change():
    made = sampler_of(MODEL, Heun())
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.grid = [0, 1]


def test_settings_without_effect_are_noticed(caplog):
    sampler_of(MODEL, Dopri5(), precision="tf32")
    assert "precision=tf32 acts on CUDA only; on cpu this is fp32" in caplog.text
    assert "Dopri5 chooses its own steps: steps and schedule don't act on it" in caplog.text


def test_what_is_counted_where():
    """Unguided evaluations count as the sampler's; those in full precision and those that only count do not."""
    made = sampler_of(MODEL, Heun(), guidance=ClassifierFree(weight=1.0))
    x, condition = made.noise([0, 1, 2]), made.condition([0, 1, 2])
    t = torch.zeros(3)
    made.field(condition)(x, t)
    assert (made.meter.cost.velocity_rows, made.meter.cost.network_rows) == (3, 6)
    made.unguided().field(condition)(x, t)
    made.in_full_precision().field(condition)(x, t)
    assert made.evaluations() == (8, 16)
    cost = made.take_cost()
    assert (cost.velocity_rows, cost.network_rows) == (6, 9) and made.take_cost() == Cost()


@pytest.mark.parametrize("guidance", [ClassifierFree(weight=1.0), LATE], ids=["cfg", "cfg_zero"])
def test_a_field_of_some_samples_is_the_field_of_all(guidance):
    made = sampler_of(MODEL, Heun(), guidance=guidance)
    x, field, rows = made.noise(range(6)), made.field(made.condition(range(6))), torch.tensor([5, 0, 3])
    t = torch.linspace(0, 1, 6)
    whole = field(x, t)
    assert torch.equal(field.take(rows)(x[rows], t[rows]), whole[rows])
    assert torch.equal(field.take(rows).take(torch.tensor([1]))(x[:1], t[:1]), whole[:1])
    assert made.meter.cost.velocity_rows == 6 + 3 + 1


def test_preparation_is_no_sampling(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("ditexp.meter.time.perf_counter", lambda: next(clock))
    meter = Meter(torch.device("cpu"))
    with meter.sampling(), meter.preparation():  # sampling from 0 to 3, preparation from 1 to 2
        pass
    cost = meter.take()
    assert (cost.seconds, cost.preparation_seconds) == (2, 1)
    with meter.warmup():  # from 4 to 5
        meter.cost.velocity_rows += 1
    assert meter.take() == Cost(preparation_seconds=1)


def test_only_the_call_of_a_task_is_required():
    class Noise(Task):
        def __call__(self, sampler, indices):
            return sampler.noise(indices), None

    made = sampler_of(MODEL, Heun(), task=Noise())
    made.task.check(made)
    made.prepare(2)
    images, labels = made.images(range(2))
    assert torch.equal(images, made.decode(made.noise(range(2)))) and labels is None
    assert made.task.min_samples == 1 and made.task.scores(made, None, None, None) == {}
    assert made.task.units(range(2)) is made.task.sheet(made, images) is made.task.trajectory(made, range(2)) is None
    assert made.task.label_meaning(MODEL) is None
    with pytest.raises(TypeError, match="abstract"):
        Task()


def test_the_last_block_is_cut_to_the_set():
    images = torch.arange(24, dtype=torch.uint8).view(6, 2, 2, 1).numpy()
    blocks = list(blocks_of(Samples(images, 5, block_size=3)))
    assert [indices for indices, _ in blocks] == [range(3), range(3, 5)]
    assert torch.equal(torch.cat([block for _, block in blocks]).flatten(), torch.arange(20, dtype=torch.uint8))


def test_a_trajectory_ends_in_the_samples():
    made = sampler_of(MODEL, Heun())
    sheet = Generate().trajectory(made, range(2))
    assert sheet.columns == ["t=0.00", "t=0.25", "t=0.50", "t=0.75", "t=1.00"]
    assert torch.equal(sheet.images[:, 0], made.decode(made.noise(range(2))))
    assert torch.equal(sheet.images[:, -1], made.images(range(2))[0])


def test_launched_work_is_checked_once_and_before_it_is_forgotten():
    meter, checked = Meter(torch.device("cpu")), []
    meter.checks.append(lambda: checked.append("images"))
    meter.check()
    meter.take()
    assert checked == ["images"]
    with meter.warmup():
        meter.checks.append(lambda: checked.append("prepared"))
    meter.take()
    assert checked == ["images", "prepared"]
