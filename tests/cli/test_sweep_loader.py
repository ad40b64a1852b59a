"""The quick way to compose a sweep's cells gives what Hydra gives, to the last flag, and asks Hydra seldom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig
from omegaconf.base import Node

from ditexp.cli.command import register_with_hydra
from ditexp.cli.sweep_loader import SweepLoader
from tests.helpers.paths import CONF

FILES = {
    "preset/mine.yaml": "# @package _global_\ndefaults: [{override /solver: dopri5}]\nsolver: {rtol: 0.1}\nsteps: 7\n",
    "solver/own.yaml": "defaults: [dopri5]\natol: ${half}\n",
    "hydra/env/own.yaml": "job: {env_set: {A: b}}\n",
}


@pytest.fixture(scope="module")
def loaders(tmp_path_factory) -> Iterator[tuple[ConfigLoaderImpl, SweepLoader, Any]]:
    """Hydra's loader and the quick one, and the configuration of a sweep."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    register_with_hydra()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        found: Any = GlobalHydra.instance().config_loader()
        setup_globals()
        given = [f"hydra.searchpath=[file://{folder}]", "hydra/env=own", "hydra.job.env_copy=[PATH]", "solver=heun"]
        master = found.load_configuration("config", given, RunMode.MULTIRUN)
        assert master.hydra.sweep.dir  # as the first cell's, it is filled in with this second
        yield found, SweepLoader(found), master


def inside(node: Node) -> tuple[Any, ...]:
    """A node with all that OmegaConf knows of it: types, flags, values that are filled in; and so of those below it."""
    held = node._value()
    if isinstance(node, DictConfig) and isinstance(held, dict):
        held = [(key, inside(each)) for key, each in held.items()]
    elif isinstance(node, ListConfig) and isinstance(held, list):
        held = [inside(each) for each in held]
    return type(node), vars(node._metadata), held


@pytest.mark.parametrize(
    "overrides",
    [
        ["steps=3", "study='${outputs}/x'", "+mine=[1,{a: b}]", "++seed='3'", "~rate", "forwards=null", "steps=4"],
        ["guidance=cfg", "guidance.scale=2.5", "guidance={scale: 3}", "+model.mine=3", "metric=[fid,kid]", "~vae"],
        ["preset=mine", "solver.atol=0.2", "steps=9", "solver.rtol=${solver.atol}", "devices='[0,2]'"],
        ["solver=own", "+half=0.5", "preset=mine"],
        ["experiment=solvers", "compat=none", "num_samples=3", "outputs='~/x'"],
        ["seed=1", "hydra.job.name=mine"],
        ["steps=3", "solver.rtol=3"],  # Euler has no such setting
        ["steps=3", "+steps=3"],
        ["steps=3", "nonsense@here=3"],
        ["seed=}"],
    ],
)
def test_it_composes_what_hydra_does(overrides, loaders):
    hydra, quick, master = loaders
    try:
        expected = hydra.load_sweep_config(master, overrides)
    except HydraException as error:
        with pytest.raises(type(error)) as ours:
            quick.load_sweep_config(master, overrides)
        assert str(ours.value) == str(error)
    else:
        assert inside(quick.load_sweep_config(master, overrides)) == inside(expected)


def test_what_a_cell_changes_is_not_there_in_the_next(loaders):
    _, quick, master = loaders
    first, second = (quick.load_sweep_config(master, ["seed=1"]) for _ in range(2))
    first.steps = first.model.checkpoint = first.hydra.runtime.choices.solver = "x"
    assert inside(quick.load_sweep_config(master, ["seed=1"])) == inside(second)
