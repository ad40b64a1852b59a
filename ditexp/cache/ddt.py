from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ditexp.cache.base import Periodic, PeriodicState
from ditexp.core import PartedModel, TransformerBlock, TransformerModel


@dataclass(frozen=True, kw_only=True)
class EncoderReuse(Periodic):
    """The encoder's output is reused, and the decoder computed (DDT, Wang et al. 2025, arXiv 2504.05741).

        v(x, t) = decoder(x, s(t_0))    where t_0 is the time of the last full evaluation

    s also has t_0's embedding, as in the released code, whose `state_refresh_rate` is the interval.
    """

    interval: int = 2

    @property
    def work(self) -> tuple[Any, ...]:
        return ("no encoder",)

    def check(self, model: TransformerModel) -> None:
        if not (isinstance(model, PartedModel) and len(model.parts) > 1):
            raise ValueError(
                "cache=ddt reuses the output of an encoder, as DDT has, and this model has none: choose cache=fora or "
                "cache=taylorseer"
            )

    def begin(self, model: TransformerModel) -> Encoded:
        return Encoded(self)


class Encoded(PeriodicState):
    """The encoder's output (B, N, D) at the last full evaluation."""

    output: Tensor | None = None

    def forget(self) -> None:
        self.output = None

    def full(self, t: float) -> Encoding:
        return Encoding(self)

    def partial(self, t: float) -> Decoding:
        return Decoding(self)


@dataclass(frozen=True)
class Encoding:
    """A full evaluation."""

    state: Encoded
    is_full = True

    def __call__(
        self, number: int, block: TransformerBlock, tokens: Tensor, c: Tensor, *inputs: Any, **given: Any
    ) -> Tensor:
        return block(tokens, c, *inputs, **given)

    def encoded(self, encode: Callable[[], Tensor]) -> Tensor:
        self.state.output = encode()
        return self.state.output


@dataclass(frozen=True)
class Decoding(Encoding):
    """An evaluation of the decoder alone."""

    is_full = False

    def encoded(self, encode: Callable[[], Tensor]) -> Tensor:
        assert self.state.output is not None, "a full evaluation comes first"
        return self.state.output
