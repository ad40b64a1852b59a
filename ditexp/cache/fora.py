from __future__ import annotations

from dataclasses import dataclass

from ditexp.cache.base import Periodic
from ditexp.cache.branches import Branches
from ditexp.core import TransformerModel


@dataclass(frozen=True, kw_only=True)
class FORA(Periodic):
    """FORA (Selvaraju et al. 2024, arXiv 2407.01425): the outputs of attention and MLP are reused as they are.

        x = x + gate(t) F(t_0)    for each branch F, where t_0 is the time of the last full evaluation

    Full evaluations are the first, and every N-th after it. The released code counts from the last step backwards, so
    that the last one is full, too: at 50 steps with N = 3, first=2 are its evaluations.
    """

    def begin(self, model: TransformerModel) -> Branches:
        return Branches(self, model)
