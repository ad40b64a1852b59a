"""References that others prepared: ADM's VIRTUAL_*.npz, pytorch-fid's and EDM's statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ditexp import content
from ditexp.core import Gaussian
from ditexp.images import NpzImages
from ditexp.npz_files import npz_headers
from ditexp.reference.gaussian import checked

STATISTICS = {"pool": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}
CONVERSION = (
    "import pickle, numpy as np; s = pickle.load(open('{name}', 'rb'))['fid']; "
    "np.savez('{stem}.npz', mu=s['mu'], sigma=s['sigma'])"
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
            convert = CONVERSION.format(name=Path(path).name, stem=Path(path).stem)
            raise ValueError(
                f"{path} is a pickle, which can run any code when it is read: convert it once where you trust it, "
                f'python -c "{convert}", and give the npz'
            )
        headers = npz_headers(Path(path))
        self.path = Path(path)
        self.gaussians = {
            output: self._load(self.path, names) for output, names in STATISTICS.items() if set(names) <= set(headers)
        }
        if "arr_0" in headers or not self.gaussians:
            super().__init__(path)
        else:
            self.name, self.shape, self.image_shape = self.path.name, (0,), None

    def _load(self, path: Path, names: tuple[str, str]) -> Gaussian:
        sha256 = self.fingerprint()
        try:
            with np.load(path) as file:
                mean, covariance = (file[name] for name in names)
        except Exception as error:  # damaged, or objects that only unpickling could read
            raise ValueError(f"{path}: {' and '.join(names)} cannot be read ({error}): get the file again") from None
        gaussian = checked(mean, covariance, names=names, where=path)
        if not gaussian.covariance.any():
            raise ValueError(f"{path}: {names[1]} is all zeros, as of one image only: get the file again")
        content.require(path, sha256)
        return gaussian
