"""Loading a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ditexp.api.overrides import Choice, option, override
from ditexp.cli.composing import settled
from ditexp.core import VAE, FlowModel
from ditexp.run.components import build_component


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model, ready to sample from. `load` makes it.

    name: of the option or file. overrides: what describes it to the commands. flow: its velocity at x and t. vae: what
    decodes its latents; None for a model of pixels.
    """

    name: str
    overrides: tuple[str, ...]
    flow: FlowModel
    vae: VAE | None

    @property
    def num_classes(self) -> int:
        """0 for a model without classes."""
        return self.flow.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty unless the checkpoint has them."""
        return tuple(self.flow.class_names)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.flow.sample_shape))
        return f"<ditexp model {self.name}: samples of {shape}, {self.num_classes} classes>"


def load(checkpoint: str | Path, *, vae: Choice | Path | None = None, **options: object) -> Model:
    """Load a trained model.

    checkpoint: the path of a checkpoint of any published family or of `ditexp train`, as of model=checkpoint; or an
    option of conf/model, such as "digits" or, with checkpoint=..., "sit". vae: for a model of latents, an option of
    conf/vae, a folder of diffusers' format, or a dictionary with a name and settings. options: settings of the model,
    such as weights="ema". Weights are loaded once a process, and copied to the device when they are first used.

    Raises ValueError with a line for each mistake.
    """
    chosen = [
        *overrides_of("model", checkpoint),
        *(override(f"model.{name}", value) for name, value in options.items()),
        *([] if vae is None else overrides_of("vae", vae)),
    ]
    with settled("config", chosen) as (cfg, _):
        flow, decoder = build_component(cfg, "model"), build_component(cfg, "vae")
    return Model(Path(checkpoint).name, tuple(chosen), flow, decoder)


def overrides_of(group: str, given: Choice | Path) -> list[str]:
    """A path is taken in place of an option, as on the command line."""
    return option(group, given) if isinstance(given, Mapping) else [override(group, str(given))]
