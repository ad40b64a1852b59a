"""The files of a pipeline, read without running code that comes with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ditexp.files.content import changed
from ditexp.files.libraries import import_diffusers, import_transformers
from ditexp.model.loading import SkipInitialization
from ditexp.model.pipelines.kind import PipelineKind
from ditexp.model.text_encoder import contents
from ditexp.terminal.notices import in_line

LIBRARIES = (None, "diffusers", "transformers")  # None: a part that the pipeline does without
# What the libraries raise for damaged files, and for a part whose class they do not have.
DAMAGE = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, SafetensorError)
REMEDY = "give a folder of save_pretrained with safetensors, or a name on the Hugging Face hub"
INDEX = "model_index.json"


def read_index(path: str) -> Mapping[str, Any]:
    """What model_index.json says. Raises ValueError if there is none, or it asks for code of its own."""
    import_transformers()
    try:
        if Path(path).is_dir() and not Path(path, INDEX).is_file():
            raise ValueError(f"it has no {INDEX}")
        index = import_diffusers().DiffusionPipeline.load_config(path)
        if own := [name for name, kind in index.items() if isinstance(kind, list) and kind[0] not in LIBRARIES]:
            part = "pipeline" if own[0] == "_class_name" else own[0]
            raise ValueError(f"its {part} comes with its own code, which is never run")
        if not isinstance(index["_class_name"], str):
            raise ValueError(f"its {INDEX} names no class")
    except DAMAGE as error:
        raise ValueError(f"{named(path)} is no pipeline of diffusers ({in_words(error)}): {REMEDY}") from None
    return index


def load(
    path: str, kind: PipelineKind, *, dtype: torch.dtype, without: tuple[str, ...] = ()
) -> tuple[Any, dict[str, Any]]:
    """The pipeline, and JSON-able facts that determine its contents. without: parts that are not loaded.

    Raises ValueError for files that are missing or damaged, and for a network that lacks weights.
    """
    cls, networks = kind.classes()
    parts: dict[str, Any] = dict.fromkeys((*without, *kind.unused))
    local = Path(path).is_dir()
    try:
        folder = Path(path if local else cls.download(path, use_safetensors=True, **parts))
        read = [name for name in (*networks, *kind.tokenizers) if name not in parts]
        before = {name: contents(f"{folder}/{name}") for name in read} if local else {}
        for name, network in networks.items():
            if name not in parts:
                parts[name] = load_network(network, folder / name, dtype)
        for name in ("transformer", "vae"):
            parts[name].to(dtype)  # without accelerate, diffusers may keep the dtype of the file
        whole = cls.from_pretrained(folder, **parts)
    except DAMAGE as error:
        raise ValueError(f"{named(path)} is no {kind.title} ({in_words(error)}): {REMEDY}") from None
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


def named(path: str) -> str:
    """The setting in a message."""
    return in_line(f"model.path={path}", 80)


def in_words(error: Exception) -> str:
    return in_line(" ".join(str(error).split()), 100)
