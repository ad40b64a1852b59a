import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from ditexp.files import stamps
from ditexp.images import digits
from ditexp.images.digits import DigitsImages
from ditexp.images.folder import FolderImages
from ditexp.images.npz import NpzImages
from ditexp.images.torchvision import TorchvisionImages
from tests.helpers.refusals import refused

RGB = np.random.default_rng(0).integers(0, 256, (600, 6, 5, 3), dtype=np.uint8)


def save_folder(folder, images):
    """One file an image, in several folders and formats without loss; names sort as the images do."""
    for index, image in enumerate(images):
        path = folder / f"{index // 100:02d}" / f"{index:05d}{['.png', '.BMP', '.tiff'][index % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(path)
    return folder


def test_digits_are_what_a_model_decodes():
    blocks = list(DigitsImages().blocks())
    images = np.concatenate(blocks)
    assert images.shape == (len(DigitsImages()), 8, 8, 1) and images.dtype == np.uint8
    assert max(map(len, blocks)) <= 256
    for p, level in {0: 0, 1: 16, 8: 128, 12: 191, 16: 255}.items():
        assert set(images[..., 0][load_digits().images == p]) == {level}


def test_digits_are_those_of_scikit_learn():
    for ours, theirs in zip(digits.load_digits(), load_digits(return_X_y=True)):
        assert np.array_equal(ours.reshape(theirs.shape), theirs)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("channels", [1, 3])
