"""Whole samples under the compat presets, against those that the original samplers drew from the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from ditexp import sampler as sampler_module
from ditexp.binding import bind
from ditexp.cli.command import register_with_hydra
from ditexp.condition.base import Conditioner
from ditexp.core import FlowModel
from ditexp.field import CountedField
from ditexp.pixels import Pixels, to_pixels
from ditexp.run.components import COMPONENTS, build_component
from ditexp.sampler import Sampler
from ditexp.values import Condition
from tests.golden.files import FOLDER, read_golden
from tests.golden.noise import normal, step_name
from tests.golden.original import in_float64, stand_in
from tests.golden.published import published_file
from tests.helpers.paths import CONF

FLOAT32 = "precision=fp32"  # the golden files are; jit's preset has bf16


class Golden:
    """The golden samples of a family."""

    def __init__(self, family: str, file: str = "samples.npz") -> None:
        self.family = family
        self.facts, self.arrays = read_golden(FOLDER / family / file)

    def checkpoint(self, folder: Path) -> str:
        """A file as the family's script writes it."""
        return published_file(folder / f"{self.family}.pt", self.family, self.facts["shapes"])


@dataclass(frozen=True)
class Given(Conditioner):
    """These labels."""

    labels: tuple[int, ...]

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        return Condition(torch.tensor([self.labels[index] for index in indices]))


@dataclass(frozen=True)
class StandIn(Pixels):
    """In place of a VAE."""

    def decode(self, x: Tensor) -> Tensor:
        return stand_in(x)


def sampler_of(golden: Golden, checkpoint: str, *overrides: str) -> Sampler:
    """The sampler of a command line, with the golden labels; a stand-in decodes latents."""
    register_with_hydra()
    family = [f"compat={golden.family}", "vae=none", FLOAT32, f"model.checkpoint={checkpoint}"]
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = compose("config", [*family, *overrides])
    parts = {name: build_component(cfg, name) for name in COMPONENTS}
    model = parts["model"]
    codec = None if model.codec else Latents()
    parts["condition"].check(model)
    return bind(
        **{name: parts[name] for name in ("model", "solver", "schedule", "guidance", "cache", "task")},
        conditioner=Given(tuple(golden.facts["labels"])),
        seed=0,
        device=torch.device("cpu"),
        vae=codec,
        rounding=cfg.rounding,
        precision=cfg.precision,
    )


class Latents:
    """A VAE whose codec is the stand-in."""

    def codec(self, sample_shape: Sequence[int]) -> StandIn:
        return StandIn((*sample_shape[1:], 3))


