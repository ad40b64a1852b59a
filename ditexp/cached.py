"""The network during an integration whose evaluations reuse outputs of each other's blocks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.cache.work import share_of_work
from ditexp.core import Cache, CacheState, EvaluatedModel, FlowModel, TransformerModel
from ditexp.network import Network, Rehearsal
from ditexp.values import Condition


@dataclass(frozen=True, eq=False)
class CachedNetwork:
    """A network with the state of one integration of one batch. An evaluation counts as the share that it computes."""

    network: Network | Rehearsal
    model: TransformerModel
    cache: Cache
    state: CacheState

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        walk = self.state.evaluation(t[0].item(), len(x))  # fixed steps: all samples are at one time
        share = 1 if walk.is_full else share_of_work(self.cache, self.model, x, condition)
        return self.network(x, t, condition, walk, share)

    def null(self, condition: Condition) -> Condition:
        return self.network.null(condition)

    def beside(self, model: FlowModel) -> EvaluatedModel:
        """A second model, such as autoguidance's weak one: it is not cached."""
        return self.network.beside(model)


def with_cache(network: Network | Rehearsal, model: FlowModel, cache: Cache) -> CachedNetwork:
    """The network for an integration that begins."""
    assert isinstance(model, TransformerModel), "bind checks it"
    return CachedNetwork(network, model, cache, cache.begin(model))
