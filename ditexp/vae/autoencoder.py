"""A VAE of diffusers for models of latents, from files or from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ditexp.checks import choice, number, whole
from ditexp.terminal.notices import notice
from ditexp.vae.codec import PRECISIONS, TILE, Decoding, LatentCodec, LatentDecoder
from ditexp.vae.networks import Loaded, load
from ditexp.vae.place import located
from ditexp.vae.statistics import Normalization, given_statistics, per_channel, read_statistics

WITHOUT_TILES = {"AutoencoderTiny": "a tiny autoencoder", "AutoencoderRAE": "a representation autoencoder"}


class Autoencoder:
    """An AutoencoderKL or AutoencoderTiny of diffusers, which decodes and encodes a model's samples, or AutoencoderRAE.

    Of AutoencoderRAE it is the decoder, for latents of one size.

    A sample x is the latent z = x std / scaling_factor + mean + shift_factor of the network.

    path: a folder that save_pretrained of diffusers wrote (or that of a pipeline with one), a file of weights with
    latent diffusion's keys, as VA-VAE's, a decoder of RAE's authors, or a folder with a TAESD's two halves; or the name
    of a repository on the Hugging Face hub with one of these, followed by its place within: `owner/name/file.pt`. It is
    downloaded at once.
    scaling_factor, shift_factor: None takes those of the VAE's own config; with `statistics`, they are 1 and 0.
    statistics: a file with a mean and a standard deviation for each channel or element, see `read_statistics`; or these
    numbers for each channel, as {"mean": [...], "std": [...]}.
    batch_size, precision, tiling: of decoding and encoding, see `Decoding`; tiling is auto, true or false.
    Raises ValueError for settings or files that don't fit.
    """

    def __init__(
        self,
        *,
        path: str,
        scaling_factor: float | None = None,
        shift_factor: float | None = None,
        statistics: str | Mapping[str, Sequence[float]] | None = None,
        batch_size: int | None = None,
        precision: str = "fp32",
        tiling: str | bool = "auto",
    ) -> None:
        choice("vae.precision", precision, PRECISIONS)
        if batch_size is not None:
            whole("vae.batch_size", batch_size, minimum=1)
        if scaling_factor is not None:
            number("vae.scaling_factor", scaling_factor, above=0)
        if shift_factor is not None:
            number("vae.shift_factor", shift_factor)
        loaded = load(located(path, "vae.path"), f"vae.path={path}")
        self.network, self.factor, self.channels, self._loaded = loaded.network, loaded.factor, loaded.channels, loaded
        if precision == "fp16" and loaded.latents["force_upcast"]:
            notice(f"vae.precision=fp16: {path} overflows in fp16, as its config says (force_upcast): it runs in fp32")
            precision = "fp32"
        self.network.to(PRECISIONS[precision])
        self.decoding = self._decoding(batch_size, precision, tiling)
        self.normalization, facts = self._normalization(scaling_factor, shift_factor, statistics, loaded)
        self.identity = {"codec": "vae", **loaded.identity, **facts}

    def codec(self, sample_shape: Sequence[int]) -> LatentCodec:
        """The codec of latents (C, H, W). Raises ValueError if they are not latents of this VAE."""
        channels, height, width = sample_shape
        if channels != self.channels:
            raise ValueError(
                f"the model makes latents of {' x '.join(map(str, sample_shape))}, and this VAE has {self.channels} "
                "channels: choose the VAE that the model was trained with"
            )
        side = self._loaded.side
        if side is not None and (height, width) != (side, side):
            raise ValueError(
                f"the model makes latents of {' x '.join(map(str, sample_shape))}, and this VAE decodes those of "
                f"{channels} x {side} x {side}: choose the VAE that the model was trained with"
            )
        if self.normalization.mean.shape[1:] not in ((1, 1), (height, width)):
            shape = " x ".join(map(str, self.normalization.mean.shape))
            raise ValueError(
                f"vae.statistics are of {shape}, and the model makes latents of {' x '.join(map(str, sample_shape))}: "
                "give those of the model's latents"
            )
        kind = LatentCodec if side is None else LatentDecoder
        return kind(
            self.network,
            normalization=self.normalization,
            decoding=self.decoding,
            factor=self.factor,
            image_shape=(self.factor * height, self.factor * width, self._loaded.image_channels),
            identity=self.identity,
        )

    def _decoding(self, batch_size: int | None, precision: str, tiling: str | bool) -> Decoding:
        """How the network runs. Raises ValueError for tiles of a network that has none."""
        automatic = tiling == "auto"
        if not automatic and not isinstance(tiling, bool):
            raise ValueError(f"vae.tiling={tiling}: choose auto, true or false")
        kind = self._loaded.identity["network"]
        if kind in WITHOUT_TILES:  # diffusers' tiles for a tiny one are of 4 channels alone
            if tiling is True:
                raise ValueError(f"vae.tiling=true: {WITHOUT_TILES[kind]} has no tiles, and needs none: choose auto")
            return Decoding(batch_size=batch_size, tiling=False, precision=precision)
        self.network.tile_sample_min_size, self.network.tile_latent_min_size = TILE, TILE // self.factor
        return Decoding(batch_size=batch_size, tiling=None if automatic else tiling is True, precision=precision)

    def _normalization(
        self,
        scale: float | None,
        shift: float | None,
        statistics: str | Mapping[str, Sequence[float]] | None,
        loaded: Loaded,
    ) -> tuple[Normalization, dict]:
        """How samples become latents, and the facts that determine it."""
        facts: dict[str, Any] = {}
        latents = loaded.latents
        if statistics is not None:
            if isinstance(statistics, str):
                name = f"vae.statistics={statistics}"
                mean, std, facts["statistics"] = read_statistics(located(statistics, "vae.statistics"), name)
            else:
                name, (mean, std) = "vae.statistics", given_statistics(statistics)
                facts["statistics"] = [mean.flatten().tolist(), std.flatten().tolist()]
            if len(mean) != self.channels:
                raise ValueError(
                    f"{name} are of {len(mean)} channels, and the VAE's latents have {self.channels}: give those of "
                    "this VAE"
                )
            scale, shift = 1.0 if scale is None else scale, 0.0 if shift is None else shift
        else:
            mean, std = (self._own(latents, key) for key in ("latents_mean", "latents_std"))
            scale = scale or latents["scaling_factor"]
            shift = latents["shift_factor"] or 0.0 if shift is None else shift
            of_config = [latents[key] for key in ("latents_mean", "latents_std")]
            if any(isinstance(values, list) for values in of_config):  # tensors are among the weights
                facts["statistics"] = of_config
        assert scale is not None
        return Normalization(scale, mean + shift, std), {**facts, "scale": scale, "shift": shift}

    def _own(self, latents: dict[str, Any], key: str) -> Tensor:
        """The mean or the standard deviation of each channel in the network's own config."""
        values = latents[key]
        if isinstance(values, Tensor):
            return values
        if values is None:
            return torch.zeros(1, 1, 1) if key == "latents_mean" else torch.ones(1, 1, 1)
        if len(values) != self.channels:
            raise ValueError(f"the VAE's config has {len(values)} numbers in {key} for {self.channels} channels")
        return per_channel(values)
