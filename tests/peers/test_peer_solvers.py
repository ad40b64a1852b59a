"""Solvers against torchdiffeq and diffusers on the bundled digits model, in float64; a test needs its peer installed.

torchdiffeq takes any grid and float64. diffusers' schedulers make their own grids of sigma = 1 - t, in float32, and
their network predicts dx/dsigma = -v. Here a scheduler is run on its own sigmas, made float64 without changing their
values, and our solver on t = 1 - sigma. What differs between a pipeline of diffusers and ditexp, then, beside the grid:

- The first sigma: 1 for FlowMatchEuler and FlowMatchHeun, 0.999 for DPMSolver, 1 - 1e-6 for UniPC, lest its log-SNR be
  infinite. Ours is exactly t = 0, by the limits in ditexp/solver/log_snr.py.
- The last step, to sigma = 0, starts at 0.001 with FlowMatchEuler and FlowMatchHeun, else at about 1 / steps.
- Pipelines hand the network 1000 sigma, which DPMSolver and UniPC cut to a whole number; here it sees 1 - sigma itself.
- FlowMatchEuler, FlowMatchHeun and DPMSolverMultistep round x to float32 in every step.
- Order is lowered in the last but one step, of DPMSolverMultistep with fewer than 15 steps and of UniPC always.
- Thresholding is off, as it is by default and always for latents.

DEISMultistepScheduler is left out: its last two flow sigmas are equal, so that it never gets to sigma = 0, and ditexp
has no such method (see ditexp/solver/ipndm.py).
"""

from __future__ import annotations

import pytest
import torch

from ditexp.guidance.none import NoGuidance
from ditexp.model.pretrained import PretrainedDiT
from ditexp.noise import noise
from ditexp.solver.dopri5 import Dopri5
from ditexp.solver.dpm_solver import DPMSolverMultistep, DPMSolverSinglestep
from ditexp.solver.euler import Euler
from ditexp.solver.heun import Heun
from ditexp.solver.log_snr import log_snr_at, time_at
from ditexp.solver.unipc import UniPC
from ditexp.values import Condition
from tests.helpers.components import component
from tests.helpers.paths import WEIGHTS

AGREEMENT = 1e-6


@pytest.fixture(scope="module")
def model() -> PretrainedDiT:
    model = PretrainedDiT(checkpoint=str(WEIGHTS / "digits_dit.safetensors"))
    model.network.double()
    return model


@pytest.fixture(scope="module")
def field(model):
    return NoGuidance().bind(model, Condition(torch.arange(2)))


@pytest.fixture(scope="module")
def x(model) -> torch.Tensor:
    return noise(0, range(2), model.sample_shape).double()


@pytest.fixture
def torchdiffeq():
    return pytest.importorskip("torchdiffeq", reason="torchdiffeq is not installed: make test-peers")


@pytest.fixture
def diffusers():
    return pytest.importorskip("diffusers", reason="diffusers is not installed: make test-peers")


@pytest.fixture
def compare(capsys, request):
    def compare(ours: torch.Tensor, theirs: torch.Tensor, *, bound: float = AGREEMENT) -> None:
        """States (steps, B, ...): the largest relative difference of any sample after any step."""
        assert ours.shape == theirs.shape
        difference = ((ours - theirs).flatten(2).norm(dim=2) / theirs.flatten(2).norm(dim=2)).max().item()
        with capsys.disabled():
            print(f"\n{request.node.name}: relative difference {difference:.1e} over {len(ours)} steps")
        assert difference < bound

    return compare


def states(solver, field, x, grid: list[float]) -> torch.Tensor:
    """x after every step."""
    found = []
    solver.integrate(field, x, grid, project=lambda x, t: found.append(x) or x)
    return torch.stack(found)


def uneven(steps: int) -> torch.Tensor:
    return component("schedule", "cosine", steps=steps).grid()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("euler", "euler"), ("midpoint", "midpoint"), ("heun", "heun2"), ("heun3", "heun3"), ("rk4_38", "rk4")],
)
def test_torchdiffeq_of_fixed_steps(ours, theirs, torchdiffeq, field, x, compare):
    grid = uneven(10)
    expected = torchdiffeq.odeint(lambda t, x: field(x, t.expand(len(x))), x, grid, method=theirs)[1:]
    compare(states(component("solver", ours), field, x, grid.tolist()), expected)


def test_torchdiffeqs_dopri5_on_a_given_grid(torchdiffeq, field, x, compare):
    """A tolerance that every step meets, and `step_t`, which no step passes over: each then ends at the grid's next."""
    grid = uneven(6)
    expected = torchdiffeq.odeint(
        lambda t, x: field(x, t.expand(len(x))),
        x,
        grid,
        method="dopri5",
        rtol=1e6,
        atol=1e6,
        options={"first_step": 1.0, "step_t": grid[1:]},
    )[1:]
    compare(states(component("solver", "dopri5_fixed"), field, x, grid.tolist()), expected)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
def test_torchdiffeqs_adaptive_dopri5(tolerance, torchdiffeq, field, x, compare):
    """One sample, since its error is of the whole batch. The same errors are asked for, by controllers of their own.

    Both ends lie some tolerances from the true one: their distance is a looser check, of ten.
    """
    field, grid = field.take(torch.tensor([0])), torch.tensor([0.0, 1.0], dtype=torch.float64)
    expected = torchdiffeq.odeint(
        lambda t, x: field(x, t.expand(len(x))), x[:1], grid, method="dopri5", rtol=tolerance, atol=tolerance
    )
    ours = Dopri5(rtol=tolerance, atol=tolerance).integrate(field, x[:1], [0.0, 1.0]).x
    compare(ours[None], expected[1:], bound=10 * tolerance)


