"""Damaged and hostile files of every kind that ditexp reads: each is refused in one line that names it.

A reader neither waits (a named pipe has no end) nor takes the memory that a header asks for. What is harmless may be
taken; a file of ditexp's own cache or sample sets may count as absent instead, and is made again. Checkpoints of
published models have tests of their own. The table of files and outcomes is printed at the end of the session.
"""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import json
import os
import pickle
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from ditexp.condition.prompts import Prompts
from ditexp.files.image import read_image
from ditexp.files.reading import read_yaml
from ditexp.files.tensors import load_tensors, save_tensors
from ditexp.images.npz import NpzImages
from ditexp.metric.fid import mean_and_covariance
from ditexp.reference.kinds import StatisticsFile
from ditexp.reference.npz import NpzReference
from ditexp.reference.statistics import save_statistics
from ditexp.report.studies.published import load
from ditexp.result import Result, read_result
from ditexp.samples.manifest import Manifest
from ditexp.samples.store import SampleStore
from ditexp.schedule.optimized import Optimized
from ditexp.task.direction import Given
from ditexp.task.mask import ImageMask
from ditexp.terminal.notices import in_line
from ditexp.train.checkpoint import Checkpoint
from ditexp.values import Cost
from tests.helpers.hostile_files import (
    BOMB,
    Code,
    Make,
    a_tensor,
    faults_of,
    limited,
    no_files,
    of,
    one_tensor,
    safetensors,
    saved,
    torch_file,
    zipped,
)
from tests.helpers.images import CountedDigits
from tests.helpers.networks import Projection

rng = np.random.default_rng(0)
MEGABYTES = 200  # that reading one may take, beyond what the process has; most take none
PICTURES = rng.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)

FOLDER = tempfile.TemporaryDirectory()


@dataclass(frozen=True)
class Kind:
    """good: writes a file that is taken. read: as the commands do; None counts as refused where `absent`.

    bad: more ways to write one, by name, beside those of every kind. harmless: names of those that may be taken.
    """

    good: Make
    read: Callable[[Path], object]
    bad: dict[str, Make]
    name: str = "x.bin"
    absent: bool = False
    harmless: Iterable[str] = ()


def npy(
    shape: object, *, descr: object = "|u1", data: bytes = b"", version: int = 1, header: str | None = None
) -> bytes:
    """An npy file of any header."""
    text = header or str({"descr": descr, "fortran_order": False, "shape": shape})
    length = struct.pack("<H" if version == 1 else "<I", len(text) + 1)
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + b"\n" + data


def arrays(**found: object) -> Make:
    return lambda path: path.write_bytes(saved(np.savez, **found))


