"""Files that are no checkpoints, or damaged ones of each format."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tests.checkpoint.cases import (
    HEAD,
    Case,
    Cases,
    a_file,
    accepted,
    as_torch,
    refused,
    safetensors_bytes,
    torch_bytes,
    weights,
)
from tests.helpers.hostile_files import (
    BOMB,
    Make,
    a_tensor,
    no_files,
    of,
    one_tensor,
    safetensors,
    saved,
    zipped,
)


def a_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO(b""))


def state() -> dict:
    return {"model": weights()}


def no_checkpoints() -> Cases:
    html = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>404</body></html>"
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 675129633\n"
    made = {
        "empty": refused(of(b""), "is empty"),
        "an HTML page": refused(of(html), "HTML page", "download"),
        "an HTML page in capitals": refused(of("\n  " + html.upper()), "HTML page"),
        "a pointer of git LFS": refused(of(pointer), "git LFS", "git lfs pull"),
        "JSON": refused(of({"error": "Repository not found"})),
        "a text": refused(of("no checkpoint")),
        "zeros": refused(of(bytes(5000))),
        "a terabyte of nothing": refused(lambda path: (path.touch(), os.truncate(path, 2**40))),
        "an npz file": refused(of(saved(np.savez, a=np.ones(3))), "data.pkl"),
        "an npy file": refused(of(saved(np.save, np.ones(3)))),
        "a tar file": refused(a_tar),
        "gzip": refused(of(b"\x1f\x8b\x08" + bytes(99))),
        "HDF5": refused(of(b"\x89HDF\r\n\x1a\n" + bytes(99))),
        "a TorchScript program": refused(
            zipped([("a/data.pkl", b"N."), ("a/constants.pkl", b"N.")], method=zipfile.ZIP_STORED), "TorchScript"
        ),
    }
    made |= {name: refused(make) for name, make in no_files().items()}
    for protocol in range(6):
        content = pickle.dumps({"model": [1.0]}, protocol=protocol)
        made[f"a plain pickle of protocol {protocol}"] = refused(of(content))
    return made


def damaged() -> Cases:
    """Each format, cut at many places, and with bytes in its head that are not what they were."""
    made: Cases = {}
    for name, content in {
        "zip": lambda: torch_bytes(state()),
        "old": lambda: torch_bytes(state(), old=True),
        "safetensors": safetensors_bytes,
    }.items():
        for place in (1, 4, 9, 20, 100, 500, 0.1, 0.3, 0.5, 0.7, 0.9, -1000, -9, -1):
            made[f"{name}, cut at {place}"] = refused(cut(content, place))
        for place in (0, 2, 30):
            made[f"{name}, byte {place} inverted"] = refused(inverted(content, place))
    return made


def cut(content: Callable[[], bytes], place: float) -> Make:
    def write(path: Path) -> None:
        full = content()
        path.write_bytes(full[: int(place * len(full)) if isinstance(place, float) else int(place)])

    return write


def inverted(content: Callable[[], bytes], place: int) -> Make:
    def write(path: Path) -> None:
        full = bytearray(content())
        full[place] ^= 0xFF
        path.write_bytes(full)

    return write


def safetensors_headers() -> Cases:
    good = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    headers: dict[str, bytes] = {
        "of 2^63 bytes": safetensors({}, length=2**63),
        "of a terabyte": safetensors(good, bytes(8), length=2**40),
        "of 1 byte": safetensors(good, bytes(8), length=1),
        "of no bytes": safetensors(good, bytes(8), length=0),
        "that is no JSON": safetensors(b"{nothing"),
        "of bytes beyond UTF-8": safetensors(b'{"\xff\xfe": 1}'),
        "of 100,000 brackets": safetensors(b'{"a":' + b"[" * 100_000),
        "of a list": safetensors([1]),
        "of a number": safetensors(b"{} 7"),
        "with texts as tensors": safetensors({"x": "y"}),
        "with an unknown type": safetensors(one_tensor(dtype="F7"), bytes(8)),
        "with a number as a type": safetensors(one_tensor(dtype=3), bytes(8)),  # ty: ignore[invalid-argument-type]
        "with a negative shape": safetensors(one_tensor(shape=[-2]), bytes(8)),
        "with a shape of texts": safetensors(one_tensor(shape=["2"]), bytes(8)),
        "with a shape of 2^124": safetensors(one_tensor(shape=[2**62, 2**62]), bytes(8)),
        "with a shape of terabytes": safetensors(one_tensor(shape=[2**40], at=(0, 2**42)), bytes(8)),
        "with places beyond the end": safetensors(one_tensor(at=(0, 2**40)), bytes(8)),
        "with negative places": safetensors(one_tensor(at=(-8, 0)), bytes(8)),
        "with places in reverse": safetensors(one_tensor(at=(8, 0)), bytes(8)),
        "with places in each other": safetensors(one_tensor() | {"y": one_tensor(at=(4, 12))["x"]}, bytes(12)),
        "with a gap": safetensors(one_tensor() | {"y": one_tensor(at=(12, 20))["x"]}, bytes(20)),
        "with one place": safetensors(one_tensor(at=[0]), bytes(8)),
        "without an end": safetensors(one_tensor(), bytes(7)),
        "and bytes after the end": safetensors(one_tensor(), bytes(99)),
        "with metadata of numbers": safetensors(good | {"__metadata__": {"a": 1}}, bytes(8)),
        "of no tensors": safetensors({}),
        "with numbers of 4 bits": safetensors(one_tensor(dtype="F4", shape=[16]), bytes(8)),
    }
    return {f"a header {name}": refused(of(content)) for name, content in headers.items()}


def rezipped(change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]], **changes: object) -> Make:
    """A file of torch.save with other members. changes: attributes of the first one's entry in the list at the end."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(io.BytesIO(torch_bytes(state()))) as archive:
            members = [(one.filename, archive.read(one)) for one in archive.infolist()]
        members.sort(key=lambda member: not member[0].endswith("data.pkl"))
        zipped(change(members), method=zipfile.ZIP_STORED, **changes)(path)

    return write


