"""DiT (Peebles & Xie 2023, arXiv 2212.09748) from the folder of a DiTPipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from ditexp.files.content import changed
from ditexp.files.libraries import import_diffusers
from ditexp.files.reading import read_facts
from ditexp.model.diffusers_dit import INDEX, PIPELINE, REMEDY
from ditexp.model.pipelines.loading import DAMAGE, in_words, load_network
from ditexp.model.pipelines.vae import PipelineVAE
from ditexp.model.pretrained import PretrainedDiT
from ditexp.model.text_encoder import contents

# What decides the times of DDIMScheduler's steps, and that they are those of DDIM on DiT's diffusion.
OF_SCHEDULER = (
    *("num_train_timesteps", "timestep_spacing", "steps_offset", "beta_schedule", "beta_start", "beta_end"),
    *("trained_betas", "set_alpha_to_one", "clip_sample", "thresholding", "prediction_type", "rescale_betas_zero_snr"),
)


class OwnVAE(PipelineVAE):
    """The VAE of a pipeline whose other parts don't move it."""

    def to(self, device: torch.device | str) -> OwnVAE:
        self.vae.to(device)
        return self


class DiTPipelineModel(PretrainedDiT):
    """The velocity of a DiTPipeline's network, and its VAE, in float32.

    path: a folder that save_pretrained wrote, or a name on the Hugging Face hub. arithmetic: of the network, see
    PretrainedDiT. Its samples are conditioned on class labels.
    Raises ValueError for a pipeline that is missing or damaged.
    """

    setting: ClassVar[str] = "model.path"

    def __init__(self, *, path: str, arithmetic: str = "diffusers") -> None:
        diffusers = import_diffusers()
        folder = Path(path) if Path(path).is_dir() else downloaded(path)
        super().__init__(checkpoint=str(folder), arithmetic=arithmetic)
        try:
            before = contents(f"{folder}/vae")
            vae: Any = load_network(diffusers.AutoencoderKL, folder / "vae", torch.float32)
        except DAMAGE as error:
            raise ValueError(f"model.path={path} has no VAE ({in_words(error)}): {REMEDY}") from None
        side = self.sample_shape[1] * 2 ** (len(vae.config.block_out_channels) - 1)
        self.codec = OwnVAE(vae, (side, side, vae.config.out_channels))
        if contents(f"{folder}/vae") != before:
            raise changed(path)
        self.identity |= {"vae": before, "grid": scheduler_of(folder)}


def downloaded(name: str) -> Path:
    """The folder of a pipeline on the hub. Raises ValueError if it cannot be had."""
    try:
        return Path(import_diffusers().DiTPipeline.download(name))
    except DAMAGE as error:
        raise ValueError(f"model.path={name} is no {PIPELINE} ({in_words(error)}): {REMEDY}") from None


def scheduler_of(folder: Path) -> Mapping[str, Any]:
    """JSON-able facts that determine the times of the pipeline's own steps, for schedule=pipeline."""
    index = read_facts(folder / INDEX, f"the index of a {PIPELINE}", remedy=REMEDY, needed={"scheduler": list})
    config = read_facts(folder / "scheduler/scheduler_config.json", "a scheduler's config", remedy=REMEDY, needed={})
    return {
        "scheduler": index["scheduler"][-1],
        "config": {name: config[name] for name in OF_SCHEDULER if name in config},
    }
