"""References that others prepared: ADM's VIRTUAL_*.npz, pytorch-fid's and EDM's statistics."""

from __future__ import annotations

import json
import shlex
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


class NpzReference(NpzImages):
    """An npz file with images `arr_0` (N, H, W, C) uint8, or statistics, or both, which need not be of the same images.

    mu (D,) and sigma (D, D) are of pooled features, mu_s and sigma_s of sFID's spatial ones; both by whatever network
    and resize made them. With statistics alone, len() is 0 and image_shape None. Raises ValueError when the file is
    missing, damaged, or has neither, for statistics that no images can have, and for a pickle, which runs code when
    it is read.
    """

    def __init__(self, path: str) -> None:
        if Path(path).suffix in (".pkl", ".pickle"):
            npz = f"{Path(path).stem}.npz"
            convert = shlex.quote(CONVERSION.format(name=json.dumps(Path(path).name), npz=json.dumps(npz)))
            raise ValueError(
                f"{path} is a pickle, which can run any code when it is read: convert it once where you trust it, "
                f"python -c {convert}, and give the npz"
            )
        headers = npz_headers(Path(path))
        self.path = Path(path)
        self.gaussians = {
            output: self._load(headers, names) for output, names in STATISTICS.items() if set(names) <= set(headers)
        }
        if "arr_0" in headers or not self.gaussians:
            super().__init__(path)
        else:
            self.name, self.shape, self.image_shape = self.path.name, (0,), None

    def _load(self, headers: dict[str, Header], names: tuple[str, str]) -> Gaussian:
        check_shapes(*((headers[name].dtype, headers[name].shape) for name in names), names=names, where=self.path)
        sha256 = self.fingerprint()
        with opened_npz(self.path) as archive:
            mean, covariance = (read_array(self.path, archive, name) for name in names)
        gaussian = checked(mean, covariance, names=names, where=self.path)
        if not gaussian.covariance.any():
            raise unfit(f"{self.path}:", f"{names[1]} is all zeros, as of one image only", "get the file again")
        content.require(self.path, sha256)
        return gaussian