def damages(good: bytes) -> dict[str, Make]:
    """What is no file of that kind any more, or perhaps, where a bit is flipped."""
    draw = np.random.default_rng(len(good))
    made = {
        "empty": of(b""),
        "one byte": of(good[:1]),
        "half": of(good[: len(good) // 2]),
        "zeros": of(bytes(len(good))),
        "noise": of(draw.bytes(500)),
        "a terabyte of nothing": lambda path: (path.touch(), os.truncate(path, 2**40)),
    }
    for number, place in enumerate(draw.integers(0, len(good), 6)):
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(draw.integers(8))
        made[f"flipped bit {number}"] = of(bytes(flipped))
    return made


# ---- arrays and statistics ------------------------------------------------------------------------------------------

HUGE = (10**6, 10**5, 10**5, 3)
COUNTED = [("arr_0.npy", npy((20, 8, 8, 1), data=PICTURES.tobytes()))]

OF_NPZ = {
    "headers of 10^16 pixels": zipped([("arr_0.npy", npy(HUGE))]),
    "pictures of 50,000 squared": zipped([("arr_0.npy", npy((1, 50_000, 50_000, 3), data=b"x"))]),
    "a negative shape": zipped([("arr_0.npy", npy((-20, 8, 8, 1)))]),
    "a shape beyond 64 bits": zipped([("arr_0.npy", npy((2**70, 8, 8, 1)))]),
    "a shape of booleans": zipped([("arr_0.npy", npy((True, 8, 8, 1), data=bytes(64)))]),
    "no shape": zipped([("arr_0.npy", npy("many"))]),
    "more bytes than the shape": zipped([("arr_0.npy", npy((20, 8, 8, 1), data=bytes(1281)))]),
    "fewer bytes than the shape": zipped([("arr_0.npy", npy((20, 8, 8, 1), data=bytes(1279)))]),
    "a bomb beside its shape": zipped([("arr_0.npy", npy((1, 8, 8, 1), data=BOMB))]),
    "a header of 4 GB": zipped([("arr_0.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff" + BOMB)]),
    "a header of 60,000 brackets": zipped([("arr_0.npy", npy(0, header="(" * 60_000))]),
    "a header of 9,000 brackets": zipped([("arr_0.npy", npy(0, header="(" * 9000))]),
    "a header of code": zipped([("arr_0.npy", npy(0, header="__import__('os').system('touch hacked')"))]),
    "a version to come": zipped([("arr_0.npy", npy((1,), version=9))]),
    "an unknown type": zipped([("arr_0.npy", npy((20, 8, 8, 1), descr="<q9"))]),
    "objects": arrays(arr_0=np.array([{}, []], dtype=object)),
    "a type of 2 GB": zipped([("arr_0.npy", npy((20, 8, 8, 1), descr="|V2147483647"))]),
    "two of one name": zipped([*COUNTED, *COUNTED]),
    "70,000 members": zipped([*COUNTED, *((f"{number}.npy", b"") for number in range(70_000))]),
    "names of terminal codes": zipped([("\x1b[2Jarr\n_0.npy", b"x")]),
    "a name of 60,000 letters": zipped([("a" * 60_000 + ".npy", npy((3,), data=b"abc"))]),
    "a folder as a name": zipped([("../arr_0.npy", npy((3,), data=b"abc"))]),
    "encrypted": zipped(COUNTED, flag_bits=1),
    "a method to come": zipped(COUNTED, compress_type=99),
    "a false checksum": zipped(COUNTED, CRC=1),
    "a false length": zipped(COUNTED, file_size=2**40),
    "a false place": zipped(COUNTED, header_offset=2**20),
    "a list of members of 4 GB": of(b"x" * 99 + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 1, 1, 2**32 - 2, 0, 0)),
    "nothing in it": zipped([]),
    "a pickle": of(pickle.dumps({"arr_0": [1, 2]})),
    "an npy file": of(saved(np.save, PICTURES.ravel())),
    "Fortran order and short": zipped(
        [("arr_0.npy", npy(0, header="{'descr': '|u1', 'fortran_order': True, 'shape': (9, 8, 8, 1)}"))]
    ),
}


def covariance(size: int = 4) -> np.ndarray:
    return np.cov(np.random.default_rng(1).normal(size=(50, size)), rowvar=False)


MU, SIGMA = np.zeros(4), covariance()
OF_MOMENTS = {
    "sigma of 20,000 squared": zipped(
        [
            ("mu.npy", npy((20_000,), descr="<f8", data=bytes(160_000))),
            ("sigma.npy", npy((20_000, 20_000), descr="<f8")),
        ]
    ),
    "sigma of 20,000 squared, a bomb": zipped(
        [
            ("mu.npy", npy((2900,), descr="<f8", data=bytes(23_200))),
            ("sigma.npy", npy((2900, 2900), descr="<f8", data=BOMB[: 8 * 2900**2])),
        ]
    ),
    "5,000 features": arrays(mu=np.zeros(5000, "f4"), sigma=np.zeros((5000, 1), "f4")),
    "no sigma": arrays(mu=MU),
    "sigma of another size": arrays(mu=MU, sigma=covariance(5)),
    "mu of two axes": arrays(mu=MU[None], sigma=SIGMA),
    "nothing": arrays(mu=MU[:0], sigma=SIGMA[:0, :0]),
    "a negative variance": arrays(mu=MU, sigma=-SIGMA),
    "a negative eigenvalue": arrays(mu=MU, sigma=1 - np.eye(4)),
    "not symmetric": arrays(mu=MU, sigma=np.triu(SIGMA)),
    "NaN": arrays(mu=MU * np.nan, sigma=SIGMA),
    "Inf": arrays(mu=MU, sigma=SIGMA * np.inf),
    "10^300": arrays(mu=MU, sigma=SIGMA * 1e300),
    "mu of 10^200": arrays(mu=MU + 1e200, sigma=SIGMA),
    "whole numbers": arrays(mu=MU, sigma=(9 * SIGMA).astype(int)),
    "complex numbers": arrays(mu=MU, sigma=SIGMA + 1j),
    "half precision": arrays(mu=MU, sigma=SIGMA.astype("f2")),
    "texts": arrays(mu=MU, sigma=SIGMA.astype(str)),
    "objects": arrays(mu=MU, sigma=SIGMA.astype(object)),
    "all zeros": arrays(mu=MU, sigma=0 * SIGMA),
    "a false checksum": lambda path: zipped(
        [("sigma.npy", saved(np.save, SIGMA)), ("mu.npy", saved(np.save, MU))], CRC=1
    )(path),
    "numbers without end": zipped([("mu.npy", npy((4,), descr="<f8", data=b"1"))]),
}


class Few(CountedDigits):
    def __len__(self) -> int:
        return 30


def write_statistics(path: Path) -> None:
    pool = torch.randn(30, 16, generator=torch.Generator().manual_seed(0))
    save_statistics(path, Few(), Projection(), pool, {"pool": mean_and_covariance(pool)})


def statistics(tensors: Callable[[dict], dict] = dict, **changes: object) -> Make:
    def write(path: Path) -> None:
        known, metadata = good_statistics()
        made = tensors(known)
        sums = {name: hashlib.sha256(tensor.numpy()).hexdigest() for name, tensor in made.items()}
        facts = {**metadata, "sha256": json.dumps(sums), **changes}
        save_file(made, path, {key: value for key, value in facts.items() if value is not None})

    return write


@functools.cache
def good_statistics() -> tuple[dict, dict]:
    with tempfile.TemporaryDirectory() as folder:
        write_statistics(path := Path(folder, "x.safetensors"))
        return load_tensors(path), StatisticsFile(path).metadata


OF_SAFETENSORS = {
    "a header of 2^63 bytes": of(safetensors({}, length=2**63)),
    "a header of 60 MB": lambda path: path.write_bytes(safetensors(b" " * (60 * 2**20))),
    "a header that is no JSON": of(safetensors(b"{nothing")),
    "a header of 100,000 brackets": of(safetensors(b"[" * 100_000)),
    "a header of a list": of(safetensors([1])),
    "an unknown type": of(safetensors(one_tensor(dtype="F7"), bytes(8))),
    "a negative shape": of(safetensors(one_tensor(shape=[-2]), bytes(8))),
    "a shape beyond 64 bits": of(safetensors(one_tensor(shape=[2**62, 2**62]), bytes(8))),
    "places beyond the end": of(safetensors(one_tensor(at=(0, 2**40)), bytes(8))),
    "places in each other": of(safetensors(one_tensor() | {"y": one_tensor(at=(4, 12))["x"]}, bytes(12))),
    "bytes after the end": of(safetensors(one_tensor(), bytes(99))),
    "no tensors": of(safetensors({})),
}
OF_STATISTICS = OF_SAFETENSORS | {
    "999,999,999 of 30 images": statistics(count="999999999"),
    "29 of 30 images": statistics(count="29"),
    "a count in words": statistics(count="many"),
    "a negative count": statistics(count="-30"),
    "a count of 5,000 digits": statistics(count="9" * 5000),
    "no count": statistics(count=None),
    "no network": statistics(feature=None),
    "a network of nothing": statistics(feature="[]"),
    "images of no size": statistics(image_shape="[8, 8]"),
    "images of -8 pixels": statistics(image_shape="[-8, 8, 1]"),
    "images of 2 channels": statistics(image_shape="[8, 8, 2]"),
    "100,000 brackets as a size": statistics(image_shape="[" * 100_000),
    "false checksums": statistics(sha256=json.dumps(dict.fromkeys(("pool", "pool.mean", "pool.covariance"), "0"))),
    "no checksums": statistics(sha256="{}"),
    "checksums of a list": statistics(sha256="[]"),
    "no pool": statistics(lambda found: {name: found[name] for name in found if name != "pool"}),
    "a pool of one axis": statistics(lambda found: found | {"pool": found["pool"].flatten()[:30].clone()}),
    "a mean of another size": statistics(lambda found: found | {"pool.mean": torch.zeros(5, dtype=torch.float64)}),
    "a covariance of another size": statistics(lambda found: found | {"pool.covariance": torch.eye(5).double()}),
    "a negative covariance": statistics(lambda found: found | {"pool.covariance": -torch.eye(16).double()}),
    "a covariance of NaN": statistics(lambda found: found | {"pool.covariance": found["pool.covariance"] * torch.nan}),
    "a covariance of integers": statistics(lambda found: found | {"pool.covariance": torch.eye(16).long()}),
    "5,000 features": statistics(
        lambda found: found | {"pool": torch.zeros(30, 5000), "pool.mean": torch.zeros(5000).double()}
    ),
}


# ---- pictures -------------------------------------------------------------------------------------------------------


def png(
    width: int = 8, height: int = 8, *, data: bytes | None = None, more: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    """A grey PNG of any header."""
    data = zlib.compress(bytes((width + 1) * height)) if data is None else data
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), *more, (b"IDAT", data), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def picture(kind: str, mode: str = "L", size: tuple[int, int] = (8, 8), **options: object) -> Make:
    return of(saved(lambda buffer: Image.new(mode, size).save(buffer, kind, **options)))


OF_PICTURES = {
    "50,000 squared": of(png(50_000, 50_000, data=b"")),
    "20,000 squared": of(png(20_000, 20_000, data=zlib.compress(bytes(20_001)))),
    "11,000 squared, without pixels": of(png(11_000, 11_000, data=b"")),
    "2^31 pixels in a row": of(png(2**31 - 1, 1, data=b"")),
    "no pixels": of(png(0, 0, data=b"")),
    "no data": of(png(data=b"")),
    "no gzip": of(png(data=b"nothing of the kind")),
    "a text of 64 MB": of(png(more=[(b"zTXt", b"x\0\0" + zlib.compress(BOMB))])),
    "a colour profile of 64 MB": of(png(more=[(b"iCCP", b"x\0\0" + zlib.compress(BOMB))])),
    "BMP of 50,000 squared": of(b"BM" + struct.pack("<IIIIIIHHIIIIII", 0, 0, 54, 40, 50_000, 50_000, 1, 24, *[0] * 6)),
    "TIFF of 50,000 squared": of(
        b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHIIHHIII", 256, 4, 1, 50_000, 257, 4, 1, 50_000, 0)
    ),
    "TIFF whose pages go round": of(b"II*\0\x08\0\0\0\0\0" + struct.pack("<I", 8)),
    "PPM of 50,000 squared": of(b"P5 50000 50000 255\n"),
    "GIF": picture("gif"),
    "16 bits": of(saved(lambda buffer: Image.new("I;16", (8, 8)).save(buffer, "png"))),
    "PostScript": of("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50000 50000\n%%EndComments\n(hacked) run\n"),
    "a page of HTML": of("<!doctype html><title>404</title>"),
    "SVG": of('<svg xmlns="http://www.w3.org/2000/svg" width="50000" height="50000"/>'),
}


# ---- blocks, manifests and set.json ---------------------------------------------------------------------------------

SHAPE = (16, 8, 8, 1)


IDENTITY = {"block_size": 16, "image_shape": [8, 8, 1]}


def a_store(folder: Path) -> SampleStore:
    """A copy of one, in a folder below this one."""
    store = SampleStore(folder, identity=IDENTITY, num_samples=16)
    if not store.folder.exists():
        shutil.copytree(first_store().folder, store.folder)
    return store


@functools.cache
def first_store() -> SampleStore:
    store = SampleStore(Path(FOLDER.name), identity=IDENTITY, num_samples=16)
    store.begin(command="ditexp run", provenance={"time": "2026-01-01"})
    cost = Cost(images=16, velocity_rows=16, network_rows=16, seconds=1, peak_memory_mb=1)
    images = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    store.write(0, images, np.arange(16) % 10, cost=cost, maker={"host": "here", "device": "a GPU"})
    return store


def a_block(path: Path) -> None:
    path.write_bytes(first_store().path(0).read_bytes())


def read_block(path: Path) -> None:
    """As the block of a set whose manifest knows exactly these bytes."""
    store = a_store(path.parent / "store")
    block = store.path(0)
    block.unlink()
    os.rename(path, block) if os.path.lexists(path) else None
    try:
        if block.is_file() and block.stat().st_size < 2**30:
            data, manifest = block.read_bytes(), json.loads(store.block(0).manifest_path.read_text())
            manifest |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            store.block(0).manifest_path.write_text(json.dumps(manifest | {"mtime_ns": block.stat().st_mtime_ns}))
        store.read(0)
        store.labels()
    except ValueError as error:
        raise ValueError(str(error).replace(in_line(str(block)), in_line(str(path)))) from None
    finally:
        os.rename(block, path) if os.path.lexists(block) else None


def gzipped(*parts: bytes) -> Make:
    return of(gzip.compress(b"".join(parts), 1))


def labels(values: object = tuple(range(16)), dtype: str = "<i8") -> bytes:
    return saved(np.save, np.array(values, dtype))


X = npy((16, 1, 8, 8), data=bytes(1024))
OF_BLOCKS = {
    "a bomb": gzipped(labels(), X, BOMB),
    "a bomb as labels": gzipped(npy((2**23,), descr="<i8", data=BOMB), X),
    "images of 10^16 pixels": gzipped(labels(), npy(HUGE)),
    "a bomb as images": gzipped(labels(), npy((1, 1, 8192, 8192), data=BOMB)),
    "other images": gzipped(labels(), npy((16, 3, 8, 8), data=bytes(3072))),
    "15 images": gzipped(labels(), npy((15, 1, 8, 8), data=bytes(960))),
    "images of floats": gzipped(labels(), npy((16, 1, 8, 8), descr="<f4", data=bytes(4096))),
    "images that end early": gzipped(labels(), npy((16, 1, 8, 8), data=bytes(1000))),
    "images that end late": gzipped(labels(), X, b"x"),
    "15 labels": gzipped(labels(range(15)), X),
    "labels of floats": gzipped(labels(dtype="<f8"), X),
    "labels of objects": gzipped(npy((16,), descr="|O", data=pickle.dumps([1])), X),
    "labels of two axes": gzipped(labels([[1] * 4] * 4), X),
    "no images": gzipped(labels()),
    "nothing": gzipped(b""),
    "a header of 4 GB": gzipped(b"\x93NUMPY\2\0\xff\xff\xff\xff", BOMB),
    "a negative shape": gzipped(labels(), npy((-16, 1, 8, 8))),
    "no gzip": of(labels() + X),
    "a false checksum": of(gzip.compress(labels() + X)[:-8] + bytes(8)),
    "noise after the end": of(gzip.compress(labels() + X) + b"noise"),
}

DEEP = "[" * 200_000
OF_JSON = {
    "null": of("null"),
    "a list": of([]),
    "a text": of('"text"'),
    "a number": of("1e999"),
    "no facts": of({}),
    "200,000 brackets": of(DEEP),
    "200,000 braces": of('{"a":' * 200_000),
    "a number of 4,000 digits": of("9" * 4000),
    "a number of 5,000 digits": of("9" * 5000),
    "UTF-16": of("{}".encode("utf-16")),
    "latin-1": of(b'{"caf\xe9": 1}'),
    "terminal codes": of("\x1b[2J\x07"),
    "two of them": of("{} {}"),
    "a comma too many": of('{"a": 1,}'),
    "an end too many": of("{}}"),
    "Python": of("{'a': None}"),
}


def a_manifest(path: Path) -> None:
    path.write_bytes(first_store().block(0).manifest_path.read_bytes())


def read_manifest(path: Path) -> Manifest | None:
    store = a_store(path.parent / "store")
    store.block(0).manifest_path.unlink()
    os.rename(path, store.block(0).manifest_path) if os.path.lexists(path) else None
    try:
        return store.manifest(0)
    finally:
        os.rename(store.block(0).manifest_path, path) if os.path.lexists(store.block(0).manifest_path) else None


def changed(make: Make, **changes: object) -> Make:
    """A JSON file with other values of some keys; None leaves one out."""

    def write(path: Path) -> None:
        make(path)
        facts = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))

    return write


