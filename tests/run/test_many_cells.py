"""A sweep of many cells: what is done once, and what is done once for each cell."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import omegaconf.omegaconf
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import base

from ditexp.cli import settings
from ditexp.cli.packed import Packed
from ditexp.run import cell, plan, sweep
from ditexp.run.__main__ import main


@pytest.fixture
def counts(monkeypatch, tmp_path) -> Counter[str]:
    """How often a command composes, reads YAML files, unpacks configurations, and checks and builds cells."""
    found: Counter[str] = Counter()

    def counting(where: Any, name: str, what: str) -> None:
        original = vars(where)[name]

        def counted(*args: Any, **kwargs: Any) -> Any:
            found[what] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(where, name, counted)

    counting(ConfigLoaderImpl, "load_configuration", "composed")
    counting(omegaconf.omegaconf.yaml, "load", "files")
    counting(Packed, "__getitem__", "unpacked")
    counting(settings, "wrong_keys", "settled")
    for where in (cell, plan, sweep):
        counting(where, "build", "built")
    counting(cell, "read_result", "results")
    monkeypatch.chdir(tmp_path)
    return found


def test_work_for_a_cell_does_not_grow_with_their_number(counts, monkeypatch, capsys):
    def run(*arguments: str) -> dict[str, int]:
        counts.clear()
        monkeypatch.setattr(sys, "argv", ["ditexp run", "-m", "tracker=none", "metric=[]", *arguments])
        try:
            main()
        except SystemExit as ended:
            assert ended.code == 1, capsys.readouterr()
        return dict(counts)

    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(sweep.job, "run", fails)
    monkeypatch.setattr(sweep, "report_on", lambda *args: None)
    of_two = run("hydra/launcher=plan", "solver=euler,heun", "seed=0")
    parsed = base.parse.cache_info().misses
    for launcher, per_cell in (
        ("plan", {"settled": 1, "unpacked": 2, "built": 1, "results": 2}),
        ("local", {"settled": 1, "unpacked": 4, "built": 3, "results": 2}),  # also for the id of a cell that fails
    ):
        found = run(f"hydra/launcher={launcher}", "solver=euler,heun", "seed=range(4)")
        assert found["composed"] == of_two["composed"] == 4  # the sweep twice, and each solver
        assert found["files"] <= of_two["files"] and base.parse.cache_info().misses - parsed < 8  # not once a cell
        assert {what: found[what] / 8 for what in per_cell} == per_cell
