"""The objective of a model of two times: it learns where a trained model of one time leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ditexp.checks import flag, number, whole
from ditexp.core import FlowMapModel, FlowModel, ModuleModel
from ditexp.model.families.family import SPAN
from ditexp.model.flow_map_network import FlowMapNetwork
from ditexp.solver.adams import AdamsBashforth
from ditexp.values import Condition, append_dims, times_of


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowMapDistillation:
    """E |u(x_t, t, r, y) - (x_r - x_t) / (r - t)|^2 along paths of a trained model, its teacher.

    Luhman & Luhman (2021, arXiv 2101.02388) teach a network where each noise ends. Here it learns the average velocity
    u between any two times t <= r of the path, which at r = t is the teacher's velocity. A true flow map has loss 0.

    Each image of a batch gives a label, and stands for one noise with its path by Adams-Bashforth of order 2, which
    never evaluates the teacher at t = 1. The images themselves are not used.

    teacher: its velocity v. from_teacher: whether the network begins with the teacher's weights, as the teacher's
    velocity whatever the span. guidance_scale: of classifier-free guidance inside the map, v_null + scale (v - v_null);
    1 is none. steps: of a path, equal ones. pairs: of times, drawn from each path, uniformly but for the fraction
    `whole`, from noise to data in one jump.
    """

    teacher: FlowModel
    from_teacher: bool = True
    guidance_scale: float = 1.0
    steps: int = 16
    pairs: int = 16
    whole: float = 0.25

    def __post_init__(self) -> None:
        flag("objective.from_teacher", self.from_teacher)
        number("objective.guidance_scale", self.guidance_scale)
        whole("objective.steps", self.steps, minimum=1)
        whole("objective.pairs", self.pairs, minimum=1)
        number("objective.whole", self.whole, minimum=0, maximum=1)
        if isinstance(self.teacher, FlowMapModel):
            raise ValueError(
                f"objective.teacher: {type(self.teacher).__name__} is a model of two times: choose one of one time, "
                "such as model@objective.teacher=digits"
            )
        if self.teacher.start:
            raise ValueError(
                f"objective.teacher begins at t = {self.teacher.start:.3g}, as diffusions do: choose a flow, such as "
                "model@objective.teacher=digits"
            )
        if self.guidance_scale != 1 and not self.teacher.has_null:
            raise ValueError(
                f"objective.guidance_scale={self.guidance_scale}: the teacher has no null condition: choose 1"
            )

    def __call__(
        self, network: FlowMapNetwork, images: Tensor, labels: Tensor | Sequence[str], generator: torch.Generator
    ) -> Tensor:
        """images (B, C, H, W), of which only the shape counts, and labels (B,) int64 -> scalar loss."""
        if not isinstance(network, FlowMapNetwork):
            name = type(network).__name__
            raise ValueError(f"objective=flow_map trains a network of two times: choose digits_flow_map, not {name}")
        if network.has_null:
            raise ValueError("objective=flow_map never trains a null class: give network.has_null=false")
        if not isinstance(labels, Tensor):
            raise ValueError("objective=flow_map needs images with labels, not captions: choose data=digits")
        if images.shape[1:] != tuple(self.teacher.sample_shape):
            theirs, ours = (" x ".join(map(str, shape)) for shape in (self.teacher.sample_shape, images.shape[1:]))
            raise ValueError(f"objective.teacher makes samples of {theirs}, and the images are {ours}: choose another")
        noise = torch.randn(images.shape, generator=generator).to(images.device)
        states, velocities = self.path(noise, Condition(labels))
        rows = torch.arange(len(images)).repeat(self.pairs)
        start, end = self.drawn(len(rows), generator)
        x, span = states[start, rows], ((end - start) / self.steps).to(noise)
        average = (states[end, rows] - x) / append_dims(span.clamp(min=1 / self.steps), x)
        target = torch.where(append_dims(span == 0, x), velocities[start, rows], average)
        return F.mse_loss(network.average(x, (start / self.steps).to(noise), span, labels[rows]), target)

    def begin(self, network: FlowMapNetwork) -> None:
        """Give the network its first weights. Raises ValueError if it is to have the teacher's, and cannot."""
        if not self.from_teacher:
            return
        own = network.state_dict()
        theirs = self.teacher.network.state_dict() if isinstance(self.teacher, ModuleModel) else {}
        kept = {key: value[: len(own[key])] for key, value in theirs.items() if key in own}  # without the null class
        added = {key: value for key, value in own.items() if key.startswith(SPAN)}
        strange = [key for key in own.keys() ^ theirs.keys() if key not in added]
        strange += [key for key, value in kept.items() if value.shape != own[key].shape]
        if strange:
            raise ValueError(
                f"objective.from_teacher=true: {min(strange)} is not as in the teacher: give the network its sizes, or "
                "choose false"
            )
        no_effect = {key: torch.zeros_like(value) for key, value in added.items() if key.startswith(f"{SPAN}mlp.2.")}
        network.load_state_dict(added | no_effect | kept)

    def drawn(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pairs of steps' numbers (count,) int64, the first no larger than the second, and not the last."""
        start, end = torch.randint(self.steps + 1, (2, count), generator=generator).sort(dim=0).values
        is_whole = torch.rand(count, generator=generator) < self.whole
        start = torch.where(is_whole, 0, start.clamp(max=self.steps - 1))
        return start, torch.where(is_whole, self.steps, end)

    @torch.no_grad()
    def path(self, noise: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """The states (steps + 1, B, ...) of the teacher's flow, and its velocities (steps, B, ...) at all but the last.

        noise: (B, ...), the first state.
        """
        self.teacher.to(noise.device)
        recorded = Recorded(self, condition)
        end = AdamsBashforth().integrate(recorded, noise, [step / self.steps for step in range(self.steps + 1)]).x
        return torch.stack([*recorded.states, end]), torch.stack(recorded.velocities)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The teacher's, guided."""
        v = self.teacher(x, t, condition)
        if self.guidance_scale == 1:
            return v
        return torch.lerp(self.teacher(x, t, self.teacher.null(condition)), v, self.guidance_scale)


@dataclass(frozen=True)
class Recorded:
    """The field of a batch, which keeps the states where it is evaluated, and its velocities there."""

    objective: FlowMapDistillation
    condition: Condition
    states: list[Tensor] = field(default_factory=list)
    velocities: list[Tensor] = field(default_factory=list)

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        self.states.append(x)
        self.velocities.append(self.objective.velocity(x, times_of(x, t), self.condition))
        return self.velocities[-1]

    def take(self, rows: Tensor) -> Recorded:
        return Recorded(self.objective, self.condition.take(rows))