def test_npz_streams_the_same_images(tmp_path, save, channels):
    images = RGB[..., :channels]
    save(tmp_path / "x.npz", images, np.arange(len(images)))
    source = NpzImages(tmp_path / "x.npz")
    blocks = list(source.blocks())
    assert (source.image_shape, len(source)) == ((6, 5, channels), len(images))
    assert [len(block) for block in blocks] == [256, 256, 88]
    np.testing.assert_array_equal(np.concatenate(blocks), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_folder_gives_its_images_sorted(tmp_path, channels):
    images = RGB[:300, ..., :channels]
    save_folder(tmp_path, images)
    (tmp_path / "notes.txt").write_text("not an image")
    source = FolderImages(tmp_path, channels=channels)
    blocks = list(source.blocks())
    assert len(source) == 300 and [len(block) for block in blocks] == [256, 44]
    np.testing.assert_array_equal(np.concatenate(blocks), images)


def write_twins(tmp_path):
    """Two folders with the same names, sizes and dates, and other pixels; and an npz of each."""
    for name, images in (("a", RGB[:3]), ("b", RGB[3:6])):
        save_folder(tmp_path / name, images)
        for path in (tmp_path / name).rglob("*.png"):  # whose size would differ
            Image.fromarray(images[int(path.stem)]).save(path, compress_level=0)
        np.savez(tmp_path / f"{name}.npz", images)
        for path in (tmp_path / f"{name}.npz", *(tmp_path / name).rglob("*.*")):
            os.utime(path, ns=(0, 0))


def test_a_fingerprint_is_of_the_content(tmp_path):
    write_twins(tmp_path)
    a, b = tmp_path / "a", tmp_path / "b"
    facts = [[(p.relative_to(f), p.stat().st_size, p.stat().st_mtime) for p in sorted(f.rglob("*.*"))] for f in (a, b)]
    assert facts[0] == facts[1]
    assert FolderImages(a).fingerprint() != FolderImages(b).fingerprint()
    assert NpzImages(tmp_path / "a.npz").fingerprint() != NpzImages(tmp_path / "b.npz").fingerprint()
    shutil.copytree(a, tmp_path / "copy")
    shutil.copy(tmp_path / "a.npz", tmp_path / "copy.npz")
    os.utime(tmp_path / "copy" / "00" / "00001.BMP")
    assert FolderImages(tmp_path / "copy").fingerprint() == FolderImages(a).fingerprint()
    assert NpzImages(tmp_path / "copy.npz").fingerprint() == NpzImages(tmp_path / "a.npz").fingerprint()


def test_a_fingerprint_changes_with_names_channels_and_pixels(tmp_path):
    folder = save_folder(tmp_path / "images", RGB[:3])
    seen = [FolderImages(folder).fingerprint(), FolderImages(folder, channels=1).fingerprint()]
    (folder / "00" / "00001.BMP").rename(folder / "00" / "00009.BMP")
    seen.append(FolderImages(folder).fingerprint())
    for pixels in RGB[3:5]:  # at once one after the other, in the same size
        Image.fromarray(pixels).save(folder / "00" / "00009.BMP")
        os.utime(folder / "00" / "00009.BMP", ns=(0, 0))
        seen.append(FolderImages(folder).fingerprint())
    assert len(set(seen)) == 5
    assert DigitsImages().fingerprint() == DigitsImages().fingerprint()


def test_images_that_change_after_they_were_hashed_are_not_read(tmp_path):
    write_twins(tmp_path)
    folder, archive = FolderImages(tmp_path / "a"), NpzImages(tmp_path / "a.npz")
    fingerprints = folder.fingerprint(), archive.fingerprint()
    for name in ("00/00001.BMP", "00/00000.png"):
        shutil.copy2(tmp_path / "b" / name, tmp_path / "a" / name)
    shutil.copy2(tmp_path / "b.npz", tmp_path / "a.npz")
    assert (folder.fingerprint(), archive.fingerprint()) == fingerprints  # of what was there
    with refused(["00000.png was changed while it was in use", "run again"]):
        list(folder.blocks())
    with refused(["a.npz was changed while it was in use", "run again"]):
        list(archive.blocks())


def test_an_npz_that_is_replaced_while_it_is_read(tmp_path):
    """Blocks read before are right; later blocks would have no fingerprint."""
    np.savez(tmp_path / "x.npz", RGB)
    source = NpzImages(tmp_path / "x.npz")
    blocks = source.blocks()
    np.testing.assert_array_equal(next(blocks), RGB[:256])
    np.savez(tmp_path / "x.npz", RGB[::-1])
    with refused(["x.npz was changed while it was in use"]):
        next(blocks)


@pytest.fixture
def cifar10(tmp_path):
    """CIFAR-10's own files, of 10 images each instead of 10,000."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images = np.random.default_rng(1).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for name, part in zip(names, np.split(images, 6)):
        batch = {"data": part.transpose(0, 3, 1, 2).reshape(10, -1), "labels": [0] * 10}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a"]}))
    with pytest.MonkeyPatch.context() as patch:  # the true checksums are those of the whole data set
        patch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
        yield tmp_path, images


def test_a_torchvision_data_set_gives_its_images_in_order(cifar10):
    root, images = cifar10
    train, test = TorchvisionImages("CIFAR10", root), TorchvisionImages("CIFAR10", root, {"train": False})
    assert (len(train), len(test), train.image_shape, train.name) == (50, 10, (32, 32, 3), "torchvision CIFAR10")
    np.testing.assert_array_equal(np.concatenate(list(train.blocks())), images[:50])
    np.testing.assert_array_equal(np.concatenate(list(test.blocks())), images[50:])
    assert len({source.fingerprint() for source in (train, test, TorchvisionImages("CIFAR10", root))}) == 2


def test_torchvisions_grey_is_repeated_and_other_modes_are_refused(cifar10):
    root, _ = cifar10
    grey = TorchvisionImages("CIFAR10", root, {"transform": lambda image: image.convert("L")})
    assert np.ptp(next(grey.blocks()), axis=-1).max() == 0
    with refused(["CIFAR10 has images of mode RGBA", "reference=folder"]):
        TorchvisionImages("CIFAR10", root, {"transform": lambda image: image.convert("RGBA")})


def test_a_torchvision_data_set_is_known_by_its_pixels(cifar10, tmp_path_factory, monkeypatch):
    root, _ = cifar10
    monkeypatch.setattr(stamps, "SETTLED", -(10**12))  # files count as old at once
    source = TorchvisionImages("CIFAR10", root, {"train": False})
    copy = shutil.copytree(root, tmp_path_factory.mktemp("copy"), dirs_exist_ok=True)
    (copy / "another data set").write_bytes(b"")
    assert source.fingerprint() == TorchvisionImages("CIFAR10", copy, {"train": False}).fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(TorchvisionImages, "_blocks", None)
        assert TorchvisionImages("CIFAR10", root, {"train": False}).fingerprint() == source.fingerprint()  # remembered
    file = root / "cifar-10-batches-py" / "test_batch"
    data = file.read_bytes()
    assert data.count(bytes(source.dataset.data[3].transpose(2, 0, 1))) == 1
    first = data.index(bytes(source.dataset.data[3].transpose(2, 0, 1)))
    file.write_bytes(data[:first] + bytes([data[first] ^ 1]) + data[first + 1 :])
    os.utime(file, ns=(0, 0))
    assert TorchvisionImages("CIFAR10", root, {"train": False}).fingerprint() != source.fingerprint()
    source.dataset.data[3] += 1
    with refused(["torchvision CIFAR10 was changed while it was in use"]):
        list(source.blocks())


def bad_npz(tmp_path, **arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    return NpzImages(tmp_path / "x.npz")


def bad_file(tmp_path, name, content=b"no image"):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def damaged_npz(tmp_path):
    """A member whose last bytes are not what its checksum says."""
    np.savez(tmp_path / "x.npz", RGB)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        end = archive.start_dir
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[end - 100] ^= 255
    (tmp_path / "x.npz").write_bytes(content)
    return NpzImages(tmp_path / "x.npz")


def short_npz(tmp_path):
    """An array that is shorter than its header says."""
    np.save(tmp_path / "x.npy", RGB)
    content = (tmp_path / "x.npy").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("arr_0.npy", content[:-1000])
    return NpzImages(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: NpzImages(t / "no.npz"), ["no.npz", "does not exist"]),
        (lambda t: NpzImages(bad_file(t, "x.npz")), ["x.npz", "np.savez"]),
        (lambda t: bad_npz(t, mu=RGB[0, 0]), ["x.npz", "arr_0", "only mu", "np.savez"]),
        (lambda t: bad_npz(t, arr_0=RGB / 255), ["x.npz", "float64 (the first images range from 0 to 1)", "255 * x"]),
        (lambda t: bad_npz(t, arr_0=RGB / np.float32(127.5) - 1), ["float32", "from -1 to 1", "127.5 * x + 128"]),
        (lambda t: bad_npz(t, arr_0=np.where(RGB < 9, np.nan, 1)), ["float64 with pixels that are NaN", "uint8"]),
        (lambda t: bad_npz(t, arr_0=RGB.astype(np.int64)), ["x.npz", "int64 (", "not uint8"]),
        (lambda t: bad_npz(t, arr_0=RGB.astype(object)), ["x.npz", "object, not uint8"]),
        (lambda t: bad_npz(t, arr_0=RGB[..., [0, 1, 2, 0]]), ["(600, 6, 5, 4)", "x[..., :3]"]),
        (lambda t: bad_npz(t, arr_0=RGB[0]), ["x.npz", "(6, 5, 3)", "(N, H, W, C)"]),
        (lambda t: bad_npz(t, arr_0=RGB.transpose(0, 3, 1, 2)), ["(600, 3, 6, 5)", "(N, H, W, C)"]),
        (lambda t: bad_npz(t, arr_0=np.asfortranarray(RGB)), ["x.npz", "Fortran"]),
        (lambda t: bad_npz(t, arr_0=RGB[:0]), ["x.npz", "no images"]),
        (damaged_npz, ["x.npz", "damaged after image 512", "again"]),
        (short_npz, ["x.npz", "arr_0 (600, 6, 5, 3) of uint8, which takes 54,000 bytes, in 53,000", "again"]),
        (lambda t: FolderImages(t / "no"), ["no", "not a folder"]),
        (lambda t: FolderImages(t), ["holds no image", ".png"]),
        (lambda t: FolderImages(t, channels=4), ["channels=4", "1 (grey) or 3"]),
        (lambda t: TorchvisionImages("CIFAR11", t), ["reference.dataset=CIFAR11", "such as CIFAR10"]),
        (lambda t: TorchvisionImages("CIFAR10", t), ["no CIFAR10 at", "download", "reference.root"]),
        (lambda t: TorchvisionImages("CIFAR10", t, {"split": 1}), ["no CIFAR10 at", "split", "reference.options"]),
    ],
)
def test_bad_images_are_refused_in_one_line(tmp_path, make, words):
    with refused(words):
        list(make(tmp_path).blocks())