def run(scheduler, field, x: torch.Tensor, sigmas: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """x after every evaluation, and the sigmas; `sigmas` replaces the scheduler's own."""
    scheduler.sigmas = scheduler.sigmas.double() if sigmas is None else sigmas
    scheduler.set_begin_index(0)
    found = []
    for sigma, timestep in zip(scheduler.sigmas, scheduler.timesteps):
        derivative = -field(x, (1 - sigma).expand(len(x)))
        x = scheduler.step(derivative, timestep, x, return_dict=False)[0]
        found.append(x)
    return torch.stack(found), scheduler.sigmas


def grid_of(sigmas: torch.Tensor) -> list[float]:
    return (1 - sigmas).tolist()


def flow(diffusers, name: str, steps: int, **settings):
    scheduler = getattr(diffusers, name)(use_flow_sigmas=True, prediction_type="flow_prediction", **settings)
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_match_euler(shift, diffusers, field, x, compare):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(20)
    expected, sigmas = run(scheduler, field, x)
    compare(states(Euler(), field, x, grid_of(sigmas)), expected)


def test_flow_match_heun(diffusers, field, x, compare):
    """2 N - 1 evaluations: its last step, from sigma = 0.001 to 0, is Euler's."""
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(10)
    expected, sigmas = run(scheduler, field, x)
    grid = grid_of(torch.cat([sigmas[:1], sigmas[1::2]]))
    ours = states(Heun(correct_last=False), field, x, grid)
    compare(ours, torch.cat([expected[1:-1:2], expected[-1:]]))


@pytest.mark.parametrize(
    ("order", "variant", "steps"), [(2, "midpoint", 6), (2, "midpoint", 20), (2, "heun", 20), (3, "midpoint", 20)]
)
def test_dpm_solver_multistep(order, variant, steps, diffusers, field, x, compare):
    scheduler = flow(diffusers, "DPMSolverMultistepScheduler", steps, solver_order=order, solver_type=variant)
    expected, sigmas = run(scheduler, field, x)
    compare(states(DPMSolverMultistep(order, variant), field, x, grid_of(sigmas)), expected)


def test_dpm_solver_3m_of_few_steps(diffusers, field, x, compare):
    """It takes the last but one of 10 steps with order 2: until then nothing differs."""
    expected, sigmas = run(flow(diffusers, "DPMSolverMultistepScheduler", 10, solver_order=3), field, x)
    ours = states(DPMSolverMultistep(3, "midpoint"), field, x, grid_of(sigmas))
    compare(ours[:8], expected[:8])
    assert not torch.allclose(ours[8], expected[8], atol=1e-4)


@pytest.mark.parametrize("variant", ["midpoint", "heun"])
@pytest.mark.parametrize("order", [2, 3])
def test_dpm_solver_singlestep(order, variant, diffusers, field, x, compare):
    """Each of our steps is `order` of its evaluations, at points of its grid.

    So it is given a grid that has ours' points within: steps even in log-SNR, and at last one to sigma = 0, Euler's.
    """
    steps = 6
    even = torch.linspace(log_snr_at(0.001), log_snr_at(0.95), steps * order + 1, dtype=torch.float64).tolist()
    sigmas = torch.tensor([*(1 - time_at(log_snr) for log_snr in even), 0.0], dtype=torch.float64)
    scheduler = flow(diffusers, "DPMSolverSinglestepScheduler", len(even), solver_order=order, solver_type=variant)
    expected, _ = run(scheduler, field, x, sigmas)
    grid = grid_of(torch.cat([sigmas[::order], sigmas[-1:]]))
    ours = states(DPMSolverSinglestep(order, variant), field, x, grid)
    compare(ours, torch.cat([expected[order - 1 :: order], expected[-1:]]))


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("steps", [6, 20])
def test_unipc_2(steps, variant, diffusers, field, x, compare):
    """Its bh1 ends in NaN at sigma = 0: B(h) is infinite, and multiplies the 0 that is added to Euler's step."""
    expected, sigmas = run(flow(diffusers, "UniPCMultistepScheduler", steps, solver_type=variant), field, x)
    ours = states(UniPC(2, variant), field, x, grid_of(sigmas))
    compared = steps - 1 if variant == "bh1" else steps
    compare(ours[:compared], expected[:compared])
    assert expected[compared:].isnan().all() and ours.isfinite().all()


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc_3(variant, diffusers, field, x, compare):
    """It takes the last but one step with order 2: until then nothing differs."""
    scheduler = flow(diffusers, "UniPCMultistepScheduler", 10, solver_order=3, solver_type=variant)
    expected, sigmas = run(scheduler, field, x)
    ours = states(UniPC(3, variant), field, x, grid_of(sigmas))
    compare(ours[:8], expected[:8])
    assert not torch.allclose(ours[8], expected[8], atol=1e-4)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc_3_without_a_last_step(variant, diffusers, field, x, compare):
    """On a grid that ends at sigma = 0.05, where its order need not be lowered."""
    settings = {"solver_order": 3, "solver_type": variant, "lower_order_final": False}
    scheduler = flow(diffusers, "UniPCMultistepScheduler", 12, **settings)
    sigmas = torch.linspace(0.999, 0.05, 13, dtype=torch.float64)
    expected, _ = run(scheduler, field, x, sigmas)
    compare(states(UniPC(3, variant), field, x, grid_of(sigmas)), expected)
