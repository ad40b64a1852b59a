"""Which lossless format for blocks of images? python -m benchmarks.block_formats [cifar10-jpeg.tar.xz]

Size against the raw bytes, and megabytes of raw pixels per second that one thread encodes and decodes, in memory.
All formats take turns on the same blocks, several times; every decoded block is compared with the original.
A name is filters, then coder: "left" and "up" subtract that neighbour, "green" subtracts green from red and blue,
"planar" puts channels first. "tall" is a block as one PNG, images stacked; "own" are PNGs written here, with one of
PNG's filters for all rows, which Pillow decodes. rle and huffman are strategies of zlib, at level 1.
Without the archive (the default: ../shared/data) there is no CIFAR-10; without zstandard there is no zstd.
"""

from __future__ import annotations

import io
import json
import statistics
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, features
from sklearn.datasets import load_digits, load_sample_images

from ditexp.provenance import provenance

RUNS, BLOCK = 5, 256
ARCHIVE = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10-jpeg.tar.xz"
FILTERS = ["", "left", "up", "left up", "green up", "green left up", "planar green up", "planar green left up"]
STRATEGIES = {"deflate": zlib.Z_DEFAULT_STRATEGY, "rle": zlib.Z_RLE, "huffman": zlib.Z_HUFFMAN_ONLY}


def crops(number: int, size: int, halve: bool) -> np.ndarray:
    """Random crops of the two photographs, flipped, each channel dimmed at random: overlaps never repeat exactly."""
    rng, photographs, images = np.random.default_rng(0), load_sample_images().images, []
    for i in range(number):
        side = size * (2 if halve else 1)
        top, left = (rng.integers(length - side + 1) for length in photographs[0].shape[:2])
        image = photographs[i % 2][top : top + side, left : left + side, :].astype(float)
        if halve:
            image = image.reshape(size, 2, size, 2, 3).mean((1, 3))
        image = image[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])] * rng.uniform(0.75, 1, 3)
        images.append(image.round().astype(np.uint8))
    return np.stack(images)


def digits() -> np.ndarray:
    """Scikit-learn's digits as a model draws them: 256 levels, and noise of about 2 levels at both ends."""
    rng, x = np.random.default_rng(0), load_digits().images[..., None]
    x = (x + rng.uniform(-0.5, 0.5, x.shape) * ((x > 0) & (x < 16))) * 255 / 16 + rng.normal(0, 1.2, x.shape)
    return x.round().clip(0, 255).astype(np.uint8)


def cifar(archive: Path) -> np.ndarray:
    with tarfile.open(archive) as tar:
        files = [m for m in tar if m.name.startswith("test/") and m.name.endswith(".jpg")]
        chosen = np.random.default_rng(0).choice(len(files), 4 * BLOCK, replace=False)
        return np.stack([np.asarray(Image.open(tar.extractfile(files[i]))) for i in sorted(chosen)])


def forward(x: np.ndarray, filters: str) -> np.ndarray:
    planar = "planar" in filters
    x = np.ascontiguousarray(x.transpose(3, 0, 1, 2)) if planar else x.copy()
    green(x, filters, np.subtract)
    for word, axis in (("left", 2 + planar), ("up", 1 + planar)):
        if word in filters:
            last, before = ((slice(None),) * axis + (part,) for part in (slice(1, None), slice(None, -1)))
            x[last] -= x[before].copy()
    return x


def backward(x: np.ndarray, filters: str) -> np.ndarray:
    planar = "planar" in filters
    if "up" in filters:
        rows = np.moveaxis(x, 1 + planar, 0)
        for row in range(1, len(rows)):  # what np.add.accumulate does, but five times faster
            rows[row] += rows[row - 1]
    if "left" in filters:
        np.add.accumulate(x, axis=2 + planar, dtype=np.uint8, out=x)
    green(x, filters, np.add)
    return np.stack(list(x), axis=-1) if planar else x


def green(x: np.ndarray, filters: str, operation: np.ufunc) -> None:
    if "green" in filters:
        red, middle, blue = x if "planar" in filters else np.moveaxis(x, -1, 0)
        operation(red, middle, out=red)
        operation(blue, middle, out=blue)


