from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ditexp.solver.adaptive import EmbeddedPair


@dataclass(frozen=True)
class Dopri5(EmbeddedPair):
    """Dormand & Prince's 5(4) pair (1980; Hairer, Norsett & Wanner I, table II.5.2).

    Six evaluations a step, good or bad, and one before the first.
    """

    order: ClassVar[int] = 5
    c: ClassVar[tuple[float, ...]] = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
    a: ClassVar[tuple[tuple[float, ...], ...]] = (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    )
    e: ClassVar[tuple[float, ...]] = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
