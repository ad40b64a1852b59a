"""References in npz files: ADM's VIRTUAL_*.npz, and the statistics of pytorch-fid and EDM."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from ditexp.files import content
from ditexp.files.npz import Header, npz_headers, opened_npz, read_array
from ditexp.files.reading import unfit
from ditexp.images.npz import NpzImages
from ditexp.reference.gaussian import check_shapes, checked
from ditexp.values import Gaussian

STATISTICS = {"pool": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}
CONVERSION = (
    'import pickle, numpy as np; s = pickle.load(open({name}, "rb"))["fid"]; '
    'np.savez({npz}, mu=s["mu"], sigma=s["sigma"])'
)


class NpzReference:
    """An npz file with images, `arr_0` (N, H, W, C) uint8, or statistics, or both. They may be of different images.

    mu (D,) and sigma (D, D) are statistics of pooled features, mu_s and sigma_s of sFID's spatial features; the file
    does not say which network and resize made them.

    images: None if the file holds only statistics; then len() is 0 and image_shape None. gaussians: the statistics by
    the network's output. Raises ValueError if the file is missing, damaged, or has neither, for statistics that no
    images can have, and for a pickle, because reading a pickle can run code.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.name = self.path.name
        if self.path.suffix in (".pkl", ".pickle"):
            raise ValueError(how_to_convert(self.path))
        headers = npz_headers(self.path)
        found = {output: names for output, names in STATISTICS.items() if set(names) <= set(headers)}
        self.images = NpzImages(path) if "arr_0" in headers or not found else None
        self.gaussians = {output: self._load(headers, names) for output, names in found.items()}

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        return self.images.image_shape if self.images else None

    def __len__(self) -> int:
        return len(self.images) if self.images else 0

    def fingerprint(self) -> str:
        return self.images.fingerprint() if self.images else self._sha256

    @cached_property
    def _sha256(self) -> str:
        return content.sha256(self.path)

    def _load(self, headers: Mapping[str, Header], names: tuple[str, str]) -> Gaussian:
        check_shapes(*((headers[name].dtype, headers[name].shape) for name in names), names=names, where=self.path)
        sha256 = self.fingerprint()
        with opened_npz(self.path) as archive:
            mean, covariance = (read_array(self.path, archive, name) for name in names)
        gaussian = checked(mean, covariance, names=names, where=self.path)
        if not gaussian.covariance.any():
            raise unfit(f"{self.path}:", f"{names[1]} is all zeros, as for a single image", "get the file again")
        content.require(self.path, sha256)
        return gaussian


def how_to_convert(path: Path) -> str:
    """The error message for a pickle, with a command that converts it."""
    npz = json.dumps(f"{path.stem}.npz")
    code = shlex.quote(CONVERSION.format(name=json.dumps(path.name), npz=npz))
    return (
        f"{path} is a pickle, which can run any code when it is read: convert it once where you trust it, "
        f"python -c {code}, and give the npz"
    )
