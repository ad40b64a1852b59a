"""The cells of a sweep over a group: a setting goes to the options that have it.

The cells of guidance=none,cfg guidance.scale=1,1.5 are one of none, which has no scale, and two of cfg.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from hydra.errors import HydraException

from ditexp.cli.errors import describe
from ditexp.terminal.notices import notice

Cell = tuple[str, ...]  # its overrides


def fitting(batch: Sequence[Sequence[str]], compose: Callable[[list[str]], object]) -> list[list[str]]:
    """The cells without settings that their options lack, each once. A notice names what is left out.

    compose: of a cell's overrides. Raises its HydraException, also for a setting that no option of the sweep has.
    """
    lacking: dict[str, dict[str, HydraException]] = {}  # by the setting, by the option that lacks it
    cells = [without_foreign(cell, batch, compose, lacking) for cell in batch]
    for key, errors in lacking.items():
        if not any(text.startswith(f"{key}=") for cell in cells for text in cell):
            # The option that a mistyped setting is meant for has one of a similar name.
            raise max(errors.values(), key=lambda error: "did you mean" in describe(error)[0])
    for key, errors in lacking.items():
        notice(f"{key} goes to the options that have it; {', '.join(errors)} runs without")
    return [list(cell) for cell in dict.fromkeys(cells)]


def without_foreign(
    cell: Sequence[str],
    batch: Sequence[Sequence[str]],
    compose: Callable[[list[str]], object],
    lacking: dict[str, dict[str, HydraException]],
) -> Cell:
    """A cell without the settings of swept groups that its options lack; those are added to `lacking`."""
    left = list(cell)
    while True:
        try:
            compose(left)
            return tuple(left)
        except HydraException as error:
            found = re.search(r"Could not override '(([\w/]+)\.[\w.]+)'", str(error))
            options = {text for each in batch for text in each if found and text.startswith(f"{found[2]}=")}
            given = [text for text in left if found and text.startswith(f"{found[1]}=")]
            if not found or not given or len(options) < 2:
                raise
            option = next(text for text in left if text in options)
            lacking.setdefault(found[1], {}).setdefault(option, error)
            left.remove(given[0])
