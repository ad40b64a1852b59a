"""The images that `ditexp evaluate` scores, by the setting images=..."""

from __future__ import annotations

from ditexp.images.folder import FolderImages
from ditexp.images.npz import NpzImages
from ditexp.images.source import ImageSource
from ditexp.outputs import Outputs
from ditexp.reference.kinds import Reference
from ditexp.reference.npz import NpzReference
from ditexp.reference.statistics import StatisticsFile
from ditexp.samples.store import SampleStore, folder_named
from ditexp.terminal.notices import notice


def open_images(
    given: str, *, channels: int, outputs: Outputs, num_samples: int | None = None, setting: str = "images"
) -> ImageSource:
    """The sample set, folder or npz file that images=... names: a path that exists, or else the id of a sample set.

    channels: of the files of a folder. num_samples: of a sample set; None for all that are there. setting: for
    messages. Raises ValueError if there is no such path and no such set.
    """
    path = folder_named(given, outputs.samples)
    if (path / "set.json").exists():
        return SampleStore.open(path, num_samples=num_samples, samples=outputs.samples)
    if not path.exists():
        raise ValueError(
            f"{setting}={given} does not exist: give the path of an npz file or of a folder of images, or the id of "
            f"a sample set in {outputs.samples}"
        )
    return FolderImages(path, channels=channels, settings=None) if path.is_dir() else NpzImages(path)


def open_reference(given: str, *, channels: int, outputs: Outputs) -> Reference:
    """The reference that a path or the id of a sample set names, as reference=folder, npz and statistics do."""
    path = folder_named(given, outputs.samples)
    if path.suffix == ".safetensors":
        return StatisticsFile(path)
    if path.is_file():
        return NpzReference(path)
    return open_images(given, channels=channels, outputs=outputs, setting="reference")


def notice_skipped_folders(images: ImageSource, count: int) -> None:
    """A notice if the first `count` images are from some of the subfolders only, as with one folder per class."""
    folders = [file.parent for file in images.files] if isinstance(images, FolderImages) else []
    if (used := len(set(folders[:count]))) < (all_of_them := len(set(folders))):
        notice(
            f"num_samples={count}: the first {count} images of {images.name} lie in {used} of its {all_of_them} "
            "folders; if these are classes, score all images, or a folder of images drawn at random"
        )
