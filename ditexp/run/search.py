"""The objectives of a search over cells: their directions, and their values in a result."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from ditexp.checks import ConfigError, choice
from ditexp.cli.packaged import options_of
from ditexp.report.tables.names import COSTS, METRICS
from ditexp.result import Result

OBJECTIVE = "hydra.sweeper.objective"
DIRECTION = "hydra.sweeper.direction"
DIRECTIONS = ("minimize", "maximize")


def directions(objectives: Sequence[str], given: Sequence[str] | None, *, metrics: Collection[str]) -> list[str]:
    """minimize or maximize for each objective: as given, or its own.

    metrics: the options of `metric` that are chosen. Raises ConfigError for an objective that no cell would have, or
    that has no direction.
    """
    if given is not None and len(given) != len(objectives):
        raise ConfigError(f"{DIRECTION}={','.join(given)}: give one for each of {OBJECTIVE}, or null")
    found = []
    for number, name in enumerate(objectives):
        check_is_measured(name, metrics)
        own = own_direction(name)
        if given is not None:
            found.append(choice(DIRECTION, given[number], DIRECTIONS))
        elif own is not None:
            found.append(own)
        else:
            known = [each for each in (*METRICS, *COSTS) if own_direction(each)]
            raise ConfigError(
                f"{OBJECTIVE}={name} has no direction of its own: give {DIRECTION}=minimize or maximize"
                if name in METRICS
                else f"{OBJECTIVE}={name} is not known: choose {', '.join(known[:8])}, ..., or give {DIRECTION}, too"
            )
    return found


def own_direction(name: str) -> str | None:
    """The better direction of a metric, or of a cost: less."""
    goal = METRICS[name].goal if name in METRICS else COSTS[name].goal or min if name in COSTS else None
    return None if goal is None else "minimize" if goal is min else "maximize"


def check_is_measured(name: str, metrics: Collection[str]) -> None:
    """Raise ConfigError if one of ditexp's metrics gives this score, and it is not chosen."""
    giving = [option for option in options_of("metric") if name in (option, *option.split("_"))]
    if giving and not set(giving) & set(metrics):
        raise ConfigError(f"{OBJECTIVE}={name} is not measured: add {giving[0]} to metric=[{','.join(metrics)}]")


def values_of(result: Result, objectives: Sequence[str]) -> list[float] | None:
    """The objectives' values; None if the cell has failed or one is not finite.

    Raises ConfigError if the cell is done and has no such metric or cost.
    """
    if not result.is_done or result.cost is None:
        return None
    numbers = result.cost.numbers() | result.metrics
    if absent := [name for name in objectives if name not in numbers]:
        raise ConfigError(f"{OBJECTIVE}={absent[0]}: the cell has no such number, but {', '.join(numbers)}")
    found = [math.nan if (value := numbers[name]) is None else float(value) for name in objectives]
    return found if all(map(math.isfinite, found)) else None