OF_MANIFESTS = OF_JSON | {
    "no hash": changed(a_manifest, sha256=None),
    "a hash of a number": changed(a_manifest, sha256=1),
    "no cost": changed(a_manifest, cost=None),
    "a cost of a list": changed(a_manifest, cost=[]),
    "bytes in words": changed(a_manifest, bytes="many"),
}


def a_set(path: Path) -> None:
    path.write_bytes((first_store().folder / "set.json").read_bytes())


def read_set(path: Path) -> SampleStore:
    try:
        store = SampleStore.find(path.parent)
    except ValueError as error:
        raise ValueError(str(error).replace(in_line(str(path.parent)), in_line(str(path)), 1)) from None
    return store


OF_SETS = OF_JSON | {
    "no identity": changed(a_set, identity=None),
    "an identity of a list": changed(a_set, identity=[1]),
    "no block size": changed(a_set, identity={"image_shape": [8, 8, 1]}),
    "blocks of 10^12 images": changed(a_set, identity={"block_size": 10**12, "image_shape": [8, 8, 1]}),
    "blocks of -1 images": changed(a_set, identity={"block_size": -1, "image_shape": [8, 8, 1]}),
    "blocks of no images": changed(a_set, identity={"block_size": 0, "image_shape": [8, 8, 1]}),
    "images of 50,000 squared": changed(a_set, identity={"block_size": 2, "image_shape": [50_000, 50_000, 1]}),
    "images of texts": changed(a_set, identity={"block_size": 16, "image_shape": ["8", "8", "1"]}),
    "10^18 samples": changed(a_set, num_samples=10**18),
    "no samples": changed(a_set, num_samples=0),
    "samples in words": changed(a_set, num_samples="many"),
    "labels of a list": changed(a_set, labels=[1]),
    "labels of texts": changed(a_set, labels={"classes": ["one"]}),
    "labels of others": changed(a_set, labels={"colours": [1]}),
}


