"""Which lossless format for blocks of images? python -m benchmarks.block_formats [cifar10-jpeg.tar.xz]

Size against the raw bytes, and megabytes of raw pixels per second that one thread encodes and decodes, in memory.
All formats take turns on the same blocks, several times; every decoded block is compared with the original.
"differences" are those of ditexp/samples/block_format.py; rle is zlib's strategy. Without the archive
(the default: ../shared/data)
there is no CIFAR-10; without zstandard there is no zstd.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import tarfile
import time
import zlib
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, features
from sklearn.datasets import load_digits, load_sample_images

from ditexp.provenance import provenance
from ditexp.samples.block_format import decode, differences, encode, undo_differences

RUNS, BLOCK = 5, 256
ARCHIVE = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10-jpeg.tar.xz"


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


def npz(x: np.ndarray, save=np.savez) -> bytes:
    save(buffer := io.BytesIO(), x)
    return buffer.getvalue()


def deflate(data, level: int, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    coder = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return coder.compress(data) + coder.flush()


def pillow(images: np.ndarray, kind: str, **options) -> list[bytes]:
    buffers = [io.BytesIO() for _ in images]
    for image, buffer in zip(images, buffers):
        Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).save(buffer, kind, **options)
    return [buffer.getvalue() for buffer in buffers]


def candidates(shape: tuple) -> dict:
    """name: (encode, decode), of a block (b, H, W, C)."""
    planar = (shape[0], shape[3], *shape[1:3])
    coders = {
        "deflate 1": (partial(deflate, level=1), zlib.decompress),
        "deflate 6": (partial(deflate, level=6), zlib.decompress),
        "rle": (partial(deflate, level=1, strategy=zlib.Z_RLE), zlib.decompress),
    }
    if find_spec("zstandard"):
        import zstandard

        for level in (1, 3):
            coders[f"zstd {level}"] = (partial(zstandard.compress, level=level), zstandard.decompress)

    def undo(data: bytes) -> np.ndarray:
        undo_differences(
            np.frombuffer(bytearray(data), np.uint8).reshape(planar), out=(out := np.empty(shape, np.uint8))
        )
        return out

    def pictures(files: list[bytes]) -> np.ndarray:
        return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert(mode)) for file in files]).reshape(shape)

    mode = "L" if shape[3] == 1 else "RGB"
    found = {"npz": (npz, lambda data: np.load(io.BytesIO(data))["arr_0"])}
    found["npz compressed"] = (partial(npz, save=np.savez_compressed), found["npz"][1])
    for name, (pack, unpack) in coders.items():
        as_block = lambda data, unpack=unpack: np.frombuffer(unpack(data), np.uint8).reshape(shape)  # noqa: E731
        found[name] = (lambda x, pack=pack: pack(np.ascontiguousarray(x)), as_block)
    for name, (pack, unpack) in coders.items():
        found[f"differences, {name}"] = (
            lambda x, pack=pack: pack(differences(x)),
            lambda data, unpack=unpack: undo(unpack(data)),
        )
    for level in (1, 6):
        found[f"PNGs, level {level}"] = (partial(pillow, kind="PNG", compress_level=level), pictures)
    if features.check("webp"):
        webp = partial(pillow, kind="WEBP", lossless=True, quality=0, method=0)
        found["WebPs, method 0"] = (webp, pictures)
    found["ditexp/samples/block_format.py"] = (partial(encode, labels=None), lambda data: decode(data, shape)[0])
    return found


def timed(function, blocks: list) -> tuple[float, list]:
    begin = time.perf_counter()
    out = [function(block) for block in blocks]
    return time.perf_counter() - begin, out


def measure(images: np.ndarray) -> dict:
    blocks = [images[i : i + BLOCK] for i in range(0, max(1, len(images) - BLOCK + 1), BLOCK)]
    raw, formats = sum(block.nbytes for block in blocks), candidates(blocks[0].shape)
    table = {name: {"encode": [], "decode": []} for name in formats}
    for _ in range(RUNS):
        for name, (pack, unpack) in formats.items():
            row, (seconds, files) = table[name], timed(pack, blocks)
            row["encode"].append(seconds)
            seconds, decoded = timed(unpack, files)
            row["decode"].append(seconds)
            if not all(np.array_equal(x, y) for x, y in zip(blocks, decoded)):
                raise AssertionError(f"{name} changed pixels")
            row["size"] = round(sum(len(f) if isinstance(f, bytes) else sum(map(len, f)) for f in files) / raw, 4)
    for row in table.values():
        for verb in ("encode", "decode"):
            row[f"{verb}_mb_per_s"] = round(raw / 1e6 / statistics.median(row.pop(verb)), 1)
    return {"blocks": len(blocks), "block_shape": blocks[0].shape, "formats": table}


def main() -> None:
    archive = Path(sys.argv[1]) if sys.argv[1:] else ARCHIVE
    sets = {"photo 256": crops(BLOCK, 256, False), "photo/2 128": crops(BLOCK, 128, True), "digits 8": digits()}
    if archive.exists():
        sets["cifar 32"] = cifar(archive)
    else:
        print(f"skipped CIFAR-10: no {archive}")
    if not find_spec("zstandard"):
        print("skipped zstd: no zstandard (pip install zstandard)")
    tables = {name: measure(images) for name, images in sets.items()}
    print(f"{'size; encode, decode MB/s':<24}" + "".join(f"{name:>20}" for name in tables))
    for name in tables["photo 256"]["formats"]:
        rows = [table["formats"][name] for table in tables.values()]
        cells = [f"{r['size']:7.3f}{r['encode_mb_per_s']:6.0f}{r['decode_mb_per_s']:6.0f}" for r in rows]
        print(f"{name:<24}" + "".join(f"{cell:>20}" for cell in cells))
    libraries = {"zlib": zlib.ZLIB_RUNTIME_VERSION, "pillow": Image.__version__, "numpy": np.__version__}
    libraries |= {f"pillow_{name}": features.version(name) for name in ("zlib_ng", "webp")}
    result = {"runs": RUNS, "libraries": libraries, "data": tables, **provenance()}
    out = Path(__file__).parent / "results" / "block_formats.json"
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
