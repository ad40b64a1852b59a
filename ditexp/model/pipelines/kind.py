"""What the adapter must know of a kind of pipeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ditexp.model.pipelines.vae import PipelineVAE
from ditexp.values import Condition

# What decides the sigmas of diffusers' schedulers.
OF_SCHEDULER = (
    *("num_train_timesteps", "shift", "use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len"),
    *("max_image_seq_len", "shift_terminal", "time_shift_type", "invert_sigmas", "stochastic_sampling"),
    *("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas", "flow_shift"),
    *("use_lu_lambdas", "final_sigmas_type"),
)


class Classes(NamedTuple):
    """The class of a pipeline, and those of its networks by their folders."""

    pipeline: Any
    networks: Mapping[str, Any]


class TokenCount(NamedTuple):
    """The tokens of a prompt for one encoder, by its name, and the number that it reads."""

    encoder: str
    count: int
    limit: int


class PipelineKind(ABC):
    """A kind of text-to-image pipeline of diffusers: what differs between them. It has no state.

    title: its name in messages. pipelines: the class names that model_index.json may have.
    tokenizers: their folders. t5: the folders that model.t5=false omits; empty where the pipeline needs all of them.
    unused: folders that are never read, as those of an IP adapter.
    max_length, most_tokens: the tokens of a prompt that the encoder reads, by default and at most.
    preset: the option of conf/compat with the pipeline's own defaults.
    sign: of the network's output: -1 if it is noise - data, as everywhere in diffusers but in Z-Image.
    sigmas: before they are shifted: "even", from 1 to 1 / N in N points, which the pipeline passes; or "scheduler",
    the scheduler's own. mu: the rule for the shift of dynamic shifting: "linear" in the image tokens, or "empirical",
    FLUX.2's, in these and N.
    codec: the class of its VAE.
    """

    title: ClassVar[str]
    pipelines: ClassVar[tuple[str, ...]]
    tokenizers: ClassVar[tuple[str, ...]]
    t5: ClassVar[tuple[str, ...]] = ()
    unused: ClassVar[tuple[str, ...]] = ()
    max_length: ClassVar[int] = 512
    most_tokens: ClassVar[int] = 512
    preset: ClassVar[str]
    sign: ClassVar[int] = -1
    sigmas: ClassVar[str] = "even"
    mu: ClassVar[str] = "linear"
    codec: ClassVar[type[PipelineVAE]] = PipelineVAE

    @abstractmethod
    def classes(self) -> Classes:
        """The classes of diffusers and transformers, imported when this is called."""

    # ---- Sizes

    @abstractmethod
    def own_side(self, pipeline: Any) -> int:
        """The side of its images by default, in pixels."""

    @abstractmethod
    def side_multiple(self, pipeline: Any) -> int:
        """Sides of images are multiples of this, in pixels: a token's."""

    def most_side(self, pipeline: Any) -> int | None:
        """The largest side of its images in pixels; None if there is no limit."""
        return None

    @abstractmethod
    def sample_shape(self, pipeline: Any, side: int) -> tuple[int, int, int]:
        """(C, H, W) of x for images of this side."""

    @abstractmethod
    def size_multiple(self, network: Any) -> int:
        """H and W of x are multiples of this."""

    # ---- Prompts

    @abstractmethod
    def encode(self, pipeline: Any, prompt: str, device: torch.device, max_length: int) -> Condition:
        """The condition of one prompt, a batch of 1; of the same length for all prompts."""

    def encode_negative(self, pipeline: Any, prompt: str, device: torch.device, max_length: int) -> Condition:
        """The condition of a negative prompt, a batch of 1; of the length of the others."""
        return self.encode(pipeline, prompt, device, max_length)

    @abstractmethod
    def count_tokens(self, pipeline: Any, prompt: str, max_length: int) -> Sequence[TokenCount]:
        """The tokens of a prompt, for each encoder."""

    # ---- The network

    def blocks(self, network: Any) -> Sequence[torch.nn.ModuleList]:
        """The lists of its transformer blocks."""
        return [network.transformer_blocks]

    def default_guidance(self, network: Any) -> float | None:
        """The pipeline's own value of the guidance that is an input of the network; None if it has no such input."""
        return None

    def time(self, network: Any, t: Tensor) -> Tensor:
        """The network's time (B,) at t (B,): 1 - t, which diffusers calls sigma."""
        return 1 - t

    def pack(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) as the network reads it."""
        return x

    def unpack(self, output: Tensor, x: Tensor) -> Tensor:
        """The network's output in the shape of x."""
        return output

    @abstractmethod
    def inputs(self, x: Tensor, condition: Condition, guidance: Tensor | None) -> dict[str, Any]:
        """The network's arguments beside x and time. guidance: (B,) float32, for a network with such an input."""

    def velocity(self, network: Any, x: Tensor, t: Tensor, condition: Condition, guidance: Tensor | None) -> Tensor:
        """data - noise at x (B, C, H, W), in the network's type, and t (B,), 1 = data."""
        output = network(
            hidden_states=self.pack(x),
            timestep=self.time(network, t),
            **self.inputs(x, condition, guidance),
            return_dict=False,
        )[0]
        return self.sign * self.unpack(output, x)

    # ---- The pipeline's own grid

    def tokens(self, network: Any, sample_shape: Sequence[int]) -> int:
        """The tokens of an image, which the shift may depend on."""
        _, height, width = sample_shape
        return (height // self.size_multiple(network)) * (width // self.size_multiple(network))

    def grid(self, pipeline: Any, sample_shape: Sequence[int]) -> dict[str, Any]:
        """JSON-able facts that determine the times of the pipeline's own steps, for schedule=pipeline."""
        config = pipeline.scheduler.config
        return {
            "scheduler": type(pipeline.scheduler).__name__,
            "config": {name: config[name] for name in OF_SCHEDULER if name in config},
            "sigmas": self.sigmas,
            "mu": self.mu,
            "tokens": self.tokens(pipeline.transformer, sample_shape),
        }


def padded(states: Tensor, length: int) -> Condition:
    """The condition of a prompt's states (1, N, D), with padding to (1, length, D) that is masked."""
    _, tokens, width = states.shape
    mask = torch.arange(length, device=states.device) < tokens
    return Condition(states=torch.cat([states, states.new_zeros(1, length - tokens, width)], dim=1), mask=mask[None])