# ---- texts ----------------------------------------------------------------------------------------------------------


def a_result(path: Path) -> None:
    cost = {"steps": 5, "nfe": 5.0, "forwards": 5.0, "seconds_per_image": 0.1, "images_per_second": 10.0}
    facts = {"id": "0", "status": "done", "settings": {"solver": "euler", "steps": 5}, "num_samples": 4}
    path.write_text(json.dumps(facts | {"cost": cost, "metrics": {"fid": 1.0}, "deviations": {}, "protocol": {}}))


def read_cell(path: Path) -> Result | None:
    with suppress(FileNotFoundError):
        return read_result(path)
    return None


OF_RESULTS = OF_JSON | {
    "no id": changed(a_result, id=None),
    "an id of a list": changed(a_result, id=[]),
    "no settings": changed(a_result, settings=None),
    "settings of a list": changed(a_result, settings=[]),
    "no status": changed(a_result, status=None),
    "a status of a number": changed(a_result, status=1),
}

STUDY = """\
title: A study
sources: {paper: {title: A paper, read: its text}}
tolerance: {fid: {percent: 5, because: re-runs differ by it}}
rows:
- {name: Heun, source: paper, where: Table 7, settings: {solver: heun}, numbers: {fid: 2.0}}
"""
LAUGHS = "\n".join(
    f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" if n else "x0: &x0 [ha, ha, ha]" for n in range(12)
)
OF_YAML = {
    "a billion laughs": of(LAUGHS),
    "a list that holds itself": of("&a [*a]"),
    "a map that holds itself": of("&a {b: *a}"),
    "100,000 brackets": of("[" * 100_000),
    "1,000 lists in lists": of("\n".join("  " * n + "-" for n in range(1000))[:200_000]),
    "code": of("!!python/object/apply:os.system [touch hacked]"),
    "an unknown tag": of("title: !secret x"),
    "a key twice": of("title: a\ntitle: b"),
    "a key of a list": of("? [a, b]\n: c"),
    "an alias of nothing": of("a: *b"),
    "an interpolation without an end": of("a: ${b"),
    "a tab": of("a:\n\t- b"),
    "a megabyte": of("# \n" * 400_000),
    "two documents": of("a: 1\n---\nb: 2"),
    "binary": of(bytes(range(256))),
    "a null character": of("a: \0"),
    "an end of text": of("a: 'b"),
    "latin-1": of(b"a: caf\xe9"),
    "a date that is none": of("a: 2026-99-99"),
}
OF_PUBLISHED = OF_YAML | {
    "a text": of("a study"),
    "a list": of("- title: A study"),
    "no rows": of(STUDY.partition("rows")[0]),
    "rows of a text": of(STUDY.partition("rows")[0] + "rows: many"),
    "a row of a number": of(STUDY.partition("- {")[0] + "- 7"),
    "a number in words": of(STUDY.replace("2.0", "much")),
    "NaN": of(STUDY.replace("2.0", ".nan")),
    "an unknown key": of(STUDY + "colour: red"),
    "an unknown key of 50,000 letters": of(STUDY + "a" * 50_000 + ": red"),
    "a title of a list": of(STUDY.replace("A study", "[" + "x, " * 2000 + "x]")),
    "terminal codes": of(STUDY.replace("paper:", '"\\e[2J":')),
}