def npz(x: np.ndarray, level: int | None) -> bytes:
    method, buffer = zipfile.ZIP_STORED if level is None else zipfile.ZIP_DEFLATED, io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=level) as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array(member, x)
    return buffer.getvalue()


def npy(x: np.ndarray) -> bytes:
    np.save(buffer := io.BytesIO(), x)
    return buffer.getvalue()


def squeeze(data, level: int, strategy: str, wbits: int) -> bytes:
    coder = zlib.compressobj(level, zlib.DEFLATED, wbits, 9, STRATEGIES[strategy])
    return coder.compress(data) + coder.flush()


def pillow(images: np.ndarray, kind: str, options: dict) -> list[bytes]:
    buffers = [io.BytesIO() for _ in images]
    for image, buffer in zip(images, buffers):
        Image.fromarray(image).save(buffer, kind, **options)
    return [buffer.getvalue() for buffer in buffers]


def opened(files: list[bytes], shape: tuple, mode: str) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert(mode)) for file in files]).reshape(shape)


def tall(x: np.ndarray) -> np.ndarray:
    return x.reshape(1, -1, *x.shape[2:3], *x.shape[3:] * (x.shape[3] > 1))  # (1, N * H, W) or (1, N * H, W, 3)


def own_png(x: np.ndarray, kind: str, strategy: str) -> list[bytes]:
    """Each image as a PNG; all rows of a block have one filter, computed at once."""
    (n, height, width, channels), x = x.shape, x.reshape(*x.shape[:2], -1)
    padded = np.pad(x, ((0, 0), (1, 0), (channels, 0)))
    left, up, corner = padded[:, 1:, :-channels], padded[:, :-1, channels:], padded[:, :-1, :-channels]
    if kind == "average":
        guess = (left & up) + ((left ^ up) >> 1)  # half their sum, rounded down, within 8 bits
    elif kind == "paeth":
        a, b = up.astype(np.int16) - corner, left.astype(np.int16) - corner
        to_left, to_up, to_corner = abs(a), abs(b), abs(a + b)
        guess = np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
    else:
        guess = {"left": left, "up": up}[kind]
    rows = np.empty((n, height, x.shape[2] + 1), np.uint8)
    rows[..., 0] = ["", "left", "up", "average", "paeth"].index(kind)
    np.subtract(x, guess, out=rows[..., 1:])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0))
    signature, end = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")
    return [signature + header + chunk(b"IDAT", squeeze(image, 1, strategy, 15)) + end for image in rows]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def candidates(shape: tuple) -> dict:
    """name: (encode, decode, whose version the bytes depend on)."""
    mode, found = "L" if shape[3] == 1 else "RGB", {}
    coders = {
        "npy": (npy, lambda d: np.load(io.BytesIO(d)), ""),
        "npz": (partial(npz, level=None), lambda d: np.load(io.BytesIO(d))["x"], ""),
    }
    for level in (1, 6):
        coders[f"npz deflate {level}"] = (partial(npz, level=level), coders["npz"][1], "zlib")
    for name in ("rle", "huffman"):  # what gzip reads
        encode = lambda x, name=name: squeeze(npy(x), 1, name, 31)  # noqa: E731
        coders[f"npy.gz {name}"] = (encode, lambda d: np.load(io.BytesIO(zlib.decompress(d, 31))), "zlib")
    if find_spec("zstandard"):
        import zstandard

        for level in (1, 3):
            encode = lambda x, level=level: zstandard.compress(npy(x), level)  # noqa: E731
            coders[f"npy.zst {level}"] = (encode, lambda d: np.load(io.BytesIO(zstandard.decompress(d))), "zstd")
    for chosen in FILTERS if mode == "RGB" else FILTERS[:4]:
        for coder, (encode, decode, library) in coders.items():
            if not chosen or (library and coder != "npz deflate 6"):
                pair = (lambda x, e=encode, c=chosen: e(forward(x, c)), lambda d, i=decode, c=chosen: backward(i(d), c))
                found[f"{chosen} {coder}".strip()] = (*(pair if chosen else (encode, decode)), library)
    decode = partial(opened, shape=shape, mode=mode)
    single = lambda x: x if mode == "RGB" else x[..., 0]  # noqa: E731
    for level in (1, 3, 6):
        save = partial(pillow, kind="PNG", options={"compress_level": level})
        found[f"png {level}"] = (lambda x, save=save: save(single(x)), decode, "Pillow, its zlib")
        found[f"tall png {level}"] = (lambda x, save=save: save(tall(x)), decode, "Pillow, its zlib")
    for kind in ("left", "up", "average", "paeth"):
        for strategy in STRATEGIES:
            save = partial(own_png, kind=kind, strategy=strategy)
            found[f"own png, {kind} {strategy}"] = (save, decode, "zlib")
            if kind == "average":
                encode = lambda x, save=save: save(x.reshape(1, -1, *x.shape[2:]))  # noqa: E731
                found[f"own tall png, {kind} {strategy}"] = (encode, decode, "zlib")
    if features.check("webp"):
        for method in (0, 4):
            save = partial(pillow, kind="WEBP", options={"lossless": True, "quality": 0, "method": method})
            found[f"webp {method}"] = (lambda x, save=save: save(single(x)), decode, "libwebp")
    return found


