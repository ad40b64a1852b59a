"""The settings of a cell before anything is built: every mistake at once, and steps from a budget of evaluations."""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from omegaconf import DictConfig, OmegaConf

from ditexp.checks import ConfigError, choice, is_name, number
from ditexp.cli.errors import describe
from ditexp.cli.numbers import not_whole_numbers
from ditexp.pixels import ROUNDINGS
from ditexp.precision import COMPILE, PRECISIONS
from ditexp.samples.store import KEEP
from ditexp.terminal.notices import notice

MEASURE = "measure"  # the value of the setting `rate` that has the device measured
AUTO = "auto"  # the value of the setting `batch_size` that has it measured

P = ParamSpec("P")
T = TypeVar("T")


class Mistakes:
    """Collects what is wrong with a configuration, a line each, so that the user sees all of it at once.

    A context: it ends with a ConfigError of all mistakes, among them any error that ended it early.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __enter__(self) -> Mistakes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *traceback: object) -> None:
        if isinstance(error, Exception):
            self.add(describe(error))
        if self.lines and (error is None or isinstance(error, Exception)):
            raise ConfigError("\n".join(self.lines))

    def add(self, lines: Iterable[str]) -> None:
        self.lines += [line for line in lines if line not in self.lines]

    def attempt(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """The value of a call; None where it raises, and the error is added."""
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self.add(describe(error))
            return None


@dataclass(frozen=True)
class Slice:
    """The part of a set's blocks that one run makes: number of count, from 1. slice=2/8 is blocks 1, 9, 17, ..."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Slice:
        """None: all blocks. Raises ValueError unless the text is k/n with 1 <= k <= n."""
        if text is None:
            return cls()
        match = re.fullmatch(r"(\d+)/(\d+)", str(text))
        number, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= count:
            raise ValueError(f"slice={text}: give k/n with 1 <= k <= n, such as slice=2/8, or null for all")
        return cls(number, count)

    def of(self, blocks: Sequence[int]) -> list[int]:
        return [block for block in blocks if block % self.count == self.number - 1]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def check_numbers(cfg: DictConfig) -> list[str]:
    """The mistakes in the plain values of a configuration; found without torch."""
    mistakes = Mistakes()
    mistakes.add(not_whole_numbers(cfg, num_samples=1, seed=0, resamples=0))
    mistakes.add(f"{line}, or {AUTO}" for line in not_whole_numbers(cfg, batch_size=1) if cfg.batch_size != AUTO)
    if cfg.forwards is not None:
        mistakes.add(not_whole_numbers(cfg, forwards=1))
    if cfg.rate is not None:
        mistakes.attempt(check_rate, cfg.rate)
    mistakes.attempt(choice, "precision", cfg.precision, PRECISIONS)
    mistakes.attempt(choice, "rounding", cfg.rounding, ROUNDINGS)
    mistakes.attempt(choice, "store", cfg.store, KEEP)
    if not is_name(str(cfg.study)):
        mistakes.add([f"study={cfg.study}: give a name, without /"])
    mistakes.attempt(choice_of_compile, cfg.compile)
    mistakes.attempt(Slice.parse, cfg.slice)
    return mistakes.lines


def choice_of_compile(value: object) -> None:
    """Raise ValueError unless the setting `compile` is false, true or max. 0 and 1, which equal these, are refused."""
    if value not in COMPILE or not isinstance(value, bool | str):
        raise ValueError(f"compile={value}: choose from {', '.join(str(one).lower() for one in COMPILE)}")


def check_rate(rate: object) -> None:
    """Raise ValueError unless the setting `rate` is a number above 0, or measure."""
    if rate != MEASURE:
        try:
            number("rate", rate, above=0)
        except ValueError as error:
            raise ValueError(f"{error}, or rate={MEASURE}") from None


def with_steps(cfg: DictConfig) -> DictConfig:
    """The configuration with the most steps that fit in `forwards` network evaluations per sample.

    Without `forwards`, the configuration as it is. Raises ValueError where steps have no effect, or where one step
    needs more evaluations.
    """
    if cfg.forwards is None:
        return cfg
    import torch

    from ditexp.run.components import COMPONENTS, bind_components, build_component

    parts = {name: build_component(cfg, name) for name in COMPONENTS}
    if parts["solver"].adaptive or "steps" not in cfg.schedule:
        what = "an adaptive solver" if parts["solver"].adaptive else "a schedule without steps"
        raise ValueError(
            f"forwards={cfg.forwards} sets the number of steps, but they don't act on {what}: leave it out"
        )

    def forwards(steps: int) -> float:
        trial = with_value(cfg, "steps", steps)
        try:
            schedule = build_component(trial, "schedule")
            sampler, _ = bind_components(trial, parts | {"schedule": schedule}, torch.device("cpu"))
        except ValueError:  # the schedule needs at least two steps, or has fewer than these
            return 0.0 if steps == 1 else math.inf
        evaluations = sampler.evaluations()
        return math.inf if evaluations is None else evaluations[1]

    largest = cfg.forwards * (parts["cache"].period if parts["cache"] else 1)  # a step may cost less than 1
    steps = bisect.bisect_right(range(1, largest + 1), cfg.forwards, key=forwards)
    if not steps:
        raise ValueError(f"forwards={cfg.forwards} is not enough for one step, which needs {forwards(1):g}: give more")
    if (used := forwards(steps)) < cfg.forwards:
        solver = type(parts["solver"]).__name__
        notice(f"{solver} uses {used:g} of forwards={cfg.forwards}, since one more step would exceed it")
    return with_value(cfg, "steps", steps)


def with_value(cfg: DictConfig, key: str, value: object) -> DictConfig:
    """A copy of a configuration with another value."""
    merged = OmegaConf.merge(cfg, {key: value})
    assert isinstance(merged, DictConfig)
    return merged