OF_PROMPTS = {
    "only lines": of("\n\n \n"),
    "UTF-16": of("a seven\n".encode("utf-16")),
    "UTF-16 without a mark": of("a seven\n".encode("utf-16-le")),
    "latin-1": of(b"a caf\xe9"),
    "a line of 9 MB": of("seven " * 1_500_000),
    "a null character": of("a seven\0\n"),
    "a picture": of(png()),
    "only a mark": of(b"\xef\xbb\xbf"),
    "an end within a character": of("caf\u00e9".encode()[:-1]),
}
OF_GRIDS = OF_JSON | {
    "grids of a list": of({"grids": []}),
    "no such steps": of({"grids": {"3": [0, 0.2, 0.5, 1]}}),
    "a grid of texts": of({"grids": {"2": ["0", "0.5", "1"]}}),
    "a grid that falls": of({"grids": {"2": [0, 0.7, 0.5]}}),
    "a grid of too few": of({"grids": {"2": [0, 1]}}),
    "a grid of NaN": of('{"grids": {"2": [0, NaN, 1]}}'),
    "a grid beyond 1": of({"grids": {"2": [0, 0.5, 2]}}),
    "a grid of a number": of({"grids": {"2": 1}}),
    "2,000 grids": of({"grids": {str(n): [] for n in range(3, 2000)}}),
}


