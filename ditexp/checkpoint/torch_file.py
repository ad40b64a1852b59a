"""Files of torch.save: zip archives, and the streams of pickles that torch wrote before version 1.6."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from ditexp.checkpoint.mapped import MappedFile
from ditexp.checkpoint.rebuild import Damaged, Storage, dtype_of_storage
from ditexp.checkpoint.unpickle import PICKLE_BYTES, unpickled
from ditexp.files.reading import opened_zip

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the old format
PROTOCOL = 1001  # the second
LOCAL_HEADER = 30  # bytes before a member's name in a zip archive


def read_zip(path: Path, kind: str, *, name: str, remedy: str) -> Any:
    """The value in a file of torch.save since 1.6, with tensors that are mapped from it. Raises ValueError."""
    with opened_zip(path, kind, remedy=remedy, name=name) as archive:
        members = {member.filename: member for member in archive.infolist()}
        found = [one for one in archive.infolist() if one.filename.split("/")[1:] == ["data.pkl"]]
        if len(found) != 1:
            raise Damaged("it is a zip file without the data.pkl of torch.save")
        root = found[0].filename.removesuffix("data.pkl")
        if f"{root}constants.pkl" in members:
            raise Damaged("it is a TorchScript program, which is never run")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise Damaged("it is compressed, which torch.save does not do")
        if found[0].file_size > PICKLE_BYTES:
            raise Damaged(f"its data.pkl has {found[0].file_size:,} bytes")
        if (order := members.get(f"{root}byteorder")) and archive.read(order)[:10] != b"little":
            raise Damaged("it has big-endian numbers")
        storages = ZipStorages(MappedFile(path), f"{root}data/", members)
        return unpickled(io.BytesIO(archive.read(found[0])), storages)


class ZipStorages:
    """The storages of a zip archive, by their persistent ids: ("storage", type, key, device, count)."""

    def __init__(self, file: MappedFile, folder: str, members: dict[str, zipfile.ZipInfo]) -> None:
        self.file, self.folder, self.members = file, folder, members
        self.known: dict[tuple[str, torch.dtype], Storage] = {}

    def __call__(self, pid: object) -> Storage:
        dtype, key, count, _ = parts_of(pid)
        if (key, dtype) not in self.known:
            member = self.members.get(self.folder + key)
            if member is None:
                raise Damaged(f"it lacks the numbers of tensor {key[:20]}")
            if member.file_size != count * dtype.itemsize or member.compress_size != member.file_size:
                raise Damaged(f"it has {member.file_size:,} bytes for {count:,} numbers of {dtype}")
            numbers = self.file.numbers(dtype, self.start(member), count)
            self.known[key, dtype] = Storage(numbers)
        return self.known[key, dtype]

    def start(self, member: zipfile.ZipInfo) -> int:
        """Where the content of a member begins; zipfile keeps only where its header does."""
        header = self.file.content[member.header_offset : member.header_offset + LOCAL_HEADER]
        if len(header) < LOCAL_HEADER or header[:4] != b"PK\3\4":
            raise Damaged("its list of members leads nowhere")
        name, extra = struct.unpack_from("<HH", header, 26)
        return member.header_offset + LOCAL_HEADER + name + extra


def parts_of(pid: object) -> tuple[torch.dtype, str, int, object]:
    """The type of the numbers, the key, the count and the view of a storage's persistent id. Raises Damaged."""
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
        raise Damaged("it refers to what is no storage")
    key, count = pid[2], pid[4]
    if not isinstance(key, str) or type(count) is not int or count < 0:
        raise Damaged("it has a storage without a name or a size")
    return dtype_of_storage(pid[1]), key, count, pid[5] if len(pid) == 6 else None


def is_old_format(start: bytes) -> bool:
    """Whether a file with these first bytes is a stream of pickles: the first one is a number, in any protocol."""
    number = MAGIC.to_bytes(10, "little")
    return start.startswith(b"L%d" % MAGIC) or (start.startswith(b"\x80") and number in start[:32])


def read_stream(path: Path) -> Any:
    """The value in a file of torch.save before 1.6, with tensors that are mapped from it. Raises ValueError.

    The file: pickles of a magic number, a version, facts about the machine, the value and a list of the storages' keys;
    then the storages, each with the number of its elements (8 bytes, little-endian) in front.
    """
    file = MappedFile(path)
    stream = io.BytesIO(file.content[:PICKLE_BYTES])
    magic, version, machine = (unpickled(stream, parts_of) for _ in range(3))
    if (magic, version) != (MAGIC, PROTOCOL) or not isinstance(machine, dict):
        raise Damaged("it is of an unknown version of torch's format from before 1.6")
    if machine.get("little_endian") is False:
        raise Damaged("it has big-endian numbers")
    kinds: dict[str, tuple[torch.dtype, int]] = {}

    def noted(pid: object) -> Storage:
        dtype, key, count, _ = parts_of(pid)
        kinds[key] = dtype, count
        return Storage(None)

    start = stream.tell()
    unpickled(stream, noted)  # only to find what follows, without which there are no tensors
    keys = unpickled(stream, parts_of)
    storages = located(file, stream.tell(), keys, kinds)

    def stored(pid: object) -> Storage:
        _, key, _, view = parts_of(pid)
        if key not in storages:
            raise Damaged(f"it lacks the numbers of tensor {key[:20]}")
        return part_of(storages[key], view)

    stream.seek(start)
    return unpickled(stream, stored)


def located(
    file: MappedFile, place: int, keys: object, kinds: dict[str, tuple[torch.dtype, int]]
) -> dict[str, Storage]:
    """The storages that follow one another from a place on."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Damaged("it has no list of its storages")
    found: dict[str, Storage] = {}
    for key in keys:
        if key not in kinds:
            raise Damaged(f"it has numbers of an unknown type for tensor {key[:20]}")
        dtype, claimed = kinds[key]
        count = int.from_bytes(file.content[place : place + 8], "little", signed=True)
        if count != claimed or place + 8 > len(file):
            raise Damaged(f"it has {count:,} numbers for tensor {key[:20]} where it claims {claimed:,}")
        found[key] = Storage(file.numbers(dtype, place + 8, count))
        place += 8 + count * dtype.itemsize
    return found


def part_of(storage: Storage, view: object) -> Storage:
    """The part of a storage that files of torch before 0.4 name as (key, offset, count); None: all of it."""
    if view is None:
        return storage
    if not isinstance(view, tuple) or len(view) != 3 or any(type(one) is not int or one < 0 for one in view[1:]):
        raise Damaged("it has a part of a storage without a place")
    assert storage.numbers is not None
    return Storage(storage.numbers[view[1] : view[1] + view[2]])
