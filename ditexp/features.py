"""Features of images: extracted once, cached block by block, read back from statistics files."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ditexp.core import Feature, Features
from ditexp.files import atomic, digest
from ditexp.images import ImageSource
from ditexp.progress import Bar


def extract(
    source: ImageSource,
    feature: Feature,
    cache: Path | str,
    *,
    progress: Bar | None = None,
    limit: int | None = None,
) -> Features:
    """Features of a source's images, or of its first `limit`.

    Every block is kept at cache/<feature id>/<source fingerprint>/<block>.safetensors: a killed extraction
    goes on where it was, damaged blocks are made again, and a complete cache runs no network and reads no
    image. Raises ValueError when the source has other channels than the network takes, or fewer images than
    `limit`.
    """
    check(source, feature)
    wanted = len(source) if limit is None else limit
    if not 0 < wanted <= len(source):
        raise ValueError(f"cannot take {wanted} images of {source.name}: choose 1 to {len(source)}")
    folder = Path(cache) / feature_id(feature) / source.fingerprint()
    done = 0
    for parts in (_cached(folder), _completed(folder, source, feature)):
        whole, count = {}, 0  # filled in place: collected and then joined, they would be there twice
        for part in parts:
            begin, count = count, min(count + len(part["pool"]), wanted)
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


def _cached(folder: Path) -> Iterator[dict[str, Tensor]]:
    """The blocks of features that are there, up to the first that is not."""
    for number in itertools.count():
        part = _load_block(folder, number)
        if part is None:
            return
        yield part


def _completed(folder: Path, source: ImageSource, feature: Feature) -> Iterator[dict[str, Tensor]]:
    """All blocks of features; made where missing, or shorter than the block of a set that has grown."""
    for number, images in enumerate(source.blocks()):
        part = _load_block(folder, number)
        if part is None or len(part["pool"]) < len(images):
            pool, logits = feature(torch.tensor(images).permute(0, 3, 1, 2).contiguous())
            part = {"pool": pool} if logits is None else {"pool": pool, "logits": logits}
            save_tensors(_block_path(folder, number), part)
        yield part


def _load_block(folder: Path, number: int) -> dict[str, Tensor] | None:
    try:
        return load_tensors(_block_path(folder, number))
    except (FileNotFoundError, ValueError):
        return None


def _block_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.safetensors"


def check(source: ImageSource | StatisticsFile, feature: Feature) -> None:
    """Raise ValueError if the network cannot judge these images, or did not make these statistics."""
    if isinstance(source, StatisticsFile):
        if json.loads(source.metadata["feature"]) != feature.identity:
            raise ValueError(
                f"{source.path} was made with the feature network {source.metadata['feature']}, not with "
                f"feature={feature.name} {json.dumps(feature.identity)}: prepare it again by "
                f"`python -m ditexp.reference feature={feature.name}`"
            )
    elif source.channels != feature.channels:
        remedy = {1: "feature=digits", 3: "feature=inception"}[source.channels]
        raise ValueError(
            f"{source.name} has {source.channels} channel(s), but feature={feature.name} takes "
            f"{feature.channels}: choose {remedy}, or other images"
        )


def feature_id(feature: Feature) -> str:
    """Short hash of what determines the network's outputs."""
    return digest(feature.identity)


class StatisticsFile:
    """A reference prepared by `ditexp.reference`: features, their statistics and what they were made from.

    name, len() and fingerprint() are those of the images. Raises ValueError when the file is missing, damaged
    or something else.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        remedy = "prepare one by `python -m ditexp.reference`"
        try:
            with safe_open(self.path, "pt") as file:
                self.metadata = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path} is not a statistics file ({error}): {remedy}") from None
        if "reference" not in self.metadata:
            raise ValueError(f"{path} was not written by ditexp.reference: {remedy}")
        self.name = self.metadata["reference"]

    def __len__(self) -> int:
        return int(self.metadata["count"])

    def fingerprint(self) -> str:
        return self.metadata["fingerprint"]

    def features(self) -> Features:
        return Features(count=len(self), **load_tensors(self.path))


def reference_features(
    reference: ImageSource | StatisticsFile | None,
    feature: Feature,
    cache: Path | str,
    *,
    progress: Bar | None = None,
) -> Features | None:
    """Features of whatever the config group `reference` gives; None of none."""
    if reference is None:
        return None
    if isinstance(reference, StatisticsFile):
        check(reference, feature)
        return reference.features()
    return extract(reference, feature, cache, progress=progress)


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, with a checksum beside `metadata`, so that it is whole or not there."""
    with atomic(path) as temporary:
        save_file(tensors, temporary, {**(metadata or {}), "sha256": _checksum(tensors)})


def load_tensors(path: Path) -> dict[str, Tensor]:
    """What `save_tensors` wrote. Raises FileNotFoundError, or ValueError when the file is damaged."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            checksum = (file.metadata() or {}).get("sha256")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): make it again") from None
    if checksum != _checksum(tensors):
        raise ValueError(f"{path} is damaged (wrong checksum): make it again")
    return tensors


def _checksum(tensors: dict[str, Tensor]) -> str:
    checksum = hashlib.sha256()
    for name in sorted(tensors):
        checksum.update(tensors[name].numpy())
    return checksum.hexdigest()
