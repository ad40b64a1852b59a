"""A trained model of a published family from its checkpoint: its architecture inferred, its weights hashed."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ditexp.core import Codec, Walk
from ditexp.model.label_network import LabelNetwork
from ditexp.model.labelled import Labelled, given
from ditexp.model.prediction import Data
from ditexp.model.published import load_published
from ditexp.pixels import Pixels
from ditexp.values import Condition


class PretrainedDiT(Labelled[LabelNetwork]):
    """The velocity of a published model, or of one that ditexp.train made, from its checkpoint.

    checkpoint: .safetensors, also in shards, or any file of torch.save; code in a pickle is never run. Or the folder of
    a DiTPipeline of diffusers, whose weights are DiT's by other names.
    family: one of FAMILIES; None to recognise it, which fails where files of families look alike.
    weights: which of the file's: model, ema, ema1, ...; None for the averaged ones, if there are any.
    num_heads: needed for widths of no published model. num_classes: needed only if the model was trained without label
    dropout; by default the last row of the label table is the null class. in_context_start: needed for a JiT of a width
    of no published one. encoder_depth, input_size: of a DDT, how many of its blocks are the encoder, needed for a size
    of no published one, and the side of its latents, 32 if None. noise_scale, path_type, prediction: as in training;
    None for the arguments in the file, or else the defaults of the family's script.
    arithmetic: of a DiT: dit, or diffusers, whose timestep frequencies differ; see DiffusersDiT.
    class_names: from files of ditexp.train and from pipelines, else empty.
    Raises ValueError for a file that is missing, damaged, contains code, or is no such model.
    """

    setting: ClassVar[str] = "model.checkpoint"

    def __init__(
        self,
        *,
        checkpoint: str,
        family: str | None = None,
        weights: str | None = None,
        num_heads: int | None = None,
        num_classes: int | None = None,
        in_context_start: int | None = None,
        encoder_depth: int | None = None,
        input_size: int | None = None,
        noise_scale: float | None = None,
        path_type: str | None = None,
        prediction: str | None = None,
        arithmetic: str = "dit",
    ) -> None:
        found = load_published(
            checkpoint,
            setting=self.setting,
            family=family,
            weights=weights,
            num_heads=num_heads,
            num_classes=num_classes,
            in_context_start=in_context_start,
            encoder_depth=encoder_depth,
            input_size=input_size,
            arithmetic=arithmetic,
        )
        self.family, self.network = found.family, found.network
        self.prediction = found.prediction(noise_scale=noise_scale, path_type=path_type, prediction=prediction)
        self.start, self.start_std = self.prediction.start, self.prediction.start_std
        side, channels = self.network.input_size, self.network.in_channels
        self.sample_shape, self.size_multiple = (channels, side, side), self.network.patch_size
        scale = self.prediction.scale if isinstance(self.prediction, Data) else 1.0
        self.codec: Codec | None = Pixels((side, side, channels), scale) if channels in (1, 3) else None
        self.num_classes, self.has_null = self.network.num_classes, self.network.has_null
        self.class_names = found.contents.trained.class_names
        self.identity = found.identity(self.prediction)
        found.announce(checkpoint)
        if family and not found.contents.trained.by_ditexp:
            found.check_claim(self.prediction)

    @property
    def parts(self) -> tuple[range, ...]:
        return self.network.parts

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, walk: Walk | None = None) -> Tensor:
        x_given, time = self.prediction.inputs(x, t)
        output = self.network(x_given, time, given(condition), walk)
        return self.prediction.velocity(output, x, t)

    @property
    def has_variance(self) -> bool:
        """Only DiT's. SiT's files may have the channels, but nothing trained them."""
        return self.family.variance is True

    def network_time(self, t: float) -> float:
        """The time that the network is given at t."""
        x, time = torch.zeros(1, *self.sample_shape, dtype=torch.float64), torch.tensor([t], dtype=torch.float64)
        (found,) = self.prediction.inputs(x, time)[1].tolist()
        return found

    def velocity_and_variance(self, x: Tensor, t: Tensor, condition: Condition, walk: Walk | None = None) -> Tensor:
        x_given, time = self.prediction.inputs(x, t)
        output = self.network.outputs(x_given, time, given(condition), walk)
        predicted, variance = output.chunk(2, dim=1)
        return torch.cat([self.prediction.velocity(predicted, x, t), variance], dim=1)
