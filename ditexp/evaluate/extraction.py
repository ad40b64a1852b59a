"""Features of images: extracted once, cached block by block."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ditexp.core import Feature
from ditexp.files.atomic import atomic
from ditexp.files.content import digest
from ditexp.files.image import BLOCK_SIZE
from ditexp.files.reading import parse_json, unfit
from ditexp.files.tensors import opened_tensors, write_tensors
from ditexp.images.source import ImageSource
from ditexp.terminal.notices import notice
from ditexp.terminal.progress import Bar
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
    """Features of a source's images, or of its first `limit`; of the network's outputs those asked for, or all.

    Every block is kept at cache/<feature id>/<source fingerprint>/<block>.safetensors, with all outputs: a killed
    extraction goes on where it was, damaged blocks are made again, and a complete cache runs no network and reads no
    image. Raises ValueError when the source has other channels than the network takes, or fewer images than `limit`.
    """
    check_channels(source, feature)
    wanted = len(source) if limit is None else limit
    if not 0 < wanted <= len(source):
        raise ValueError(f"cannot take {wanted} images of {source.name}: choose 1 to {len(source)}")
    names = feature.outputs if outputs is None else outputs
    folder = folder_of(source.fingerprint(), feature, cache)
    with suppress(OSError):  # not there yet, or of others
        os.utime(folder)  # `samples gc` leaves alone what was in use within a day
    done = 0
    for parts in (_cached(folder, names, feature), _completed(folder, names, source, feature)):
        whole, count = {}, 0  # filled in place: collected and then joined, they would be there twice
        for part in parts:
            begin, count = count, min(count + len(next(iter(part.values()))), wanted)
            for name, tensor in part.items():
                if name not in whole:
                    whole[name] = tensor.new_empty((wanted, *tensor.shape[1:]))
                whole[name][begin:count] = tensor[: count - begin]
            if progress and count > done:
                progress.advance(count - done)
                done = count
            if count == wanted:
                return Features(count=count, **whole)
    raise ValueError(f"{source.name} ended after {count} of {len(source)} images: check it")


def are_kept(source: ImageSource, feature: Feature, cache: Path | str) -> bool:
    """Whether there is a file for each block of a source in blocks of 256; that they are whole, only reading tells."""
    folder = folder_of(source.fingerprint(), feature, cache)
    return all(_block_path(folder, number).exists() for number in range(math.ceil(len(source) / BLOCK_SIZE)))


def extract_block(images: np.ndarray, feature: Feature, folder: Path, number: int) -> dict[str, Tensor]:
    """All outputs for one block of images (b, H, W, C) uint8, kept where `extract` looks for them, if that can be."""
    part = feature(torch.tensor(images).permute(0, 3, 1, 2).contiguous())
    try:
        save_tensors(_block_path(folder, number), part)
    except OSError as error:
        notice(f"features are not kept in {folder} ({error.strerror}): another run extracts them again")
    return part


def feature_cache(outputs: Path | str) -> Path:
    return Path(outputs) / "cache" / "features"


def folder_of(fingerprint: str, feature: Feature, cache: Path | str) -> Path:
    """Where the features of the images of that fingerprint are kept."""
    return Path(cache) / feature_id(feature) / fingerprint


def feature_id(feature: Feature) -> str:
    """Short hash of what determines the network's outputs."""
    return digest(feature.identity)


def _cached(folder: Path, names: Collection[str], feature: Feature) -> Iterator[dict[str, Tensor]]:
    """The blocks of features that are there, up to the first that is not."""
    for number in itertools.count():
        part = _load_block(folder, number, names, feature)
        if part is None:
            return
        yield part


def _completed(
    folder: Path, names: Collection[str], source: ImageSource, feature: Feature
) -> Iterator[dict[str, Tensor]]:
    """All blocks of features; made where missing, or shorter than the block of a set that has grown."""
    for number, images in enumerate(source.blocks()):
        part = _load_block(folder, number, names, feature)
        if part is None or any(len(tensor) < len(images) for tensor in part.values()):
            part = extract_block(images, feature, folder, number)
        yield {name: part[name] for name in names}


def _load_block(folder: Path, number: int, names: Collection[str], feature: Feature) -> dict[str, Tensor] | None:
    """None for a block that is absent, damaged or of another network."""
    try:
        part = load_tensors(_block_path(folder, number), names)
    except ValueError:
        return None
    fits = (tensor.shape[1:] == (feature.outputs[name],) and len(tensor) for name, tensor in part.items())
    return part if all(fits) and len({len(tensor) for tensor in part.values()}) == 1 else None


def _block_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.safetensors"


def check_channels(source: ImageSource, feature: Feature) -> None:
    """Raise ValueError if the network cannot judge images of so many channels."""
    channels = source.image_shape[2]
    if channels != feature.channels:
        if channels == 3:
            remedy = "choose feature=inception, or other images"
        elif source.image_shape == (8, 8, 1):
            remedy = "choose feature=digits, or other images"
        else:
            remedy = "give images with the grey channel three times, as np.repeat(x, 3, axis=3)"
        raise ValueError(
            f"{source.name} has {channels} channel(s), but feature={feature.name} takes {feature.channels}: {remedy}"
        )


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, with each tensor's checksum beside `metadata`, so that it is whole or not there."""
    checksums = {name: _checksum(tensor) for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        write_tensors(temporary, tensors, {**(metadata or {}), "sha256": json.dumps(checksums)})


def load_tensors(path: Path, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """What `save_tensors` wrote, or the tensors of these names. Raises ValueError if it is missing or damaged."""
    with opened_tensors(path, "a file of tensors", remedy="make it again") as file:
        try:
            checksums = parse_json((file.metadata() or {})["sha256"])
            tensors = {name: file.get_tensor(name) for name in (checksums if names is None else names)}
            wrong = [name for name, tensor in tensors.items() if checksums[name] != _checksum(tensor)]
        except (KeyError, TypeError, ValueError) as error:
            raise unfit(path, f"is damaged ({error})", "make it again") from None
    if wrong:
        raise unfit(path, f"is damaged (wrong checksum of {wrong[0]})", "make it again")
    return tensors


def _checksum(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy()).hexdigest()
