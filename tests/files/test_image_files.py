"""What happens to each kind of image file and folder, as the table in docs/data.md says."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditexp.checks import ConfigError
from ditexp.data import ImageFolder
from ditexp.images import folder
from ditexp.images.folder import FolderImages
from tests.helpers.refusals import refused

X = np.random.default_rng(0).integers(0, 65536, (6, 5, 3), dtype=np.uint16)
RGB = Image.fromarray((X >> 8).astype(np.uint8))
GREY = RGB.convert("L")
CLEAR = RGB.copy()
CLEAR.putalpha(100)


def png(samples: np.ndarray, *, colour_type: int, transparent: bytes = b"") -> bytes:
    """A PNG of (H, W, C) uint8 or uint16, as Pillow cannot write it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = samples.shape
    depth = 8 * samples.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(samples.dtype.newbyteorder(">")).tobytes() for row in samples)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    middle = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(samples: np.ndarray, *, planes: bool) -> bytes:
    """An uncompressed TIFF of (H, W, 3) uint16, its channels together or one after the other."""
    height, width, _ = samples.shape
    content = (samples.transpose(2, 0, 1) if planes else samples).astype("<u2").tobytes()
    strips = 3 if planes else 1
    places = 8 + 2 + 12 * 10 + 4  # behind the only directory: 3 depths, then places and lengths of the strips
    start, length = places + 6 + 8 * strips, len(content) // strips
    where = places + 6 if planes else start
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, places), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, strips, where), (277, 3, 1, 3), (278, 3, 1, height)]
    tags += [(279, 4, strips, where + 4 * strips if planes else length), (284, 3, 1, 1 + planes)]
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    lists = [start + length * strip for strip in range(strips)] + [length] * strips
    return (
        b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + struct.pack("<I", 0)
        + struct.pack("<HHH", 16, 16, 16) + struct.pack(f"<{2 * strips}I", *lists) + content
    )  # fmt: skip


def saved(image: Image.Image, name: str, **options):
    return name, lambda path: image.save(path, **options)


def written(content: bytes, name: str):
    return name, lambda path: path.write_bytes(content)


def cut(name: str):
    def write(path: Path) -> None:
        RGB.resize((50, 60)).save(path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])

    return name, write


SECOND = {"save_all": True, "append_images": [RGB.rotate(180)]}