# ---- pickles --------------------------------------------------------------------------------------------------------


STORAGE = [("0", bytes(8))]
OF_PICKLES = {
    "code": torch_file(pickle.dumps(Code(os.system, "touch hacked"))),
    "code in a dict": torch_file(pickle.dumps({"a": Code(eval, "open('hacked', 'w')")})),
    "a buffer of 10^11 bytes": torch_file(pickle.dumps(Code(bytearray, 10**11), protocol=2)),
    "a plain pickle": of(pickle.dumps({"step": 1})),
    "a plain pickle of code": of(pickle.dumps(Code(os.system, "touch hacked"))),
    "compressed": torch_file(a_tensor(), STORAGE, method=zipfile.ZIP_DEFLATED),
    "a bomb": torch_file(pickle.dumps(BOMB), method=zipfile.ZIP_DEFLATED),
    "numbers beyond the storage": torch_file(a_tensor(count=10**9, size=(10**9,)), STORAGE),
    "a shape beyond the storage": torch_file(a_tensor(size=(10**9,)), STORAGE),
    "one number 10^12 times": torch_file(a_tensor(size=(10**6, 10**6), stride=(0, 0)), STORAGE),
    "an offset beyond the storage": torch_file(a_tensor(offset=10**9), STORAGE),
    "a negative offset": torch_file(a_tensor(offset=-5), STORAGE),
    "a negative stride": torch_file(a_tensor(stride=(-1,)), STORAGE),
    "no storage": torch_file(a_tensor()),
    "a memo of 2^32 places": torch_file(b"\x80\2]r\xff\xff\xff\xff."),
    "a text of 2^62 bytes": torch_file(b"\x80\4\x8d" + struct.pack("<Q", 2**62)),
    "an empty stack": torch_file(b"\x80\2."),
    "no pickle": zipped([("archive/version", b"3\n")], method=zipfile.ZIP_STORED),
    "two pickles": zipped([("a/data.pkl", b"N."), ("b/data.pkl", b"N.")], method=zipfile.ZIP_STORED),
    "a number": torch_file(pickle.dumps(3)),
    "a list": torch_file(pickle.dumps([1, 2])),
}


def trained(**changes: object) -> Make:
    """changes: of the state that a training leaves."""

    def write(path: Path) -> None:
        state = {**good_state(), **changes}
        torch.save({key: value for key, value in state.items() if value is not None}, path)

    return write


