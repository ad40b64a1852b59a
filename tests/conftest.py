from __future__ import annotations

import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from ditexp.cli.command import register_with_hydra
from ditexp.terminal.console import LOG_FILE
from ditexp.terminal.notices import NOTICES
from tests.helpers import commands

# One thread a process: two torch processes of two threads each on two cores are several times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

register_with_hydra()  # before any test composes a configuration: Hydra looks for plugins once a process

CACHE = tempfile.TemporaryDirectory()  # in place of the user's, for the processes that tests start, too
os.environ["DITEXP_CACHE"] = CACHE.name


# Begun first, so that no worker is left alone with them: they take minutes, by processes that they wait for.
SLOWEST = (
    *("test_published_models", "test_run", "test_faults", "test_wandb_sweep", "test_settings", "test_train"),
    *("test_launchers", "test_evaluate", "test_latents", "test_wandb_live", "test_adaptive", "test_reproducible"),
    *("test_interpolate", "test_first_use", "test_sampling", "test_fuzz", "test_wandb", "test_trajectory"),
    *("test_docs", "test_benchmarks", "test_wandb_where", "test_metrics", "test_samples", "test_tour"),
)


def pytest_collection_modifyitems(config, items) -> None:
    rank = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(SLOWEST)))
    if "not slow" not in config.option.markexpr:
        commands.fork_server.PRELOAD.append(commands.DIFFUSERS)


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Whatever tests ran before in the same process."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def forget_notices() -> Callable[[], None]:
    """Every test gets each notice anew, and again once it calls this."""
    NOTICES.reset()
    return NOTICES.reset


@pytest.fixture(autouse=True)
def logging_as_before():
    """A command run in this process leaves a handler on the stream of its own test, which is closed by the next."""
    loggers = [logging.getLogger(), LOG_FILE]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before):
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.fixture
def ditexp(tmp_path) -> Callable[..., commands.Command]:
    """ditexp("-m", "solver=euler") runs the main command with its outputs in tmp_path, without W&B.

    Halves of the samples are scored only where a test gives resamples=..., since that takes a quarter of a small cell.
    ditexp.start(...) does not wait for its end.
    """

    def start(*arguments: str, module: str = "ditexp.run", **options) -> commands.Command:
        flags = [argument for argument in arguments if argument.startswith("-")]
        rest = [argument for argument in arguments if not argument.startswith("-")]
        defaults = [f"outputs={tmp_path / 'outputs'}", "tracker=none", "resamples=0"] if module == "ditexp.run" else []
        log = commands.unused_name(tmp_path / "logs")
        return commands.start(log, module, *flags, *defaults, *rest, **options)

    def run(*arguments: str, **options) -> commands.Command:
        return start(*arguments, **options).wait()

    run.start = start
    return run


@dataclass
class Ended:
    """code: None where the command only returned."""

    code: int | None
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        return [line.removeprefix("ditexp: ") for line in self.err.splitlines() if line.startswith("ditexp: ")]


@pytest.fixture
def in_process(monkeypatch, tmp_path, capsys) -> Callable[..., Ended]:
    """in_process("-m", "solver=euler") runs a command here, in tmp_path, for what ends before any sampling.

    It takes a tenth of the time of a process of its own. command: the subcommand; "" if it is among the arguments.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(*arguments: str, command: str = "run") -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["ditexp", *arguments])
        try:
            importlib.import_module(f"ditexp.{command}.__main__" if command else "ditexp.__main__").main()
            code = None
        except SystemExit as ended:
            code = ended.code
        return Ended(code, *capsys.readouterr())

    return run


def pytest_terminal_summary(terminalreporter) -> None:
    """The tables of faults that test_faults.py injected, of the files of test_damaged_files.py, of fuzzes, and of the
    differences between pipelines and those of diffusers."""
    passed = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    faults = [value for report in passed for name, value in report.user_properties if name == "fault"]
    if faults:
        terminalreporter.section("faults; after each, running again gave the bytes of an undisturbed run")
        for fault, times, outcome in faults:
            terminalreporter.line(f"{fault:{max(len(fault) for fault, _, _ in faults)}}  {times:3} x  {outcome}")
    damaged = [value for report in passed for name, value in report.user_properties if name == "damaged"]
    if damaged:
        total = sum(count for _, count, _, _ in damaged)
        terminalreporter.section(f"{total} damaged or hostile files, and what came of reading them")
        for kind, count, outcomes, megabytes in damaged:
            found = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
            terminalreporter.line(f"{kind:24} {count:3} files  {found:36} {megabytes:3} MB at most")
    fuzz = [value for report in passed for name, value in report.user_properties if name == "fuzz"]
    if fuzz:
        total = sum(sum(outcomes.values()) for _, outcomes, _, _ in fuzz)
        terminalreporter.section(f"{total} of {total} hostile, damaged and unusual checkpoints as they should be")
        for kind, outcomes, (seconds, slowest), longest in fuzz:
            found = f"{sum(outcomes.values()):3} files  {outcomes['refused']:3} refused  {outcomes['taken']:3} taken"
            rest = f"slowest {seconds:4.1f} s ({slowest})"
            terminalreporter.line(f"{kind:24} {found}  longest line {longest:3}  {rest}")
    parity = [value for report in passed for name, value in report.user_properties if name == "parity"]
    if parity:
        terminalreporter.section("pipelines: largest difference of latents and of grey levels from those of diffusers")
        for kind, steps, weight, settings, difference, levels in parity:
            given = ", ".join(f"{name}={value}" for name, value in settings.items())
            terminalreporter.line(f"{kind:12} {steps:2} steps  {weight:3g}  {given:36} {difference:.1e}  {levels:.3f}")