def timed(function, blocks: list) -> tuple[float, list]:
    begin = time.perf_counter()
    out = [function(block) for block in blocks]
    return time.perf_counter() - begin, out


def measure(images: np.ndarray) -> dict:
    blocks = [images[i : i + BLOCK] for i in range(0, max(1, len(images) - BLOCK + 1), BLOCK)]
    raw, formats = sum(block.nbytes for block in blocks), candidates(blocks[0].shape)
    table = {name: {"encode": [], "decode": [], "bytes_depend_on": formats[name][2]} for name in formats}
    for _ in range(RUNS):
        for name, (encode, decode, _) in formats.items():
            row, (seconds, files) = table[name], timed(encode, blocks)
            row["encode"].append(seconds)
            seconds, decoded = timed(decode, files)
            row["decode"].append(seconds)
            if not all(np.array_equal(x, y) for x, y in zip(blocks, decoded)):
                raise AssertionError(f"{name} changed pixels")
            row["size"] = round(sum(len(f) if isinstance(f, bytes) else sum(map(len, f)) for f in files) / raw, 4)
    for row in table.values():
        for verb in ("encode", "decode"):
            row[f"{verb}_mb_per_s"] = round(raw / 1e6 / statistics.median(row.pop(verb)), 1)
        row["encode_images_per_s"] = round(row["encode_mb_per_s"] * 1e6 / images[0].nbytes)
    return {"blocks": len(blocks), "block_shape": blocks[0].shape, "raw_bytes": raw, "formats": table}


def main() -> None:
    archive = Path(sys.argv[1]) if sys.argv[1:] else ARCHIVE
    sets = {"photo 256": crops(32, 256, False), "photo/2 128": crops(64, 128, True), "digits 8": digits()}
    if archive.exists():
        sets["cifar 32"] = cifar(archive)
    else:
        print(f"skipped CIFAR-10: no {archive}")
    if not find_spec("zstandard"):
        print("skipped zstd: no zstandard (pip install zstandard)")
    if not features.check("webp"):
        print("skipped WebP: this Pillow has none")
    tables = {name: measure(images) for name, images in sets.items()}
    print(f"{'size; encode, decode MB/s':<34}" + "".join(f"{name:>19}" for name in tables) + "  encode 256 px/s")
    for name in tables["photo 256"]["formats"]:
        rows = [table["formats"].get(name) for table in tables.values()]
        cells = [f"{r['size']:7.3f}{r['encode_mb_per_s']:6.0f}{r['decode_mb_per_s']:6.0f}" if r else "" for r in rows]
        print(f"{name:<34}" + "".join(f"{cell:>19}" for cell in cells) + f"{rows[0]['encode_images_per_s']:17.0f}")
    libraries = {"zlib": zlib.ZLIB_RUNTIME_VERSION, "pillow": Image.__version__, "numpy": np.__version__}
    libraries |= {f"pillow_{name}": features.version(name) for name in ("zlib", "zlib_ng", "webp")}
    if find_spec("zstandard"):
        import zstandard

        libraries["zstd"] = ".".join(map(str, zstandard.ZSTD_VERSION))
    result = {"runs": RUNS, "libraries": libraries, "data": tables, **provenance()}
    out = Path(__file__).parent / "results" / "block_formats.json"
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
