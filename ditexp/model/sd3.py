"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206) from the files of a diffusers pipeline."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ditexp.checks import choice, whole
from ditexp.files.content import changed
from ditexp.model.labelled import nearer_labels
from ditexp.model.loading import SkipInitialization
from ditexp.model.text_encoder import contents, import_transformers
from ditexp.terminal.notices import notice
from ditexp.values import Condition, required

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
T5 = ("text_encoder_3", "tokenizer_3")
LIBRARIES = (None, "diffusers", "transformers")  # None: a part that the pipeline does without
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
MAX_TOKENS = 512  # of T5 in diffusers' pipeline


class StableDiffusion3:
    """The velocity of an SD3Transformer2DModel on the latents of its VAE, for prompts that two CLIPs and a T5 encode.

    In diffusers time runs from data to noise: its sigma is 1 - t, its timestep 1000 sigma, and its velocity, noise -
    data, is the negative of ours. Its scheduler is not used; `schedule` takes its place.

    path: a folder that StableDiffusion3Pipeline.save_pretrained wrote, with weights in safetensors, or a name on the
    Hugging Face hub. size: the side of the square images, in pixels; None: that of the transformer's training.
    dtype: of the weights (in float16 some of T5's stay float32, or they would overflow). max_length: the tokens of a
    prompt that T5 reads (CLIP reads 77). t5: false omits T5, the largest part, and uses zeros for its states, as
    diffusers does.
    A condition has states (B, L, D), CLIP's followed by T5's, and a vector (B, P), CLIP's pooled embeddings. Padding is
    not masked, as in diffusers. Each prompt is encoded once and alone. The empty prompt is the null condition.
    Raises ValueError for a pipeline that is missing, damaged, or of another kind.
    """

    has_null, num_classes, start, start_std = True, 0, 0.0, 1.0
    class_names: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        path: str,
        size: int | None = None,
        dtype: str = "bfloat16",
        max_length: int = 256,
        t5: bool = True,
    ) -> None:
        choice("model.dtype", dtype, DTYPES)
        whole("model.max_length", max_length, minimum=1, maximum=MAX_TOKENS)
        self.pipeline, loaded = load(path, DTYPES[dtype], t5)
        self.network, self.max_length = self.pipeline.transformer, max_length
        self.input_dtype: torch.dtype | None = None  # that of the weights
        self.sample_shape, image_shape = self.shapes(size)
        self.codec = PipelineVAE(self.pipeline.vae, image_shape)
        self.size_multiple = self.network.config.patch_size
        self.device = torch.device("cpu")
        self.encoded: dict[str, tuple[Tensor, Tensor]] = {}
        self.identity = {
            "model": "sd3",
            **loaded,
            "size": image_shape[0],
            "dtype": dtype,
            "max_length": max_length,
            "t5": t5,
        }

    def shapes(self, size: int | None) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """(C, H, W) of the latents and (H, W, C) of the images."""
        config, scale = self.network.config, self.pipeline.vae_scale_factor
        unit, own = scale * config.patch_size, scale * config.sample_size
        side, maximum = own if size is None else size, unit * config.pos_embed_max_size
        if not isinstance(side, int) or isinstance(side, bool) or not 0 < side <= maximum or side % unit:
            raise ValueError(f"model.size={size}: give a multiple of {unit} up to {maximum}, or null for {own}")
        return (config.in_channels, side // scale, side // scale), (side, side, self.pipeline.vae.config.out_channels)

    def to(self, device: torch.device | str) -> StableDiffusion3:
        for part in self.pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.to(device)
        if torch.device(device) != self.device:
            self.device = torch.device(device)
            self.encoded.clear()  # a sample must not depend on where its prompt was first encoded
        return self

    @property
    def blocks(self) -> nn.ModuleList:
        return self.network.transformer_blocks

    def with_network(self, network: nn.Module) -> StableDiffusion3:
        made = copy.copy(self)
        made.network, made.input_dtype = network, self.network.dtype
        return made

    def encode(self, prompts: Sequence[str]) -> Condition:
        """States (B, L, D) and vectors (B, P) of B prompts, on the model's device."""
        for prompt in dict.fromkeys(prompts):
            if prompt not in self.encoded:
                with torch.inference_mode():
                    states, _, pooled, _ = self.pipeline.encode_prompt(
                        [prompt],
                        prompt_2=None,  # the same
                        prompt_3=None,
                        device=self.device,
                        do_classifier_free_guidance=False,
                        max_sequence_length=self.max_length,
                    )
                self.encoded[prompt] = states[0], pooled[0]
        states, vectors = zip(*(self.encoded[prompt] for prompt in prompts))
        return Condition(states=torch.stack(states), vector=torch.stack(vectors))

    def notice_truncation(self, prompts: Iterable[str]) -> None:
        """Print a notice for each prompt that has more tokens than CLIP or T5 reads."""
        pipeline = self.pipeline
        limits = [("CLIP", pipeline.tokenizer, pipeline.tokenizer_max_length)]
        if pipeline.tokenizer_3 is not None:
            limits.append(("T5", pipeline.tokenizer_3, self.max_length))
        for prompt in prompts:
            for name, tokenizer, limit in limits:
                if (count := len(tokenizer(prompt).input_ids)) > limit:
                    notice(f"a prompt of {count} tokens is cut off at {name}'s {limit}: {prompt!r}")

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        dtype = self.input_dtype or self.network.dtype
        velocity = self.network(
            hidden_states=x.to(dtype),
            timestep=1000 * (1 - t),
            encoder_hidden_states=required(condition.states).to(dtype),
            pooled_projections=required(condition.vector).to(dtype),
            return_dict=False,
        )[0]
        return -velocity.to(x.dtype)

    def null(self, condition: Condition) -> Condition:
        states = required(condition.states)
        return replace(self.encode([""] * len(states)).to(states.device), labels=condition.labels)

    def between(self, first: Condition, second: Condition, fraction: Tensor) -> Condition:
        """States and vectors on the straight lines between those of two prompts, in float32 whatever the weights."""

        def line(start: Tensor | None, end: Tensor | None, at: Tensor) -> Tensor:
            return torch.lerp(required(start).float(), required(end).float(), at.float())

        states = line(first.states, second.states, fraction[:, None, None])
        vector = line(first.vector, second.vector, fraction[:, None])
        return Condition(nearer_labels(first, second, fraction), vector, states)


class PipelineVAE:
    """The VAE of a pipeline, as a codec. It moves with its model."""

    def __init__(self, vae: Any, image_shape: tuple[int, int, int]) -> None:
        self.vae, self.image_shape = vae, image_shape
        self.identity = {"codec": "pipeline"}  # its weights are part of the model's identity
        self.vae.enable_slicing()  # decodes image by image: a batch of images would need more memory than the network

    def decode(self, x: Tensor) -> Tensor:
        config = self.vae.config
        latents = x.to(self.vae.dtype) / config.scaling_factor + config.shift_factor
        return self.vae.decode(latents, return_dict=False)[0].float()

    def encode(self, images: Tensor) -> Tensor:
        config = self.vae.config
        latents = self.vae.encode(images.to(self.vae.dtype)).latent_dist.mode().float()
        return (latents - config.shift_factor) * config.scaling_factor

    def to(self, device: torch.device | str) -> PipelineVAE:
        return self


def load(path: str, dtype: torch.dtype, t5: bool) -> tuple[Any, dict]:
    """The pipeline, and JSON-able facts that determine its contents. Raises ValueError if there is no pipeline."""
    transformers, diffusers = import_transformers(), import_diffusers()
    pipeline, clip = diffusers.StableDiffusion3Pipeline, transformers.CLIPTextModelWithProjection
    networks = {
        "transformer": diffusers.SD3Transformer2DModel,
        "vae": diffusers.AutoencoderKL,
        "text_encoder": clip,
        "text_encoder_2": clip,
        "text_encoder_3": transformers.T5EncoderModel,
    }
    parts: dict[str, Any] = {} if t5 else dict.fromkeys(T5)
    local = Path(path).is_dir()
    try:
        folder = Path(path if local else pipeline.download(path, use_safetensors=True, **parts))
        index = pipeline.load_config(folder)
        if not str(name := index["_class_name"]).startswith("StableDiffusion3"):
            raise ValueError(f"it is a {name}")
        if own := [name for name, kind in index.items() if isinstance(kind, list) and kind[0] not in LIBRARIES]:
            raise ValueError(f"its {own[0]} comes with its own code, which is never run")
        read = [name for name in (*networks, *TOKENIZERS) if t5 or name not in T5]
        before = {name: contents(f"{folder}/{name}") for name in read} if local else {}
        for name, kind in networks.items():
            if name not in parts:
                parts[name] = load_network(kind, folder / name, dtype)
        for name in ("transformer", "vae"):
            parts[name].to(dtype)  # without accelerate, diffusers may keep the dtype of the file
        whole = pipeline.from_pretrained(folder, **parts)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"model.path={path} is no Stable Diffusion 3 pipeline ({reason}): give a folder that save_pretrained "
            "wrote, with safetensors, or a name on the Hugging Face hub"
        ) from None
    if not local:
        return whole, {"name": path, "commit": folder.name}
    if {name: contents(f"{folder}/{name}") for name in read} != before:
        raise changed(path)
    return whole, before


def load_network(kind: Any, folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """A network for inference. Raises ValueError if weights are missing: both libraries would use random ones."""
    with SkipInitialization():
        network, report = kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{folder.name} lacks {len(missing)} weights, such as {missing[0]}")
    return network.eval().requires_grad_(False)


def import_diffusers() -> Any:
    import diffusers

    diffusers.utils.logging.set_verbosity(diffusers.utils.logging.CRITICAL)  # ditexp prints one line for an error
    diffusers.utils.logging.disable_progress_bar()
    return diffusers
