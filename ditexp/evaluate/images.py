"""The images that `python -m ditexp.evaluate` scores, by the setting images=..."""

from __future__ import annotations

from omegaconf import DictConfig

from ditexp.images.folder import FolderImages
from ditexp.images.npz import NpzImages
from ditexp.images.source import ImageSource
from ditexp.outputs import Outputs
from ditexp.samples.store import SampleStore, folder_named
from ditexp.terminal.notices import notice


def open_images(cfg: DictConfig, *, channels: int) -> ImageSource:
    """The sample set, folder or npz file that images=... names: a path that exists, or else the id of a sample set.

    channels: of the files of a folder. Raises ValueError if there is no such path and no such set.
    """
    samples = Outputs(cfg.outputs).samples
    path = folder_named(cfg.images, samples)
    if (path / "set.json").exists():
        return SampleStore.open(path, num_samples=cfg.num_samples, samples=samples)
    if not path.exists():
        raise ValueError(
            f"images={cfg.images} does not exist: give the path of an npz file or of a folder of images, or the id of "
            f"a sample set in {samples}"
        )
    return FolderImages(path, channels=channels, settings=None) if path.is_dir() else NpzImages(path)


def notice_skipped_folders(images: ImageSource, count: int) -> None:
    """A notice if the first `count` images are from some of the subfolders only, as with one folder per class."""
    folders = [file.parent for file in images.files] if isinstance(images, FolderImages) else []
    if (used := len(set(folders[:count]))) < (all_of_them := len(set(folders))):
        notice(
            f"num_samples={count}: the first {count} images of {images.name} lie in {used} of its {all_of_them} "
            "folders; if these are classes, score all images, or a folder of images drawn at random"
        )
