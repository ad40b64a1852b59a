"""Models that are evaluated block by block, and caches of what their blocks compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from ditexp.core.models import FlowModel
from ditexp.values import Condition


@runtime_checkable
class TransformerBlock(Protocol):
    """A block of a transformer: a sum of its input and of the gated outputs of its branches."""

    def __call__(self, x: Tensor, c: Tensor, *inputs: Any, **given: Any) -> Tensor:
        """The tokens after the block, from those before it, x (B, N, D). c: modulates them, (B, D) or (B, N, D)."""

    def computed(self, x: Tensor, c: Tensor, *inputs: Any, **given: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same, and the output of each branch before its gate (B, N, D)."""

    def completed(self, x: Tensor, c: Tensor, branches: Sequence[Tensor]) -> Tensor:
        """The tokens after the block if these are the outputs of its branches before their gates."""


class Walk(Protocol):
    """One evaluation of a transformer: how each of its blocks is computed.

    is_full: whether it computes all of them; an evaluation that is not full reuses outputs of the last one that is.
    """

    @property
    def is_full(self) -> bool: ...

    def __call__(
        self, number: int, block: TransformerBlock, tokens: Tensor, c: Tensor, *inputs: Any, **given: Any
    ) -> Tensor:
        """The tokens after block `number`, from the tokens before it and the block's other inputs."""


@runtime_checkable
class EncoderWalk(Walk, Protocol):
    """A walk that decides whether a network's encoder is computed."""

    def encoded(self, encode: Callable[[], Tensor]) -> Tensor:
        """The encoder's output, which modulates the other blocks: what `encode` computes, or an earlier one."""


@runtime_checkable
class TransformerModel(FlowModel, Protocol):
    """A model whose network is a sequence of blocks, which can be evaluated by a walk through them."""

    @property
    def blocks(self) -> nn.ModuleList: ...

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, walk: Walk | None = None) -> Tensor:
        """The velocity, as of FlowModel. walk: computes the blocks in place of themselves."""

    def network_time(self, t: float) -> float:
        """The time that the network is given at t."""


@runtime_checkable
class PartedModel(TransformerModel, Protocol):
    """A transformer that may have several parts, each with tokens of its own, such as a trunk and a head.

    parts: the numbers of the blocks of each; one part if the tokens of each block lead to the next.
    """

    @property
    def parts(self) -> tuple[range, ...]: ...


class CacheState(Protocol):
    """What one integration of one batch remembers of its evaluations."""

    def evaluation(self, t: float, rows: int) -> Walk:
        """The walk of the next evaluation, at time t. rows: the samples in its batch."""


class Cache(Protocol):
    """Reuses outputs of a transformer's blocks over the evaluations of an integration, in their order in time.

    period: after so many evaluations one has reused outputs, if any does. work: what decides how much such an
    evaluation computes.
    """

    @property
    def period(self) -> int: ...
    @property
    def work(self) -> tuple[Any, ...]: ...

    def check(self, model: TransformerModel) -> None:
        """Raise ValueError if the model's blocks cannot be cached in this way."""

    def begin(self, model: TransformerModel) -> CacheState:
        """The state of an integration that begins: nothing is remembered."""
