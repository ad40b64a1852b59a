"""CLIP (Radford et al. 2021, arXiv 2103.00020): embeddings of images and of prompts, by the classes of transformers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ditexp.checks import choice, whole
from ditexp.feature.clip_files import REMEDY, located, needed, read_config
from ditexp.files.content import changed, digest, hashes
from ditexp.files.libraries import import_transformers
from ditexp.files.reading import unfit
from ditexp.precision import full_float32
from ditexp.terminal.notices import in_line, notice
from ditexp.transfer import to_device


class CLIP:
    """A CLIP from the files of transformers. pool: the projected embedding of an image, as `encode_image` gives it.

    The Fréchet distance of `pool` is FD-CLIP. Images are preprocessed as by CLIP's own code: Pillow's bicubic of the
    shorter side, with antialiasing and rounded to 8 bits, and a centre crop; sizes, mean and standard deviation are the
    checkpoint's.

    path: a folder that save_pretrained wrote, or a name on the Hugging Face hub, such as openai/clip-vit-large-patch14;
    weights in safetensors. channels: of the images; 1 repeats a grey channel three times. prefix: stands before each
    prompt; Hessel et al. 2021 have "A photo depicts ". batch_size: images, or prompts, per network call.
    Raises ValueError for other values, and if there are no such files.
    """

    name, judges_labels = "clip", False
    class_names: Sequence[str] = ()

    def __init__(self, *, path: str, channels: int = 3, prefix: str | None = None, batch_size: int = 50) -> None:
        self.channels = choice("feature.channels", channels, (1, 3))
        if not isinstance(prefix, str | None):
            raise ValueError(f"feature.prefix={prefix}: give a text, such as 'A photo depicts ', or null")
        self.prefix = prefix
        self.batch_size = whole("feature.batch_size", batch_size, minimum=1)
        self.path, self.folder = path, located(path)
        width, self.preprocess = read_config(self.folder, path)
        self.outputs = {"pool": width}
        self.device = torch.device("cpu")

    @cached_property
    def identity(self) -> dict:
        """The contents of all files that decide the outputs, and how images are resized."""
        facts = {"name": self.name, "files": digest(self._files()), "resize": "shorter side, Pillow's bicubic"}
        return facts | {"prefix": self.prefix} if self.prefix else facts

    def _files(self) -> dict[str, str]:
        """The sha256 of each file that is read, by its name."""
        names = needed(sorted(os.listdir(self.folder)))
        return dict(zip(names, hashes([self.folder / name for name in names], title="CLIP")))

    def to(self, device: torch.device | str) -> CLIP:
        self.device = torch.device(device)
        return self

    def load(self) -> None:
        """Load the network. Raises ValueError if that fails."""
        _ = self._network

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """(B, channels, H, W) uint8 -> pool (B, D) float32 on the network's device."""
        network, found = self._network.to(self.device), []
        with full_float32():
            for batch in images.split(self.batch_size):
                pixels = self.preprocess(to_device(batch, self.device).expand(-1, 3, -1, -1))
                found.append(network.visual_projection(network.vision_model(pixel_values=pixels).pooler_output))
        return {"pool": torch.cat(found)}

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """(N, D) float32 on the CPU: the projected embeddings, as `encode_text` gives them.

        Prompts that are too long are cut off, with a notice.
        """
        network, tokenizer = self._network.to(self.device), self._tokenizer
        length, found, cut = network.text_model.config.max_position_embeddings, [], 0
        for start in range(0, len(texts), self.batch_size):
            batch = [f"{self.prefix or ''}{text}" for text in texts[start : start + self.batch_size]]
            cut += sum(len(tokens) > length for tokens in tokenizer(batch).input_ids)
            tokens = tokenizer(batch, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            with full_float32():
                states = network.text_model(**tokens.to(self.device))
                found.append(network.text_projection(states.pooler_output).cpu())
        if cut:
            notice(f"{cut} of {len(texts)} prompts have more than {length} tokens: CLIP reads their beginning alone")
        return torch.cat(found)

    @cached_property
    def _network(self) -> Any:
        """A CLIPModel: its image and its text tower."""
        before = self._files()
        transformers = import_transformers("feature=clip needs")
        try:
            network, report = transformers.CLIPModel.from_pretrained(
                self.folder, output_loading_info=True, use_safetensors=True, dtype=torch.float32
            )
        except Exception as error:  # transformers raises nearly anything for damaged files
            raise self._unreadable("weights", error) from None
        if missing := sorted(report["missing_keys"]):
            raise unfit(f"feature.path={self.path}", f"lacks weights, such as {missing[0]}", REMEDY)
        if self._files() != before:
            raise changed(self.folder)
        return network.eval()

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return import_transformers().AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except Exception as error:
            raise self._unreadable("tokenizer", error) from None

    def _unreadable(self, part: str, error: Exception) -> ValueError:
        reason = in_line(" ".join(str(error).split()), 80)
        return unfit(f"feature.path={self.path}", f"has no {part} that can be read ({reason})", REMEDY)
