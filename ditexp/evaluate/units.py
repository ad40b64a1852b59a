"""Which samples of a set on disk are independent: the task that made the set knows.

The set may come from a stranger, and its set.json says what to instantiate. So only ditexp's own tasks, data sets and
conditions are instantiated.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence

from omegaconf import OmegaConf

from ditexp.cli.components import instantiate
from ditexp.samples.store import SampleStore


def units_of(images: SampleStore, count: int) -> Sequence[int] | None:
    """The unit of each of the first `count` samples; samples of different units are independent. None: all are.

    Raises ValueError if the task cannot be instantiated, for example because the images it started from are gone.
    """
    task = images.record().config.get("task")
    if task is None:
        raise ValueError("set.json has no task")
    if strange := [target for target in targets_in(task) if not is_own(target)]:
        raise ValueError(f"set.json names {strange[0]}, which is none of ditexp's own tasks")
    return instantiate(OmegaConf.create(task)).units(range(count))


def targets_in(node: object) -> Iterator[str]:
    """Everything that a node of a configuration would instantiate or call.

    Interpolations are included, since they may stand for such nodes.
    """
    if isinstance(node, str) and "${" in node:
        yield node
    if isinstance(node, dict):
        yield from (str(value) for key, value in node.items() if key == "_target_")
        for value in node.values():
            yield from targets_in(value)
    if isinstance(node, list):
        for value in node:
            yield from targets_in(value)


def is_own(target: str) -> bool:
    """Whether a target is a class that one of ditexp's modules of tasks, data or conditions defines, not imports."""
    module, _, name = target.rpartition(".")
    if not re.fullmatch(r"ditexp\.(task|data|condition)(\.\w+)?", module):
        return False
    try:
        found = vars(importlib.import_module(module)).get(name)
    except ImportError:
        return False
    return isinstance(found, type) and found.__module__ == module
