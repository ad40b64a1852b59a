"""Images of torchvision's data sets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from ditexp.files import content
from ditexp.files.image import BLOCK_SIZE, MODES
from ditexp.files.reading import unfit
from ditexp.images.source import hash_facts, hash_pixels
from ditexp.terminal.progress import progress_bar


class TorchvisionImages:
    """A data set of torchvision.datasets that is already on disk, as RGB images; grey ones are repeated.

    dataset: the name of its class. root: its folder. options: further arguments of its constructor, such as
    {train: false} or {split: test}. Raises ValueError when there is no such class, when the data set is not there, and
    when its images differ in size.
    """

    def __init__(self, dataset: str, root: Path | str, options: Mapping | None = None) -> None:
        from torchvision import datasets

        if dataset not in datasets.__all__:
            raise ValueError(f"reference.dataset={dataset}: choose a class of torchvision.datasets, such as CIFAR10")
        self._root, self._before = root, content.stamps_below(root)  # before it is read
        try:
            self.dataset = vars(datasets)[dataset](root=root, **(options or {}))
        except Exception as error:  # torchvision raises nearly anything for damaged files
            remedy = "download it there first, or correct reference.root and reference.options"
            raise unfit(f"torchvision has no {dataset} at {root}", f"({error})", remedy) from None
        self.name = f"torchvision {dataset}"
        self._facts = json.dumps([dataset, sorted((options or {}).items())], default=str)
        self.image_shape = self._read(0).shape

    def __len__(self) -> int:
        return len(self.dataset)

    def fingerprint(self) -> str:
        return hash_facts(*self._sha256s)

    @cached_property
    def _sha256s(self) -> list[str]:
        """The hash of each block's pixels, since only torchvision knows which files they are in."""

        def hash_blocks() -> str:
            found = []
            with progress_bar(f"hashing {self.name}", total=len(self)) as bar:
                for block in self._blocks():
                    found.append(hash_pixels(block))
                    bar.advance(len(block))
            return json.dumps(found)

        return json.loads(content.remembered(self._facts, self._root, self._before, hash_blocks))

    def blocks(self) -> Iterator[np.ndarray]:
        for number, block in enumerate(self._blocks()):
            if hash_pixels(block) != self._sha256s[number]:
                raise content.changed(self.name)
            yield block

    def _blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), BLOCK_SIZE):
            images = [self._read(index) for index in range(start, min(start + BLOCK_SIZE, len(self)))]
            if any(image.shape != self.image_shape for image in images):
                raise ValueError(f"{self.name} has images of several sizes: bring them to one, then reference=folder")
            yield np.stack(images)

    def _read(self, index: int) -> np.ndarray:
        try:
            image = self.dataset[index][0]
        except Exception as error:
            raise unfit(self.name, f"has an image {index} that cannot be read ({error})", "download it again") from None
        if image.mode not in MODES.values():
            raise ValueError(
                f"{self.name} has images of mode {image.mode}, not L or RGB: save them as RGB files, then choose "
                "reference=folder"
            )
        return np.asarray(image.convert("RGB"))
