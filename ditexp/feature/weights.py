"""Published weights: a file on disk, or downloaded once into torch.hub's folder."""

from __future__ import annotations

from functools import cached_property
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor

from ditexp.checkpoint.container import read_checkpoint
from ditexp.checkpoint.weights import weights_of
from ditexp.files.atomic import atomic
from ditexp.files.content import require, sha256


class Weights:
    """The weights of a feature network.

    given: path of a file; None downloads the published file on first use. url, published: the address and the sha256
    of the published file. Raises ValueError if the given path is not a file.
    """

    def __init__(self, given: str | None, *, url: str, published: str) -> None:
        self.given = None if given is None else Path(given)
        self.url, self.published = url, published
        self.name = url.rsplit("/", 1)[1]
        if self.given and not self.given.is_file():
            raise ValueError(
                f"feature.weights={given} is not a file: give the path of {self.name}, or null to download"
            )

    @cached_property
    def sha256(self) -> str:
        return sha256(self.given) if self.given else self.published

    @property
    def kept(self) -> Path:
        """The given file, or the place of the downloaded one."""
        return self.given or Path(torch.hub.get_dir()) / "checkpoints" / self.name

    @property
    def is_here(self) -> bool:
        """Whether the file is there without a download."""
        return self.kept.is_file()

    def path(self) -> Path:
        """The path of the file. It is downloaded, with a progress bar, if it is missing or damaged.

        Processes may download at the same time: each writes its own temporary file and renames it once the sha256 is
        right. The sha256 is checked again at every use. Raises ValueError if the download fails.
        """
        path = self.kept
        if self.given:
            return path
        try:
            if not path.is_file() or sha256(path) != self.published:
                with atomic(path) as temporary:
                    torch.hub.download_url_to_file(self.url, str(temporary), hash_prefix=self.published)
        except (OSError, RuntimeError, HTTPException) as error:
            raise ValueError(f"cannot download {self.url} ({error}): set feature.weights=/path/{self.name}") from None
        return path

    def load(self, kind: str, anchor: str) -> dict[str, Tensor]:
        """The state dict. kind: the network's name for messages. anchor: a weight that the network has.

        Raises ValueError if the file has changed since it was hashed, or belongs to another network.
        """
        path = self.path()
        sha256 = self.sha256  # before the file is read
        container = read_checkpoint(path, name=f"feature.weights={path}")
        weights = weights_of(container, anchor=anchor, kind=kind, setting=None)
        require(path, sha256)
        return weights.tensors

    def unfit(self, error: Exception | str) -> ValueError:
        """The error for a file that was read but whose weights do not fit."""
        reason = str(error).partition("\n")[0]
        return ValueError(
            f"feature.weights={self.given or self.name} does not fit ({reason}): give the path of {self.name}"
        )
