"""Opens a file of weights of any known format."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ditexp.checkpoint import REMEDY
from ditexp.checkpoint.safetensors_file import INDEX, index_in, read_safetensors, read_shards, shards_of
from ditexp.checkpoint.torch_file import is_old_format, read_stream, read_zip
from ditexp.files.content import changed, hashes
from ditexp.files.reading import UnfitFile, opened, unfit
from ditexp.files.stamps import Stamp, stamp

KIND = "a checkpoint"
MAX_NAMED = 150  # characters of a name and a remedy that leave room for what is wrong
START = 512  # bytes that tell formats apart
NO_WEIGHTS = (
    (b"version https://git-lfs", "is a pointer of git LFS, not the file itself", "run git lfs pull"),
    (b"<!doctype html", "is an HTML page, not a checkpoint", "download the file itself"),
    (b"<html", "is an HTML page, not a checkpoint", "download the file itself"),
)


@dataclass(frozen=True)
class Container:
    """What a file of weights holds.

    name: the file in messages, such as "model.checkpoint=my.pt". path: as given. format: of the file, in words.
    state: nested dictionaries and lists with tensors (mapped from the file: they take memory only where they are
    read), numbers, texts, and inert Records in place of all other objects. metadata: of safetensors, else empty.
    sha256: of the file; of shards, of all their sha256. bytes: of all files. files: those that were read.
    """

    name: str
    path: Path
    format: str
    state: Any
    metadata: Mapping[str, str]
    sha256: str
    bytes: int
    files: tuple[Path, ...] = field(repr=False)

    def require_unchanged(self) -> None:
        """Raise ValueError if a file is no longer what was hashed; call it once the tensors have been read."""
        if sha256_of(self.files) != self.sha256:
            raise changed(self.name)


def read_checkpoint(path: Path | str, *, name: str) -> Container:
    """Open a file of weights, a safetensors index, or the folder of one; its content decides the format, not its name.

    name: the file in messages. No code in the file is run, and nothing that it names is imported. Raises ValueError,
    in one line, for a file that is missing, damaged or of another format.
    """
    place = Path(path)
    if place.is_dir():
        place = index_in(place, name=name, remedy=REMEDY)
    if place.name.endswith(INDEX):
        opened(place, KIND, name=name, remedy=REMEDY).close()
        shards = shards_of(place, name=name, remedy=REMEDY)
        before = stamps(files := (place, *shards), name)
        state, metadata = read_shards(shards, KIND, name=name, remedy=REMEDY)
        format = f"safetensors in {len(shards)} files"
    else:
        opened(place, KIND, name=name, remedy=REMEDY).close()
        before = stamps(files := (place,), name)
        state, metadata, format = read_state(place, KIND, name=name, remedy=REMEDY)
    sha256 = sha256_of(files)
    if stamps(files, name) != before:
        raise changed(name)
    return Container(name, Path(path), format, state, metadata, sha256, sum(one.size for one in before), files)


def stamps(files: tuple[Path, ...], name: str) -> list[Stamp]:
    try:
        return [stamp(file) for file in files]
    except OSError as error:
        raise unfit(name, f"has no readable {Path(error.filename).name} ({error.strerror})", REMEDY) from None


def sha256_of(files: tuple[Path, ...]) -> str:
    """The sha256 of a file; of several, that of the names and sha256 of them all."""
    found = hashes(files)
    if len(files) == 1:
        return found[0]
    lines = sorted(f"{one} {file.name}\n" for one, file in zip(found, files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_state(path: Path, kind: str, *, name: str, remedy: str) -> tuple[Any, dict[str, str], str]:
    """The state, the metadata and the format of one file. Raises ValueError. kind: what it should be."""
    with opened(path, kind, name=name, remedy=remedy) as file:
        start = file.read(START)
    for begin, wrong, other in NO_WEIGHTS:
        if start.lstrip().lower().startswith(begin):
            raise unfit(name, wrong, other)
    if not start:
        raise unfit(name, "is empty", remedy)
    try:
        if start.startswith(b"PK"):
            return read_zip(path, kind, name=name, remedy=remedy), {}, "torch"
        if is_old_format(start):
            return read_stream(path), {}, "torch before 1.6"
        if start[8:9] == b"{" or path.suffix == ".safetensors":
            return *read_safetensors(path, kind, name=name, remedy=remedy), "safetensors"
    except UnfitFile:
        raise
    except Exception as error:  # damage shows in nearly any way
        raise unfit(name, f"is damaged ({error})", remedy) from None
    if start.startswith(b"\x80"):
        raise unfit(name, "is a pickle that torch.save did not write", how_to_convert(path, name))
    raise unfit(name, f"is not {kind}: its format is unknown", remedy)


def how_to_convert(path: Path, name: str) -> str:
    """A command that makes a file of torch.save of a pickle; where it is too long, the page that has it."""
    new = f"{path.stem}.pt"
    code = f'import pickle, torch; torch.save(pickle.load(open({json.dumps(str(path))}, "rb")), {json.dumps(new)})'
    remedy = f"if you trust it, python -c {shlex.quote(code)}"
    return (
        remedy if len(name) + len(remedy) < MAX_NAMED else "if you trust it, convert it (docs/checkpoint.md, A pickle)"
    )
