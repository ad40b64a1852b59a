"""Features of images: extracted once, and cached block by block."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ditexp.core import Feature, TextFeature
from ditexp.files.content import digest
from ditexp.files.image import BLOCK_SIZE
from ditexp.files.tensors import load_tensors, save_tensors
from ditexp.images.source import ImageSource
from ditexp.terminal.notices import notice
from ditexp.terminal.progress import Bar
from ditexp.transfer import Pending, to_host
from ditexp.values import Features


def extract(
    source: ImageSource,
    feature: Feature,
    cache: Path | str,
    *,
    outputs: Collection[str] | None = None,
    progress: Bar | None = None,
    limit: int | None = None,
) -> Features:
    """Features of a source's images. outputs: which of the network's outputs; None: all. limit: the first images only.

    Each block is cached in cache/<feature id>/<source fingerprint>/<block>.safetensors, with all outputs. So a killed
    extraction resumes, damaged blocks are extracted again, and a complete cache runs no network and reads no image.
    Raises ValueError if the network needs another number of channels, or if there are fewer images than `limit`.
    """
    check_channels(source, feature)
    wanted = len(source) if limit is None else limit
    if not 0 < wanted <= len(source):
        raise ValueError(f"cannot use {wanted} images of {source.name}: choose 1 to {len(source)}")
    names = feature.outputs if outputs is None else outputs
    folder = folder_of(source.fingerprint(), feature, cache)
    with suppress(OSError):  # not there yet, or of another user
        os.utime(folder)  # `samples gc` keeps what was in use within a day
    done = 0
    for parts in (_cached(folder, names, feature), _completed(folder, names, source, feature)):
        found: dict[str, Tensor] = {}  # filled in place: collecting blocks and joining them would need twice the memory
        count = 0
        for part in parts:
            begin, count = count, min(count + len(next(iter(part.values()))), wanted)
            for name, tensor in part.items():
                if name not in found:
                    found[name] = tensor.new_empty((wanted, *tensor.shape[1:]))
                found[name][begin:count] = tensor[: count - begin]
            if progress and count > done:
                progress.advance(count - done)
                done = count
            if count == wanted:
                return Features(count, found.get("pool"), found.get("logits"), found.get("spatial"))
    raise ValueError(f"{source.name} ended after {count} of {len(source)} images: check it")


def embed_texts(texts: Sequence[str], feature: TextFeature, cache: Path | str) -> Tensor:
    """The network's embeddings of texts, (N, D) float32 on the CPU. Each is made once and cached."""
    unique = list(dict.fromkeys(texts))
    path = _block_path(folder_of(f"texts-{digest(unique)}", feature, cache), 0)
    try:
        found = load_tensors(path, ["text"])["text"]
    except ValueError:
        found = feature.embed(unique)
        try:
            save_tensors(path, {"text": found})
        except OSError as error:
            notice(f"embeddings cannot be cached in {path.parent} ({error.strerror}): the next run makes them again")
    number = {text: i for i, text in enumerate(unique)}
    return found[torch.tensor([number[text] for text in texts])]


def are_kept(source: ImageSource, feature: Feature, cache: Path | str) -> bool:
    """Whether there is a file for each block of a source in blocks of 256. Only reading shows damaged files."""
    folder = folder_of(source.fingerprint(), feature, cache)
    return all(_block_path(folder, number).exists() for number in range(math.ceil(len(source) / BLOCK_SIZE)))


def extract_block(images: Tensor, feature: Feature, folder: Path, number: int) -> Pending[dict[str, Tensor]]:
    """Run the network on one block of images (b, C, H, W) uint8, on any device.

    The result waits for all outputs, and caches them where `extract` looks for them.
    """
    outputs = {name: to_host(output) for name, output in feature(images.contiguous()).items()}

    def kept() -> dict[str, Tensor]:
        part = {name: wait() for name, wait in outputs.items()}
        try:
            save_tensors(_block_path(folder, number), part)
        except OSError as error:
            notice(f"features cannot be cached in {folder} ({error.strerror}): the next run extracts them again")
        return part

    return kept


def folder_of(fingerprint: str, feature: Feature, cache: Path | str) -> Path:
    """The folder of the cached features of images with this fingerprint."""
    return Path(cache) / feature_id(feature) / fingerprint


def feature_id(feature: Feature) -> str:
    """A short hash of the facts that determine the network's outputs."""
    return digest(feature.identity)


def _cached(folder: Path, names: Collection[str], feature: Feature) -> Iterator[dict[str, Tensor]]:
    """The cached blocks, up to the first that is missing."""
    for number in itertools.count():
        part = _load_block(folder, number, names, feature)
        if part is None:
            return
        yield part


def _completed(
    folder: Path, names: Collection[str], source: ImageSource, feature: Feature
) -> Iterator[dict[str, Tensor]]:
    """All blocks. A block is extracted if it is missing, or shorter than the block of a set that has grown.

    While a GPU runs the network on a block, the next images are read.
    """
    last: Pending[dict[str, Tensor]] | None = None
    try:
        for number, images in enumerate(source.blocks()):
            done, last = last, None
            if done is not None:
                yield _named(names, done())
            part = _load_block(folder, number, names, feature)
            if part is None or any(len(tensor) < len(images) for tensor in part.values()):
                last = extract_block(torch.tensor(images).permute(0, 3, 1, 2), feature, folder, number)
            else:
                last = partial(dict, part)
        done, last = last, None
        if done is not None:
            yield _named(names, done())
    finally:
        if last is not None:  # the next images cannot be read
            last()


def _named(names: Collection[str], part: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: part[name] for name in names}


def _load_block(folder: Path, number: int, names: Collection[str], feature: Feature) -> dict[str, Tensor] | None:
    """One block; None if it is missing, damaged or of another network."""
    try:
        part = load_tensors(_block_path(folder, number), names)
    except ValueError:
        return None
    fits = (tensor.shape[1:] == (feature.outputs[name],) and len(tensor) for name, tensor in part.items())
    return part if all(fits) and len({len(tensor) for tensor in part.values()}) == 1 else None


def _block_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.safetensors"


def check_channels(source: ImageSource, feature: Feature) -> None:
    """Raise ValueError unless images and network have the same number of channels."""
    channels = source.image_shape[2]
    if channels != feature.channels:
        if channels == 3:
            remedy = "choose feature=inception, or other images"
        elif source.image_shape == (8, 8, 1):
            remedy = "choose feature=digits, or other images"
        else:
            remedy = "give images with the grey channel three times, as by np.repeat(x, 3, axis=3)"
        raise ValueError(
            f"{source.name} has {channels} channel(s), but feature={feature.name} needs {feature.channels}: {remedy}"
        )