def zip_archives() -> Cases:
    def compressed(path: Path) -> None:
        members = [("archive/data.pkl", a_tensor(count=len(BOMB) // 4)), ("archive/data/0", BOMB)]
        zipped(members, method=zipfile.ZIP_DEFLATED)(path)

    def in_one_place(path: Path) -> None:
        """1,000 tensors of 4 MB that share their numbers would be 4 GB in float32."""
        numbers = torch.zeros(2**20, dtype=torch.float16)
        torch.save({f"blocks.{n}.x": numbers for n in range(1000)} | {HEAD: numbers}, path)

    end = b"x" * 99 + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 1, 1, 2**32 - 2, 0, 0)
    keep: Callable[[list], list] = list
    return {
        "a bomb": refused(compressed, "compressed"),
        "a compressed pickle": refused(zipped([("a/data.pkl", BOMB)]), "compressed"),
        "numbers that share one place": refused(in_one_place, "more than the file has"),
        "a list of members of 4 GB": refused(of(b"PK" + end)),
        "no members": refused(zipped([])),
        "no data.pkl": refused(rezipped(lambda members: members[1:]), "data.pkl"),
        "two data.pkl": refused(rezipped(lambda members: [*members, ("b/data.pkl", b"N.")]), "data.pkl"),
        "a false checksum": refused(rezipped(keep, CRC=1)),
        "a data.pkl of a terabyte": refused(rezipped(keep, file_size=2**40)),
        "a data.pkl that is elsewhere": refused(rezipped(keep, header_offset=2**20)),
        "encrypted": refused(rezipped(keep, flag_bits=1)),
        "a method to come": refused(rezipped(keep, compress_type=99)),
        "big-endian numbers": refused(
            rezipped(lambda members: [(k, b"big" if k.endswith("byteorder") else v) for k, v in members]), "big-endian"
        ),
        "no numbers": refused(rezipped(lambda members: [one for one in members if "/data/" not in one[0]]), "lacks"),
        "too few numbers": refused(rezipped(lambda members: [(k, v[:-4] if "/data/" in k else v) for k, v in members])),
        "too many numbers": refused(rezipped(lambda members: [(k, v + v if "/data/" in k else v) for k, v in members])),
        "20,000 members": refused(zipped([(f"a/{n}", b"") for n in range(20_000)], method=zipfile.ZIP_STORED)),
    }


def old_streams() -> Cases:
    def changed(change: Callable[[bytes], bytes]) -> Make:
        return lambda path: path.write_bytes(change(torch_bytes(state(), old=True)))

    def counts(number: int) -> Callable[[bytes], bytes]:
        """The number of elements before the first storage, which follows the list of keys."""

        def change(content: bytes) -> bytes:
            place = content.rindex(b"e.") + 2 if content.count(b"e.") == 1 else content.index(b"e.", 4000) + 2
            return content[:place] + struct.pack("<q", number) + content[place + 8 :]

        return change

    def keys(replacement: bytes) -> Make:
        head = b"".join(
            pickle.dumps(one, protocol=2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        )
        return of(head + a_tensor() + replacement + struct.pack("<q", 2) + bytes(8))

    list_of = lambda value: pickle.dumps(value, protocol=2)  # noqa: E731
    return {
        "a terabyte of numbers": refused(changed(counts(2**38))),
        "less than no numbers": refused(changed(counts(-1))),
        "no list of storages": refused(keys(b"")),
        "a number as a list of storages": refused(keys(list_of(5)), "no list of its storages"),
        "another storage": refused(keys(list_of(["7"])), "unknown type"),
        "numbers in the list of storages": refused(keys(list_of([0]))),
        "a tensor alone": refused(keys(list_of(["0"])), "no state dict"),
        "another magic number": refused(
            changed(lambda content: content.replace(b"\xf9 j\xa8P\x19", b"\xf9 j\xa8P\x18"))
        ),
        "another version": refused(changed(lambda content: content.replace(b"M\xe9\x03", b"M\xea\x03", 1)), "version"),
        "a big-endian machine": refused(
            changed(
                lambda content: content.replace(b"little_endian\x88", b"little_endian\x89").replace(
                    b"little_endianq\x02\x88", b"little_endianq\x02\x89"
                )
            ),
            "big-endian",
        ),
        "whole": accepted(as_torch(state, old=True)),
        "whole, bare": accepted(as_torch(weights, old=True)),
        "whole, of protocol 4": accepted(as_torch(state, old=True, protocol=4)),
        "whole, and bytes after the end": accepted(changed(lambda content: content + bytes(9))),
    }


def shards() -> Cases:
    from safetensors.torch import save_file

    keys = list(weights())
    half = len(keys) // 2
    parts = {"a.safetensors": keys[:half], "b.safetensors": keys[half:]}
    good = {key: file for file, part in parts.items() for key in part}

    def folder(index: object, *, write: dict[str, list[str]] = parts, name: str = "m.safetensors.index.json") -> Make:
        def make(path: Path) -> None:
            path.mkdir()
            for file, part in write.items():
                save_file({key: weights()[key] for key in part}, path / file)
            of(index)(path / name)

        return make

    def with_pipe(path: Path) -> None:
        folder({"weight_map": good}, write={"a.safetensors": keys[:half]})(path)
        os.mkfifo(path / "b.safetensors")

    def two(path: Path) -> None:
        folder({"weight_map": good})(path)
        of({})(path / "n.safetensors.index.json")

    return {
        "a folder of two": accepted(folder({"metadata": {"total_size": 1}, "weight_map": good})),
        "one is missing": refused(folder({"weight_map": good}, write={"a.safetensors": keys[:half]})),
        "one is a pipe": refused(with_pipe),
        "one lacks a tensor": refused(folder({"weight_map": good | {"more": "a.safetensors"}}), "lacks more"),
        "one has another tensor": refused(folder({"weight_map": {k: good[k] for k in keys[1:]}}), f"has {keys[0]}"),
        "one above": refused(folder({"weight_map": good | {"x": "../secret.safetensors"}}), "no file beside it"),
        "one elsewhere": refused(folder({"weight_map": good | {"x": "/etc/passwd"}}), "no file beside it"),
        "one of control characters": refused(folder({"weight_map": {"x": "\x1b[2J\n" * 9}}), "no file beside it"),
        "2,000 of them": refused(folder({"weight_map": {str(n): f"{n}.safetensors" for n in range(2000)}}), "2,000"),
        "none": refused(folder({"weight_map": {}})),
        "a list as an index": refused(folder([1])),
        "an index without a map": refused(folder({})),
        "an index of brackets": refused(folder("[" * 100_000)),
        "an index that is no JSON": refused(folder("{")),
        "two indexes": refused(two, "2 files"),
        "no index": refused(folder({}, name="x.json"), "without weights in it"),
    }


KINDS: dict[str, Callable[[], dict[str, Case]]] = {
    "no checkpoints": no_checkpoints,
    "cut or damaged": damaged,
    "safetensors' headers": safetensors_headers,
    "zip archives": zip_archives,
    "the old format": old_streams,
    "shards": shards,
    "whole": lambda: {
        "a file": accepted(a_file),
        "safetensors": accepted(lambda p: p.write_bytes(safetensors_bytes())),
    },
}