@pytest.mark.parametrize(
    ("file", "channels", "words"),
    [
        (saved(GREY, "a.jpg"), 3, ["is of mode L, not RGB (reference.channels=3): convert", "reference.channels=1"]),
        (saved(RGB, "a.png"), 1, ["is of mode RGB, not L", "or choose reference.channels=3 if all"]),
        (saved(RGB.convert("P"), "a.png"), 3, ["is of mode P, not RGB", "convert it to RGB"]),
        (saved(RGB.convert("CMYK"), "a.jpg"), 3, ["is of mode CMYK, not RGB"]),
        (saved(RGB.convert("YCbCr"), "a.tif"), 3, ["is of mode YCbCr"]),
        (saved(RGB.convert("LAB"), "a.tiff"), 3, ["is of mode LAB"]),
        (saved(RGB.convert("1"), "a.png"), 1, ["is of mode 1, not L"]),
        (saved(CLEAR, "a.png"), 3, ["has transparency: lay it on a background"]),
        (saved(CLEAR, "a.webp"), 3, ["has transparency"]),
        (saved(GREY.convert("LA"), "a.png"), 1, ["has transparency", "save it as L"]),
        (written(png((X >> 8).astype("u1"), colour_type=2, transparent=bytes(6)), "a.png"), 3, ["has transparency"]),
        (written(png((X >> 8)[..., :1].astype("u1"), colour_type=0, transparent=bytes(2)), "a.png"), 1, ["has trans"]),
        (saved(RGB.convert("P"), "a.png", transparency=0), 3, ["has transparency"]),
        (written(png(X, colour_type=2), "a.png"), 3, ["has more than 8 bits a channel"]),
        (written(png(X[..., :1], colour_type=0), "a.png"), 1, ["has more than 8 bits", "x // 256"]),
        (written(tiff(X, planes=False), "a.tif"), 3, ["has more than 8 bits"]),
        (written(tiff(X, planes=True), "a.tif"), 3, ["has more than 8 bits"]),
        (saved(Image.fromarray(X[..., 0].astype("f4")), "a.tif"), 1, ["has more than 8 bits"]),
        (saved(RGB, "a.tif", **SECOND), 3, ["holds 2 images: save each to a file of its own"]),
        (saved(RGB, "a.png", **SECOND), 3, ["holds 2 images"]),
        (saved(RGB, "a.webp", **SECOND), 3, ["holds 2 images"]),
        (saved(RGB, "a.jpg", format="GIF"), 3, ["is a GIF file, whatever its name: save it as PNG"]),
        (saved(RGB, "a.png", format="PPM"), 3, ["is a PPM file"]),
        (written(b"", "a.png"), 3, ["cannot be read (it is empty): replace or remove it"]),
        (written(b"no image", "a.png"), 3, ["cannot be read (no image is in it)"]),
        (written(png(X[:0, :0], colour_type=2), "a.png"), 3, ["cannot be read"]),
        *((cut(name), 3, ["cannot be read"]) for name in ("a.png", "a.jpg", "a.tif", "a.bmp", "a.webp")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_what_would_be_read_as_something_else_is_refused(tmp_path, file, channels, words):
    name, write = file
    write(tmp_path / name)
    with refused([str(tmp_path / name), *words]):
        FolderImages(tmp_path, channels).read(0)


def test_all_files_that_headers_show_to_be_unfit_are_listed_at_once(tmp_path):
    for number in range(30):
        RGB.save(tmp_path / f"{number:02}.png")
    assert FolderImages(tmp_path).image_shape == (6, 5, 3)
    GREY.save(tmp_path / "00.png")  # the first one counts no more than others
    RGB.resize((5, 7)).save(tmp_path / "03.png")
    (tmp_path / "07.png").write_bytes(b"junk")
    with pytest.raises(ConfigError) as error:
        _ = FolderImages(tmp_path).image_shape
    assert str(error.value).splitlines() == [
        f"{tmp_path}/00.png is of mode L, not RGB (reference.channels=3): convert it to RGB, or choose "
        "reference.channels=1 if all images are so",
        f"{tmp_path}/03.png is 5 x 7, expected 5 x 6: bring all images to one size",
        f"{tmp_path}/07.png cannot be read (no image is in it): replace or remove it",
    ]
    with pytest.raises(ConfigError) as error:
        ImageFolder(path=str(tmp_path), size=9)
    lines = str(error.value).splitlines()
    assert len(lines) == 21 and lines[0].startswith(f"{tmp_path}/00.png is of mode L")
    assert lines[-1] == f"10 more of the 30 images below {tmp_path} cannot be used"
    for number in (0, 7):
        RGB.save(tmp_path / f"{number:02}.png")
    assert len(ImageFolder(path=str(tmp_path), size=9, resize=True)) == 30  # sizes don't matter then


def test_what_all_files_have_in_common_is_said_once(tmp_path):
    for number in range(300):
        GREY.save(tmp_path / f"{number:03}.bmp")
    with pytest.raises(ConfigError) as error:
        FolderImages(tmp_path).check()
    first, rest = str(error.value).splitlines()
    assert "000.bmp is of mode L" in first and rest == f"299 more of the 300 images below {tmp_path} cannot be used"


def test_headers_are_looked_at_once(tmp_path, monkeypatch):
    for number in range(3):
        RGB.save(tmp_path / f"{number}.png")
    FolderImages(tmp_path).check()
    with monkeypatch.context() as patched:
        patched.delattr(folder, "size_of_image")
        assert FolderImages(tmp_path).image_shape == (6, 5, 3)
    (tmp_path / "1.png").write_bytes(b"")
    with refused(["1.png cannot be read (it is empty)"]):
        FolderImages(tmp_path).check()


def test_damage_that_headers_do_not_show_is_listed_as_well(tmp_path):
    for name in ("a", "b", "c", "d"):
        cut(f"{name}.png")[1](tmp_path / f"{name}.png")
    RGB.resize((50, 60)).save(tmp_path / "b.png")
    source = FolderImages(tmp_path)
    source.check()
    with pytest.raises(ConfigError) as error:
        next(source.blocks())
    lines = str(error.value).splitlines()
    assert len(lines) == 3 and all(f"{n}.png cannot be read" in line for n, line in zip("acd", lines))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_headers_tell_the_size_that_is_read(tmp_path, suffix, orientation):
    exif = RGB.getexif()
    exif[0x0112] = orientation
    RGB.save(tmp_path / f"a.{suffix}", exif=exif)
    for upright in (False, True):
        source = FolderImages(tmp_path, upright=upright)
        assert source.image_shape == source.read(0).shape


@pytest.mark.parametrize(
    "file",
    [
        saved(RGB, "a.PNG"),
        saved(RGB, "a.TIFF"),
        saved(RGB, "a.Bmp"),
        saved(RGB, "a.WEBP", lossless=True),
        saved(RGB, "a.jpg", format="PNG"),  # what is in it counts
        saved(RGB, "a.tif", compression="tiff_lzw"),
        saved(RGB, "a.png", icc_profile=b"any profile is ignored"),
    ],
    ids=lambda value: value[0],
)
def test_what_is_read_as_it_is(tmp_path, file):
    name, write = file
    write(tmp_path / name)
    np.testing.assert_array_equal(FolderImages(tmp_path).read(0), X >> 8)


def test_grey_of_few_bits_is_spread_over_all_levels(tmp_path):
    content = bytearray(png(np.array([[[0b00011011]]], np.uint8), colour_type=0))
    content[16:29] = struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    assert FolderImages(tmp_path, 1).read(0).ravel().tolist() == [0, 85, 170, 255]


def test_an_iphones_jpeg_is_its_first_image(tmp_path):
    first, second = (Image.new("RGB", (8, 8), (level, level, level)) for level in (200, 50))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert (FolderImages(tmp_path).read(0) == 200).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_data_are_turned_upright_and_what_is_judged_is_not(tmp_path, suffix):
    upright = Image.fromarray(np.tile(np.arange(0, 256, 8, np.uint8)[:, None], (1, 40))).convert("RGB")
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    exif = lying.getexif()
    exif[0x0112] = 6
    lying.save(tmp_path / f"a.{suffix}", exif=exif, quality=95)
    assert FolderImages(tmp_path).image_shape == (40, 32, 3)  # as pytorch-fid and the others read it
    assert FolderImages(tmp_path, upright=True).image_shape == (32, 40, 3)
    with refused(["is 40 x 32, expected 32 x 32", "data.resize=true"]):
        ImageFolder(path=str(tmp_path), size=32)
    image, _ = ImageFolder(path=str(tmp_path), size=32, resize=True)[0]
    rows = image.mean((0, 2))
    assert rows[0] < -0.95 and rows[-1] > 0.9 and image.std(2).max() < 0.05


@pytest.mark.parametrize("settings", ["data", "reference", None])
def test_a_remedy_names_a_setting_only_where_there_is_one(tmp_path, settings):
    (tmp_path / "grey").mkdir()
    GREY.save(tmp_path / "grey" / "a.png")
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", X)
    messages = []
    for make in (
        lambda: FolderImages(tmp_path / "grey", settings=settings).read(0),
        lambda: FolderImages(tmp_path / "grey", 1, settings=settings).read(0, size=(5, 5)),
        lambda: FolderImages(tmp_path / "x.npy", settings=settings),
        lambda: FolderImages(tmp_path / "x.npz", settings=settings),
    ):
        with pytest.raises(ValueError) as error:
            make()
        messages.append(str(error.value).replace(str(tmp_path), ""))
    assert [f"{settings}.channels=1" in messages[0], "channels" in messages[0]] == [bool(settings)] * 2
    assert ("data.resize=true" in messages[1]) == (settings == "data")
    assert ("np.savez" in messages[2]) == (settings != "data")
    assert ("reference=npz" in messages[3]) == (settings == "reference")


def save(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        RGB.save(path)


def test_links_lead_to_each_image_once(tmp_path):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    save(folder / "a.png", elsewhere / "b.png", elsewhere / "deep" / "c.png", tmp_path / "d.png")
    (folder / "link").symlink_to(elsewhere)
    (folder / "d.png").symlink_to(tmp_path / "d.png")
    os.link(folder / "a.png", folder / "e.png")  # hard links are files of their own, as copies are
    (folder / "not.png").mkdir()
    names = [file.relative_to(folder).as_posix() for file in FolderImages(folder).files]
    assert names == ["a.png", "d.png", "e.png", "link/b.png", "link/deep/c.png"]


@pytest.mark.parametrize(
    ("link", "to", "words"),
    [
        ("a/up", ".", ["a/up leads back to", "remove this link"]),
        ("a/out", "..", ["a/out leads back to"]),
        ("a/root", "/", ["a/root leads back to /,"]),
        ("a/b/self", "a/b", ["a/b/self leads back to"]),
        ("c", "a", ["a/b/1.png", "c/b/1.png", "are one file, by a link", "copy the file if it is to count twice"]),
        ("2.png", "a/b/1.png", ["2.png", "a/b/1.png", "are one file"]),
        ("lost.png", "nothing.png", ["lost.png is a link to a file that is not there: remove it"]),
        ("lost", "nothing", ["lost is a link to a file that is not there"]),
        ("round", "round", ["round cannot be read"]),
    ],
)
def test_links_that_would_count_images_twice_or_never(tmp_path, link, to, words):
    folder = tmp_path / "folder"
    save(folder / "a" / "b" / "1.png")
    (folder / link).symlink_to(folder / to)
    with refused(words):
        FolderImages(folder)


def test_all_links_that_lead_nowhere_are_listed(tmp_path):
    save(tmp_path / "a.png")
    for number in range(22):
        (tmp_path / f"{number:02}.png").symlink_to("nothing")
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(ConfigError) as error:
        FolderImages(tmp_path)
    lines = str(error.value).splitlines()
    assert len(lines) == 21 and lines[19] == f"{tmp_path}/19.png is a link to a file that is not there: remove it"
    assert lines[20] == f"3 more below {tmp_path} cannot be read, either"


def test_special_files_are_refused_and_hidden_ones_left_out(tmp_path):
    save(tmp_path / "a.png", tmp_path / ".b.png", tmp_path / ".hidden" / "c.png")
    (tmp_path / ".lost").symlink_to("nothing")
    (tmp_path / "notes.txt").write_text("")
    assert [file.name for file in FolderImages(tmp_path).files] == ["a.png"]
    os.mkfifo(tmp_path / "pipe.png")
    with refused(["pipe.png is neither a file nor a folder"]):
        FolderImages(tmp_path)


def test_images_of_other_kinds_are_not_left_out_silently(tmp_path, caplog):
    for name in ("b.GIF", "sub/c.npy", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with refused(["holds no image that can be read, only files such as", "b.GIF", ".png"]):
        FolderImages(tmp_path)
    save(tmp_path / "a.png")
    FolderImages(tmp_path)
    assert f"2 files are left out of {tmp_path}, first {tmp_path / 'b.GIF'}: images are .bmp" in caplog.text


def test_a_name_need_not_be_utf_8(tmp_path):
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/\xff.png"))
    save(file, tmp_path / "b.png")
    source = FolderImages(tmp_path)
    assert source.files == [tmp_path / "b.png", file] and len(next(source.blocks())) == 2
    assert source.fingerprint() == FolderImages(tmp_path).fingerprint()
    GREY.save(file)
    with refused(["caf\udce9/\udcff.png is of mode L"]):
        FolderImages(tmp_path).read(1)
