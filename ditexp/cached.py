"""The network during an integration whose evaluations reuse outputs of each other's blocks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.cache.work import share_of_work
from ditexp.core import Cache, CacheState, EvaluatedModel, FlowModel, TransformerModel
from ditexp.meter import Meter
from ditexp.network import Network, Rehearsal
from ditexp.values import Condition


@dataclass(frozen=True, eq=False)
class CachedNetwork:
    """A network with the state of one integration of one batch. An evaluation counts as the share that it computes.

    meter: of the field, which knows the time of the evaluation without reading it from the device.
    """

    network: Network | Rehearsal
    meter: Meter
    model: TransformerModel
    cache: Cache
    state: CacheState

    def __call__(
        self, x: Tensor, t: float | Tensor, condition: Condition, *, until: float | Tensor | None = None
    ) -> Tensor:
        assert until is None, "bind refuses it"
        walk = self.state.evaluation(self.time, len(x))
        share = 1 if walk.is_full else share_of_work(self.cache, self.model, x, condition)
        return self.network(x, t, condition, walk, share)

    @property
    def time(self) -> float:
        """With fixed steps, all samples are at one time."""
        times = self.meter.times
        assert times is not None, "the field sets it"
        return times[0].item() if isinstance(times, Tensor) else times

    def null(self, condition: Condition) -> Condition:
        return self.network.null(condition)

    def beside(self, model: FlowModel) -> EvaluatedModel:
        """A second model, such as autoguidance's weak one: it is not cached."""
        return self.network.beside(model)


def with_cache(network: Network | Rehearsal, meter: Meter, model: FlowModel, cache: Cache) -> CachedNetwork:
    """The network for an integration that begins."""
    assert isinstance(model, TransformerModel), "bind checks it"
    return CachedNetwork(network, meter, model, cache, cache.begin(model))
