"""compat= presets: they compose, users override them, and a result says where it departs."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ditexp.cli.command import register_with_hydra
from ditexp.report.tables.footnotes import notes_on_conventions
from ditexp.report.tables.rows import merge_seeds
from ditexp.result import Result
from ditexp.run.departures import departures_of, notice_departures
from ditexp.run.settings import resolved, settings_of, without_hydra
from ditexp.terminal.notices import NOTICES
from tests.helpers.paths import CONF
from tests.helpers.results import cell, results_of

GIVEN = ("model.checkpoint=x.pt", "reference.path=y.npz")


@pytest.fixture(scope="module", autouse=True)
def hydra_of_the_checkout():
    register_with_hydra()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield


def composed(*overrides: str) -> tuple[DictConfig, DictConfig]:
    """(A configuration, Hydra's own part of it)."""
    cfg = compose("config", list(overrides), return_hydra_config=True)
    return without_hydra(cfg), cfg.hydra


def departures(*overrides: str) -> list[str]:
    cfg, hydra_cfg = composed(*overrides)
    config = resolved(cfg)
    return departures_of(config, settings_of(config, hydra_cfg), hydra_cfg.runtime.choices)


@pytest.mark.parametrize("preset", ["sit", "sit_sde", "dit", "repa", "lightningdit", "jit", "rae"])
def test_a_preset_departs_in_nothing_from_itself(preset):
    weak = ["guidance.weak.checkpoint=w"] if preset == "rae" else []
    facts = (*weak, "num_samples=1000", "seed=3", "devices=cpu:1", *([] if preset == "jit" else ["vae.path=z"]))
    assert departures(f"compat={preset}", *GIVEN, *facts) == []


@pytest.mark.parametrize("preset", ["sd3", "flux2", "sana"])
def test_the_prompts_of_a_pipeline_are_no_departure(preset):
    given = ("model.path=p", "condition.prompts=[a]", "num_samples=9", "schedule=shift")
    assert departures(f"compat={preset}", *given) == ["schedule=shift (pipeline)"]


def test_without_a_preset_there_is_nothing_to_depart_from():
    assert departures() == departures("compat=none", "solver=heun") == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("compat=sit", "solver=heun", "steps=126"), ["solver=heun (torchdiffeq)", "steps=126 (250)"]),
        (("compat=sit", "guidance.scale=1.5"), ["guidance.scale=1.5 (1.0)"]),
        (("compat=sit", "batch_size=64"), ["batch_size=64 (4)"]),
        (("compat=sit_sde", "batch_size=64"), []),
        (("compat=repa", "guidance.decided_per=evaluation"), ["guidance.decided_per=evaluation (step)"]),
        (
            ("compat=repa", "rounding=half_up", "precision=fp32"),
            ["precision=fp32 (tf32)", "rounding=half_up (truncate)"],
        ),
        (
            ("compat=jit", "solver=heun", "condition=random"),
            ["solver.correct_last=true (false)", "condition=random (in_order)"],
        ),
        (("compat=jit", "guidance=none", "reference=none"), ["guidance=none (cfg_jit)", "reference=none (npz)"]),
        (("compat=lightningdit", "vae=sd_vae_ft_ema"), ["vae.scaling_factor=0.18215 (1.0)"]),
        (("compat=sit", "vae=folder", "vae.path=z", "vae.scaling_factor=0.18215"), ["vae=folder (sd_vae_ft_ema)"]),
        (("compat=sit", "guidance=cfg", "guidance.scale=1", "guidance.guided_channels=3"), []),
    ],
)
def test_departures(overrides, expected):
    given = GIVEN[:1] if "reference=none" in overrides else GIVEN
    assert departures(*given, *overrides) == expected


def test_one_notice_counts_the_cells(caplog):
    NOTICES.reset()
    cells = [composed("compat=repa", *GIVEN, *more) for more in ((), ("steps=50",), ("steps=50", "seed=1"))]
    notice_departures(cells)
    assert [record.message for record in caplog.records] == ["compat=repa, but steps=50 (250) in 2 of 3 cells"]


def test_the_table_says_it():
    found = [cell(solver="torchdiffeq"), cell(solver="heun", departures=["solver=heun (torchdiffeq)"])]
    for each in found:
        each["settings"]["compat"] = "sit"
    rows = merge_seeds(results_of(found))
    assert notes_on_conventions(rows) == [
        "Conventions of compat=sit; departures: solver=heun (torchdiffeq) in 1 of 2 cells."
    ]
    assert notes_on_conventions(rows[:1]) == ["Conventions of compat=sit; departures: none."]
    assert Result.from_json(rows[1].first.to_json()).departures == ["solver=heun (torchdiffeq)"]