@functools.cache
def good_state() -> dict:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, network, optimizer = a_training(path := Path(folder, "x.pt"))
        network(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        checkpoint.save(step=3, loss=0.5, network=network, average=network, optimizer=optimizer)
        return torch.load(path, weights_only=True)


def a_training(path: Path) -> tuple[Checkpoint, nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    config = {"steps": 9, "clip_gradient": None, "ema_warmup": True, "data": {"_target_": "Digits"}}
    data = {"images": 5, "class_names": [], "labels": [], "identity": {}}
    return Checkpoint(path, config, data), network, torch.optim.AdamW(network.parameters())


def resume(path: Path) -> None:
    checkpoint, network, optimizer = a_training(path)
    checkpoint.resume(network, network, optimizer)


WEIGHTS = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}
OF_CHECKPOINTS = OF_PICKLES | {
    "no step": trained(step=None),
    "a negative step": trained(step=-1),
    "a step in words": trained(step="many"),
    "no weights": trained(model=None),
    "weights of a list": trained(model=[1]),
    "weights of numbers": trained(model={"weight": 1, "bias": 2}),
    "other weights": trained(model=WEIGHTS | {"weight": torch.ones(2, 4)}),
    "a weight too few": trained(model={"weight": torch.ones(2, 3)}),
    "weights of NaN": trained(model=WEIGHTS | {"bias": torch.tensor([1, torch.nan])}),
    "an average of another": trained(ema=WEIGHTS | {"bias": torch.ones(5)}),
    "no optimizer": trained(optimizer=None),
    "an optimizer of nothing": trained(optimizer={}),
    "an optimizer of another": trained(
        optimizer={
            "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(7), "exp_avg_sq": torch.ones(7)}},
            "param_groups": [torch.optim.AdamW(nn.Linear(3, 2).parameters()).state_dict()["param_groups"][0]],
        }
    ),
    "settings that are no JSON": trained(settings="{"),
    "settings of a list": trained(settings="[]"),
    "settings of 200,000 brackets": trained(settings=DEEP),
    "images of nothing": trained(data="null"),
}
OF_NPY = {
    name: of(content)
    for name, content in {
        "10^16 numbers": npy(HUGE),
        "a negative shape": npy((-2,), data=b"12"),
        "objects": saved(np.save, np.array([{}]), allow_pickle=True),
        "texts": saved(np.save, np.array(["a"])),
        "NaN": saved(np.save, np.array([np.nan])),
        "complex numbers": saved(np.save, np.array([1j])),
        "bytes after the end": npy((2,), data=b"123"),
        "no end": npy((2,), data=b"1"),
        "a header of 4 GB": b"\x93NUMPY\2\0\xff\xff\xff\xff",
        "dates": saved(np.save, np.array(["2026-01-01"], "M8[D]")),
    }.items()
}


def save_png(path: Path) -> None:
    Image.fromarray(np.uint8([[0, 255], [255, 0]])).save(path, "png")


FLIPS = [f"flipped bit {number}" for number in range(6)]  # may hit what nothing reads
KINDS = {
    "images, npz": Kind(
        arrays(arr_0=PICTURES), lambda path: list(NpzImages(path).blocks()), OF_NPZ, "x.npz", harmless=FLIPS
    ),
    "statistics, npz": Kind(arrays(mu=MU, sigma=SIGMA), NpzReference, OF_NPZ | OF_MOMENTS, "x.npz", harmless=FLIPS),
    "statistics, safetensors": Kind(
        write_statistics,
        lambda path: StatisticsFile(path).features(outputs={"pool"}, statistics={"pool"}),
        OF_STATISTICS,
        "x.safetensors",
        harmless=FLIPS,
    ),
    "features, safetensors": Kind(
        lambda path: save_tensors(path, {"pool": torch.ones(3, 4)}), load_tensors, OF_SAFETENSORS, harmless=FLIPS
    ),
    "picture": Kind(
        save_png,
        lambda path: read_image(path, channels=1),
        OF_PICTURES,
        "x.png",
        harmless=[*FLIPS, "a text of 64 MB", "a colour profile of 64 MB"],
    ),
    "mask": Kind(
        save_png,
        lambda path: ImageMask(str(path)),
        OF_PICTURES,
        "x.png",
        harmless=[*FLIPS, "a text of 64 MB", "a colour profile of 64 MB", "GIF", "16 bits"],
    ),
    "block of samples": Kind(
        a_block, read_block, OF_BLOCKS, "block", harmless=[*FLIPS, "noise after the end", "a false checksum"]
    ),
    "manifest of a block": Kind(a_manifest, read_manifest, OF_MANIFESTS, "manifest", absent=True, harmless=FLIPS),
    "set.json": Kind(a_set, read_set, OF_SETS, "set.json", harmless=FLIPS),
    "cell.json": Kind(a_result, read_cell, OF_RESULTS, "cell.json", absent=True, harmless=FLIPS),
    "published.yaml": Kind(of(STUDY), load, OF_PUBLISHED, "published.yaml", harmless=FLIPS),
    "sweep.yaml": Kind(
        of("a: 1"),
        lambda path: read_yaml(path, "a sweep.yaml", remedy="write it again"),
        OF_YAML,
        harmless=[*FLIPS, "empty", "one byte", "half", "noise", "a date that is none"],
    ),
    "prompts": Kind(
        of("a seven\na one"),
        lambda path: Prompts(file=str(path)),
        OF_PROMPTS,
        harmless=[*FLIPS, "one byte", "half"],
    ),
    "grids of times": Kind(
        of({"grids": {"2": [0, 0.5, 1]}}),
        lambda path: Optimized(steps=2, found=str(path)).tuned_to({}),
        OF_GRIDS,
        "x.json",
        harmless=FLIPS,
    ),
    "checkpoint.pt": Kind(trained(), resume, OF_CHECKPOINTS, "checkpoint.pt", harmless=FLIPS),
    "direction, npy": Kind(
        of(saved(np.save, np.ones((1, 2, 2)))), lambda path: Given(str(path)), OF_NPY, "x.npy", harmless=FLIPS
    ),
    "direction, safetensors": Kind(
        lambda path: save_file({"x": torch.ones(2)}, path),
        lambda path: Given(str(path)),
        OF_SAFETENSORS,
        "x.safetensors",
        harmless=FLIPS,
    ),
    "direction, pt": Kind(
        lambda path: torch.save(torch.ones(2), path), lambda path: Given(str(path)), OF_PICKLES, "x.pt", harmless=FLIPS
    ),
}


LARGE = {  # files that take long to make, or memory if they are taken at their word
    *("70,000 members", "a header of 4 GB", "a bomb beside its shape", "sigma of 20,000 squared, a bomb", "a bomb"),
    *("a bomb as labels", "a bomb as images", "a header of 60 MB", "a text of 64 MB", "a colour profile of 64 MB"),
    *("100,000 brackets", "20,000 squared"),
}


@pytest.fixture
def place(monkeypatch) -> Iterator[Path]:
    """A folder of a short name, and the current one."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.chdir(folder)
        yield Path(folder)


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_refused_in_one_line(name, place, record_property):
    kind = KINDS[name]
    kind.good(place / kind.name)
    assert kind.read(place / kind.name) is not None or not kind.absent
    good = (place / kind.name).read_bytes()
    check(
        name, no_files() | damages(good) | {key: kind.bad[key] for key in kind.bad if key not in LARGE}, record_property
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not LARGE.isdisjoint(kind.bad)])
def test_what_a_file_asks_for_is_not_what_it_gets(name, place, record_property):
    check(name, {key: KINDS[name].bad[key] for key in KINDS[name].bad if key in LARGE}, record_property)


@pytest.mark.parametrize("name", KINDS)
def test_names_of_files_are_shown_with_escapes(name, place):
    folder = place / "\x1b[2J\nnew \u202e line"
    folder.mkdir()
    path = folder / KINDS[name].name
    path.write_bytes(b"\x80no file of this kind")
    outcome, complaint = read(KINDS[name], path)
    assert outcome in ("refused", "absent") and not complaint


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_may_not_be_read(name, place, monkeypatch):
    """As root, whom these tests may run as, no permission keeps from reading."""
    path = place / KINDS[name].name
    KINDS[name].good(path)

    def denied(file, *arguments, opened=os.open, **options):
        if str(file).endswith(tuple(names)):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return opened(file, *arguments, **options)

    names = (path.name, "000000.npy.gz", "000000.json")
    monkeypatch.setattr(os, "open", denied)
    outcome, complaint = read(KINDS[name], path)
    assert outcome in ("refused", "absent") and not complaint


def check(name: str, files: dict[str, Make], record_property: Callable) -> None:
    kind, outcomes, wrong, most = KINDS[name], Counter(), [], 0
    for number, (damage, make) in enumerate(files.items()):
        folder = Path.cwd() / str(number)
        folder.mkdir()
        make(path := folder / kind.name)
        with limited() as memory:
            outcome, complaint = read(kind, path)
        outcomes[outcome] += 1
        most = max(most, memory.megabytes)
        if complaint or (outcome == "taken" and damage not in kind.harmless) or memory.megabytes > MEGABYTES:
            wrong.append(f"{damage}: {outcome}, {memory.megabytes} MB{complaint}")
        shutil.rmtree(folder)
    assert not wrong, "\n".join(wrong)
    assert not Path("hacked").exists()
    record_property("damaged", (name, len(files), dict(outcomes), most))


def read(kind: Kind, path: Path) -> tuple[str, str]:
    """What comes of reading a file, and what is wrong with that."""
    try:
        found = kind.read(path)
    except ValueError as error:
        text, faults = str(error), faults_of(error, path)
        return "refused", f", but {', '.join(faults)}: {text[:300]!r}" if faults else ""
    except Exception as error:
        return "raised", f", {type(error).__name__}: {str(error)[:200]}"
    return ("absent" if kind.absent and found is None else "taken"), ""