def compare(golden: Golden, case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    """Samples to 1e-4 of the largest, images to a grey level in at most 0.1 % of pixels, of the original's."""
    x, images = drawn_by_ditexp(golden, case, folder, monkeypatch, *overrides)
    expected, expected_images = golden.arrays[case], golden.arrays[f"{case}_images"]
    error = float((x - expected).abs().max() / expected.abs().max())
    levels = (images.int() - expected_images.int()).abs()
    off = float((levels > 0).float().mean())
    print(f"{golden.family} {case}: largest error {error:.1e}, pixels {100 * off:.3f} % off by {int(levels.max())}")
    assert error < 1e-4 and int(levels.max()) <= 1 and off <= 1e-3


def drawn_by_ditexp(
    golden: Golden, case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str
) -> tuple[Tensor, Tensor]:
    """(x, images) from the noise of the case."""
    scale = golden.facts["cases"][case].get("noise_scale", 1.0)
    name, made = f"{golden.family}, {case}", sampler_of(golden, golden.checkpoint(folder), *overrides)
    dtype = golden.arrays[case].dtype

    def noise(seed: int, indices: Sequence[int], shape: Sequence[int]) -> Tensor:
        return normal(name, (len(indices), *shape)).to(dtype)

    def step_noise(seed: int, indices: Sequence[int], shape: Sequence[int], step: int) -> Tensor:
        return normal(step_name(name, step), (len(indices), *shape))

    monkeypatch.setattr(sampler_module, "noise", noise)
    monkeypatch.setattr(sampler_module, "step_noise", step_noise)
    with torch.inference_mode(), in_float64(made.model.network) if dtype == torch.float64 else nullcontext():
        x, _ = made.task(made, range(len(golden.facts["labels"])))
        return made.codec.decode(x) if scale != 1 else x, made.decode(x)


SIT = Golden("sit")
HEADS = "model.num_heads=4"


@pytest.mark.parametrize(
    ("case", "overrides"),
    [
        ("euler", ("solver=euler", "steps=20")),
        ("euler_guided", ("solver=euler", "steps=20", "guidance.scale=1.5")),
        ("heun2_guided", ("solver=heun", "steps=13", "guidance.scale=1.5")),
        ("dopri5", ()),
        ("dopri5_guided", ("guidance.scale=2.5",)),
        ("sde", ("compat=sit_sde", "steps=20")),
        ("sde_guided", ("compat=sit_sde", "steps=20", "guidance.scale=1.5")),
        ("sde_decreasing", ("compat=sit_sde", "steps=20", "guidance.scale=1.5", "solver.diffusion=decreasing")),
        ("sde_heun", ("compat=sit_sde", "solver=stochastic_heun_sit", "steps=12")),
        ("sde_heun_guided", ("compat=sit_sde", "solver=stochastic_heun_sit", "steps=12", "guidance.scale=1.5")),
    ],
)
def test_sit(case, overrides, tmp_path, monkeypatch):
    compare(SIT, case, tmp_path, monkeypatch, HEADS, *overrides)


def test_the_null_half_belongs_to_the_error_of_torchdiffeq(tmp_path, monkeypatch):
    """It changes the steps, and by them the samples."""
    monkeypatch.setattr(CountedField, "doubled", lambda field, x, t: torch.cat([field(x, t)] * 2))
    case = "dopri5_guided"
    x, _ = drawn_by_ditexp(SIT, case, tmp_path, monkeypatch, HEADS, "guidance.scale=2.5")
    error = float((x - SIT.arrays[case]).abs().max() / SIT.arrays[case].abs().max())
    print(f"without the null half: largest error {error:.1e}")
    assert error > 1e-6  # with it, 1e-11


REPA = Golden("repa")
OF_ODE = ("schedule=uniform", "steps=10")


@pytest.mark.parametrize(
    ("case", "overrides"),
    [
        ("euler", ("solver=euler", *OF_ODE, "guidance=none")),
        ("euler_guided", ("solver=euler", *OF_ODE)),
        ("heun_guided", ("solver=heun_edm", *OF_ODE, "guidance.interval=null")),
        ("heun_edge_on_grid", ("solver=heun_edm", *OF_ODE)),
        ("heun_edge_in_step", ("solver=heun_edm", *OF_ODE, "guidance.scale=2.5", "guidance.interval=[0.35,0.8]")),
        ("sde", ("steps=20", "guidance=none")),
        ("sde_guided", ("steps=20",)),
    ],
)
def test_repa(case, overrides, tmp_path, monkeypatch):
    compare(REPA, case, tmp_path, monkeypatch, HEADS, *overrides)


LIGHTNINGDIT = Golden("lightningdit")


@pytest.mark.parametrize(
    ("case", "overrides"),
    [
        ("euler", ("steps=20", "guidance=none")),
        ("euler_guided", ("steps=20",)),
        ("euler_edge_on_grid", ("schedule=compat_sit", "steps=11", "guidance.interval=[0.3,1]")),
        ("dopri5_guided", ("solver=torchdiffeq", "guidance.scale=2", "guidance.interval=null")),
    ],
)
def test_lightningdit(case, overrides, tmp_path, monkeypatch):
    compare(LIGHTNINGDIT, case, tmp_path, monkeypatch, HEADS, *overrides)


JIT = Golden("jit")


@pytest.mark.parametrize(
    ("case", "overrides"),
    [
        ("unguided", ("guidance=none",)),
        ("guided", ("guidance.interval=null",)),
        ("interval", ()),
        ("inner_interval", ("guidance.scale=2.2", "guidance.interval=[0.1,0.8]")),
        ("noise_scale_2", ("guidance.scale=2.3", "model.noise_scale=2")),
    ],
)
def test_jit(case, overrides, tmp_path, monkeypatch):
    compare(JIT, case, tmp_path, monkeypatch, "model.in_context_start=1", *overrides)


RAE = Golden("rae")
WITH_CFG = ("guidance=cfg", "guidance.scale=2.5", "guidance.interval_closed=both")


@pytest.mark.parametrize(
    ("case", "overrides"),
    [
        ("euler", ("guidance=none", "steps=20")),
        pytest.param("cfg_interval", (*WITH_CFG, "guidance.interval=[0.1,0.8]", "steps=12"), marks=pytest.mark.slow),
        ("cfg_edge_on_grid", (*WITH_CFG, "guidance.interval=[0.333,0.666]", "steps=10", "schedule.dimension=4096")),
        ("autoguidance", ("steps=20",)),
    ],
)
def test_rae(case, overrides, tmp_path, monkeypatch):
    """Its sampler ends before t = 1."""
    weak = published_file(tmp_path / "weak.pt", "rae", RAE.facts["weak_shapes"])
    given = (f"guidance.weak.checkpoint={weak}",) if case == "autoguidance" else ()
    compare(RAE, case, tmp_path, monkeypatch, *given, *overrides)


DDT = Golden("ddt")


@pytest.mark.parametrize(
    ("case", "overrides"),
    [
        pytest.param("euler", ("guidance=none",), marks=pytest.mark.slow),
        pytest.param("guided", (), marks=pytest.mark.slow),
        ("edge_on_grid", ("steps=10", "schedule.last=0.1")),
        pytest.param("shifted", ("schedule.shift=2",), marks=pytest.mark.slow),
        ("reuse_2", ("cache=ddt",)),
        pytest.param("reuse_3", ("cache=ddt", "cache.interval=3"), marks=pytest.mark.slow),
    ],
)
def test_ddt(case, overrides, tmp_path, monkeypatch):
    settings = ("model.encoder_depth=2", "model.input_size=8", *(() if "steps=10" in overrides else ("steps=20",)))
    compare(DDT, case, tmp_path, monkeypatch, *settings, *overrides)


REPA_E = Golden("repa_e")


@pytest.mark.parametrize(
    ("case", "overrides"),
    [
        pytest.param("euler_guided", ("solver=euler", "schedule=uniform", "steps=10"), marks=pytest.mark.slow),
        pytest.param("sde", ("steps=20", "guidance=none"), marks=pytest.mark.slow),
        ("sde_guided", ("steps=20", "guidance.scale=2.5", "guidance.interval=[0.25,1]")),
    ],
)
def test_repa_e(case, overrides, tmp_path, monkeypatch):
    compare(REPA_E, case, tmp_path, monkeypatch, HEADS, *overrides)


PIXELS = ("model.noise_scale=2",)


@pytest.mark.parametrize(
    ("family", "case", "overrides"),
    [
        ("meanflow", "one_step", (HEADS,)),
        pytest.param("meanflow", "two_steps", (HEADS, "steps=2"), marks=pytest.mark.slow),
        pytest.param("meanflow", "four_steps", (HEADS, "steps=4"), marks=pytest.mark.slow),
        pytest.param("imf", "one_step", ("model.omega=8", "model.interval=[0.35,0.6]"), marks=pytest.mark.slow),
        ("imf", "two_steps", ("steps=2", "model.omega=4", "model.interval=[0.36,0.64]")),
        pytest.param(
            "pmf", "one_step", (*PIXELS, "model.omega=7.5", "model.interval=[0.2,0.9]"), marks=pytest.mark.slow
        ),
        ("pmf", "two_steps", (*PIXELS, "steps=2", "model.omega=6.5", "model.interval=[0.3,0.9]")),
    ],
)
def test_models_of_two_times(family, case, overrides, tmp_path, monkeypatch):
    compare(Golden(family), case, tmp_path, monkeypatch, *overrides)


DIT = Golden("dit")


@pytest.mark.parametrize(
    ("case", "overrides"),
    [
        ("ddpm_250_guided", ()),
        ("ddpm_40", ("steps=40", "guidance=none")),
        ("ddpm_21_small", ("steps=21", "guidance=none", "solver.variance=fixed_small")),
        ("ddpm_21_large", ("steps=21", "guidance=none", "solver.variance=fixed_large")),
        ("ddim_50_guided", ("steps=50", "solver=ddim")),
        ("ddim_50_noisy", ("steps=50", "solver=ddim", "solver.eta=0.7")),
    ],
)
def test_dit(case, overrides, tmp_path, monkeypatch):
    """A chain that begins with drawn weights ends far beyond [-1, 1], so its pixels are those of smaller samples."""
    x, _ = drawn_by_ditexp(DIT, case, tmp_path, monkeypatch, HEADS, *overrides)
    expected = DIT.arrays[case]
    error = float((x - expected).abs().max() / expected.abs().max())
    size = 2 * expected.std()
    levels = (to_pixels(x / size).int() - to_pixels(expected / size).int()).abs()
    off = float((levels > 0).float().mean())
    print(f"dit {case}: largest error {error:.1e}, pixels {100 * off:.3f} % off by {int(levels.max())}")
    assert error < 1e-4 and int(levels.max()) <= 1 and off <= 1e-3


@pytest.mark.parametrize(
    ("case", "overrides"),
    [
        ("taylorseer_4_4", ("solver=ddim", "cache=taylorseer", "cache.interval=4", "cache.order=4")),
        ("taylorseer_3_1", ("solver=ddim", "cache=taylorseer")),
        ("fora_3", ("cache=fora",)),
    ],
)
def test_caches(case, overrides, tmp_path, monkeypatch):
    """TaylorSeer's and FORA's own code. Without the cache, the samples are others."""
    golden = Golden("dit", f"{case.partition('_')[0]}.npz")
    x, _ = drawn_by_ditexp(golden, case, tmp_path, monkeypatch, HEADS, "steps=28", *overrides)
    without, _ = drawn_by_ditexp(golden, case, tmp_path, monkeypatch, HEADS, "steps=28", *overrides, "cache.interval=1")
    size = golden.arrays[case].abs().max()
    errors = [float((each - golden.arrays[case]).abs().max() / size) for each in (x, without)]
    print(f"{case}: largest error {errors[0]:.1e}, without the cache {errors[1]:.1e}")
    assert errors[0] < 1e-5 and errors[1] > 1e-3
