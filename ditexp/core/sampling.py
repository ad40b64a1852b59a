"""What turns a model into samples: the schedule, guidance, solver and conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from ditexp.core.fields import Projection, StepNoise, VelocityField
from ditexp.core.models import EvaluatedModel, FlowModel
from ditexp.values import Condition, LabelMeaning, Prompt, Solution


class Schedule(Protocol):
    """Where the steps lie."""

    def grid(self) -> Tensor:
        """float64 (steps + 1,), strictly increasing from exactly 0 to exactly 1, or where a published sampler stops."""

    def tuned_to(self, flow: dict) -> Schedule:
        """The schedule that is used, and identified, for a flow. Called once.

        flow: JSON-able facts that determine model, solver and guidance. Most schedules do not depend on it.
        """


class Guidance(Protocol):
    """Turns a model and a condition into the velocity field that is integrated.

    start: the time at which samples begin to move; integration starts there. 0 for most.
    interval: (low, high); it does nothing at other times. None if it acts everywhere or nowhere.
    weak: a second model that it evaluates; None if there is none.
    """

    @property
    def start(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float] | None: ...
    @property
    def weak(self) -> FlowModel | None: ...

    def on(self, grid: Sequence[float] | None) -> Guidance:
        """The guidance that is used, and identified, on a grid; None if the solver is adaptive. Called once."""

    def check(self, model: FlowModel) -> None:
        """Raise ValueError if the model cannot be guided in this way, for example for want of a null condition."""

    def bind(self, model: EvaluatedModel, condition: Condition) -> VelocityField:
        """The field of a batch with this condition."""


class Solver(Protocol):
    """Integrates dx/dt = v(x, t) over a grid.

    adaptive: whether it chooses its own steps, so that only the ends of the grid matter.
    stochastic: whether it adds noise, that is, solves the SDE.
    history: the number of earlier steps that a step looks back at; 0 for a one-step method.
    uses_variance: whether it needs the output of a model's variance head beside the velocity.
    uses_flow_map: whether it needs a FlowMap, that is, a model of two times.
    """

    @property
    def adaptive(self) -> bool: ...
    @property
    def stochastic(self) -> bool: ...
    @property
    def uses_variance(self) -> bool: ...
    @property
    def uses_flow_map(self) -> bool: ...
    @property
    def history(self) -> int: ...

    def integrate(
        self,
        field: VelocityField,
        x: Tensor,
        grid: Sequence[float],
        project: Projection | None = None,
        noise: StepNoise | None = None,
    ) -> Solution:
        """From x (B, ...) at grid[0] to grid[-1].

        project: applied after every step. noise: the source for solvers of the SDE; others ignore it.
        Raises FloatingPointError with the first step whose state is not finite; on CUDA it may leave that to the
        solution's `check`, which the caller calls, so that the host does not wait. Adaptive solvers raise ValueError
        for a projection, and ArithmeticError if a sample does not reach the end.
        """


class Conditioner(Protocol):
    """Chooses the condition of each sample by its index alone."""

    def check(self, model: FlowModel) -> None:
        """Raise ValueError if the model does not fit."""

    def __call__(self, model: FlowModel, seed: int, indices: Sequence[int]) -> Condition:
        """The condition of the samples with these indices."""

    def captions(self, indices: Sequence[int]) -> list[str] | None:
        """The condition of each sample in words; None if there are none."""

    def label_meaning(self, model: FlowModel) -> LabelMeaning:
        """What the labels of samples stand for."""


@runtime_checkable
class PromptedConditioner(Conditioner, Protocol):
    """A conditioner whose samples have the prompts of a list in turn: sample i has prompt i modulo their number."""

    @property
    def rows(self) -> Sequence[Prompt]: ...

    def noise_keys(self, seed: int, indices: Sequence[int]) -> tuple[int | Sequence[int], Sequence[int]]:
        """The seeds, one or one for each sample, and the indices that the noise of these samples is drawn by.

        seed: of the run.
        """
