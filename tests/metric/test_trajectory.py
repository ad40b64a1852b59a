"""Solvers compared with the exact flow, and taken back to the noise."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.none import NoGuidance
from ditexp.metric import trajectory
from ditexp.metric.trajectory import POINTS, Trajectory, exact_paths, rms
from ditexp.model.analytic import GaussianMixture
from ditexp.sampler import Sampler
from ditexp.schedule.uniform import Uniform
from ditexp.solver.dopri5 import Dopri5, Dopri5Fixed
from ditexp.solver.euler import Euler
from ditexp.solver.flow_map import FlowMapJumps
from ditexp.solver.heun import Heun
from tests.helpers.components import SOLVERS
from tests.helpers.flow_maps import GaussianFlowMap
from tests.helpers.refusals import refused
from tests.helpers.samplers import in_float64, sampler_of

ODE = [solver for solver in SOLVERS if not solver.stochastic and not solver.uses_flow_map]
SMALL = ("num_samples=16", "batch_size=16", "metric=trajectory", "metric.trajectory.samples=16")


@pytest.fixture(scope="module")
def model() -> GaussianMixture:
    return GaussianMixture(num_classes=3, components=2, shape=(1, 2, 2), std=0.4)


def sampler(model, solver, *, steps: int = 64, **parts) -> Sampler:
    return in_float64(sampler_of(model, solver, steps=steps, **parts))


def compare(made: Sampler, cache: Path, *, tolerance: float = 1e-10) -> tuple[dict, dict]:
    done, metric = [], Trajectory(samples=12, reference=Dopri5(), tolerance=tolerance)
    found = metric.compare(made, batch_size=8, identity={"of": "the mixture"}, cache=cache, advance=done.append)
    assert done == [8, 4]
    return found


@pytest.mark.parametrize("guidance", [NoGuidance(), ClassifierFree(weight=1)])
def test_the_error_is_that_beside_the_exact_flow(guidance, model, tmp_path):
    """Euler compared with 500 steps of order 5. The error halves with the steps; the last one along t is the score."""
    made = sampler(model, Euler(), guidance=guidance)
    scores, details = compare(made, tmp_path)
    x, condition = made.noise(range(12)), made.condition(range(12))
    exact = Dopri5Fixed().integrate(made.field(condition), x, Uniform(500).grid().tolist()).x
    rmse = (made.integrate(x, condition, range(12)) - exact).square().mean().sqrt().item()
    assert scores["trajectory_rmse"].score == pytest.approx(rmse, rel=1e-5)
    assert scores["trajectory_order"].score == pytest.approx(1, abs=0.1)
    times, errors = zip(*details["error_along_t"])
    assert list(times) == made.grid and errors[0] == 0
    assert errors[-1] == scores["trajectory_rmse"].score
    assert details["reference_error"] < 1e-8


def test_the_exact_flow_has_no_tf32_whatever_the_precision(model, tmp_path, monkeypatch):
    """Exact paths are kept for cells of every precision."""
    seen = []

    def recorded(*arguments):
        seen.append(torch.get_float32_matmul_precision())
        return exact_paths(*arguments)

    monkeypatch.setattr(trajectory, "exact_paths", recorded)
    torch.set_float32_matmul_precision("high")  # as precision=tf32 does
    try:
        compare(sampler(model, Heun(), steps=4), tmp_path, tolerance=1e-3)
        assert seen == ["highest"] * 2 and torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_between_their_points_the_exact_paths_are_exact():
    """One narrow Gaussian, whose flow turns at 1 - t = s: x_t = t m + r x_0 with r^2 = (1 - t)^2 + t^2 s^2.

    With points at equal steps of 1/32 the error near the data would be 8e-4.
    """
    narrow = GaussianMixture(num_classes=3, components=1, shape=(1, 2, 2), std=0.02)
    made = sampler(narrow, Heun())
    x0, m = made.noise(range(12)), narrow.means[torch.arange(12) % 3, 0]
    paths = exact_paths(Dopri5(rtol=1e-9, atol=1e-9), made.field(made.condition(range(12))), x0, POINTS)
    assert POINTS[0] == 0 and POINTS[-1] == 1
    for t in (0.01, 0.3, 0.6, 0.86, 0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999):
        exact = t * m + ((1 - t) ** 2 + t**2 * narrow.std**2) ** 0.5 * x0
        assert rms([paths.at(t) - exact]) < 1e-5, t


def test_the_exact_flow_is_found_once(model, tmp_path):
    """All solvers and schedules share it; another flow has another."""
    costs = []
    for solver in (Euler(), Euler(), Heun()):
        made = sampler(model, solver)
        compare(made, tmp_path)
        costs.append(len(list(tmp_path.iterdir())))
    assert costs == [2, 2, 2]  # of two batches
    metric = Trajectory(samples=12, reference=Dopri5())
    made = sampler(model, Euler())
    metric.compare(made, batch_size=8, identity={"of": "another"}, cache=tmp_path, advance=lambda count: None)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_loose_reference_is_told(model, tmp_path, caplog):
    """Heun with 512 steps is about as exact as an adaptive solver at 1e-3."""
    compare(sampler(model, Heun(), steps=512), tmp_path, tolerance=1e-3)
    assert "not far above the reference's own error" in caplog.text


def test_a_model_of_two_times_is_compared_with_its_teacher(model, tmp_path):
    """Of one Gaussian: the exact map ends where its flow does, and a flow of others elsewhere."""
    teacher, other = (GaussianMixture(num_classes=3, components=1, shape=(1, 2, 2), std=std) for std in (0.4, 0.1))
    made = sampler(GaussianFlowMap(num_classes=3, shape=(1, 2, 2), std=0.4), FlowMapJumps(), steps=2)
    errors = []
    for exact in (teacher, other):
        metric = Trajectory(samples=12, reference=Dopri5(), tolerance=1e-9, teacher=exact)
        metric.check(made.solver)
        found = metric.compare(made, batch_size=8, identity={}, cache=tmp_path, advance=lambda count: None)
        scores, details = found
        assert list(scores) == ["trajectory_rmse"] and len(details["error_along_t"]) == 3
        errors.append(scores["trajectory_rmse"].score)
    assert errors[0] < 1e-7 and errors[1] > 0.1
    assert len(list(tmp_path.iterdir())) == 4  # two batches of each teacher


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ["metric=trajectory", "model@metric.trajectory.teacher=", "digits"]),
        ({"teacher": GaussianFlowMap()}, ["metric.trajectory.teacher", "GaussianFlowMap", "one time"]),
    ],
)
def test_a_model_of_two_times_needs_a_teacher_of_one(change, words):
    with refused(words):
        Trajectory(reference=Dopri5(), **change).check(FlowMapJumps())


def test_a_teacher_of_other_samples_is_refused(model, tmp_path):
    metric = Trajectory(samples=12, reference=Dopri5(), teacher=GaussianMixture())
    with refused(["metric.trajectory.teacher", "(1, 8, 8)", "(1, 2, 2)"]):
        metric.compare(sampler(model, Euler()), batch_size=8, identity={}, cache=tmp_path, advance=lambda count: None)


def test_curvature_is_that_of_the_closed_form(tmp_path):
    """Of one Gaussian x_t = t m + r x_0 with r^2 = (1 - t)^2 + t^2 s^2; the narrower it is, the straighter."""
    curvatures = []
    for std in (0.4, 0.2, 0.1):
        one = GaussianMixture(num_classes=3, components=1, shape=(1, 2, 2), std=std)
        made = sampler(one, Heun())
        _, details = compare(made, tmp_path / str(std))
        x0, t = made.noise(range(12)), torch.linspace(0, 1, 100_001, dtype=torch.float64)
        whole = one.means[torch.arange(12) % 3, 0] + (std - 1) * x0
        speed = (t - 1 + t * std**2) / ((1 - t) ** 2 + t**2 * std**2).sqrt()  # dr / dt
        off = torch.trapezoid((speed - (std - 1)).square(), t) * x0.square().sum()
        curvatures.append(details["curvature"])
        assert details["curvature"] == pytest.approx((off / whole.square().sum()).item(), rel=0.05)
    assert curvatures == sorted(curvatures, reverse=True)


@pytest.mark.parametrize("solver", ODE, ids=lambda solver: repr(solver)[:40])
def test_round_trip(solver, model):
    """From noise to data and back by the same solver; the difference falls as fast as the solver's error.

    By 0.4 less for those in log-SNR, whose error has a factor of log N; down to what float64 leaves.
    """
    if solver.adaptive:
        tries = [sampler(model, replace(solver, rtol=tolerance, atol=tolerance)) for tolerance in (1e-4, 1e-7)]
        least = 100
    else:
        tries = [sampler(model, solver, steps=steps) for steps in (128, 256)]
        least = 2 ** (solver.order - 0.4)
    missing = []
    for made in tries:
        x, condition = made.noise(range(12)), made.condition(range(12))
        back = made.invert(made.integrate(x, condition, range(12)), condition)
        missing.append((back - x).square().mean().sqrt().item())
    print(missing, math.log2(missing[0] / missing[1]))
    assert missing[1] < 0.02 and (missing[0] / missing[1] > least or missing[1] < 1e-11)


@pytest.mark.slow
def test_the_command_tells_the_numbers(ditexp, tmp_path):
    command = ditexp("-m", *SMALL, "metric.trajectory.tolerance=1e-4", "solver=heun,dopri5", "steps=8", "resamples=4")
    assert command.code == 0, command.output
    for heading in ("RMSE to exact", "order", "round trip"):
        assert heading in command.output
    by_solver = {}
    for path in (tmp_path / "outputs" / "results").glob("*.json"):
        result = json.loads(path.read_text())
        by_solver[result["settings"]["solver"]] = result
    heun, dopri5 = by_solver["heun"], by_solver["dopri5"]
    assert len(heun["trajectory"]["error_along_t"]) == 9
    assert heun["metrics"]["trajectory_rmse"] > 3 * dopri5["metrics"]["trajectory_rmse"] > 0
    for name in ("trajectory_rmse", "round_trip_rmse"):
        assert [result["deviations"][name]["units"] for result in (heun, dopri5)] == [16, 16]
    assert "trajectory_order" not in dopri5["metrics"] and "error_along_t" not in dopri5["trajectory"]
    assert heun["trajectory"]["curvature"] == dopri5["trajectory"]["curvature"] > 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("metric.trajectory.samples=0", ("metric.trajectory.samples=0", "at least 1")),
        ("metric.trajectory.tolerance=0", ("metric.trajectory.tolerance=0", "above 0")),
        ("solver@metric.trajectory.reference=rk4", ("reference=RK4", "no adaptive solver", "reference=dopri5")),
        ("solver=euler_maruyama", ("EulerMaruyama", "adds noise", "leave it out")),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_is_sampled(wrong, words, in_process):
    ended = in_process("tracker=none", *SMALL, wrong)
    assert ended.code == 2
    assert all(word in ended.err for word in words), ended.err
    assert not Path("outputs/samples").exists()
