"""Files that are hostile, damaged or no files at all, and what a refusal of one must be."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import socket
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ditexp.terminal.notices import in_line

SECONDS = 20  # after which a file is said to hang; all take some milliseconds
FOREIGN = ("allow_pickle", "weights_only", "max_header_size", "Traceback", "DecompressionBomb")
BOMB = bytes(2**26)  # compresses to 65 kB
Make = Callable[[Path], object]


def zipped(members: Iterable[tuple[str, bytes]], *, method: int = zipfile.ZIP_DEFLATED, **changes: object) -> Make:
    """changes: attributes of the first member's entry in the list at the end."""

    def write(path: Path) -> None:
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
            warnings.simplefilter("ignore")  # of two members of one name
            for name, data in members:
                archive.writestr(name, data)
            for name, value in changes.items():
                setattr(archive.infolist()[0], name, value)

    return write


def saved(save: Callable, *values: object, **named: object) -> bytes:
    save(buffer := io.BytesIO(), *values, **named)
    return buffer.getvalue()


def of(content: bytes | str | object) -> Make:
    """Writes bytes, a text, or anything else as JSON."""
    if isinstance(content, bytes):
        return lambda path: path.write_bytes(content)
    text = content if isinstance(content, str) else json.dumps(content)
    return lambda path: path.write_text(text, encoding="utf-8", errors="surrogatepass")


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # its path may be too long for one
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def no_files() -> dict[str, Make]:
    """What is no file at all."""
    return {
        "missing": lambda path: None,
        "a folder": lambda path: path.mkdir(),
        "a named pipe": lambda path: os.mkfifo(path),
        "a socket": a_socket,
        "an endless device": lambda path: path.symlink_to("/dev/zero"),
        "a link to nothing": lambda path: path.symlink_to("nothing"),
        "a link to itself": lambda path: path.symlink_to(path.name),
    }


def safetensors(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one_tensor(*, dtype: str = "F32", shape: object = (2,), at: object = (0, 8)) -> dict:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": at}}


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, *call: object):
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call[0], self.call[1:]


def torch_file(content: bytes, storages: Iterable[tuple[str, bytes]] = (), *, method: int = zipfile.ZIP_STORED) -> Make:
    data = [(f"archive/data/{key}", value) for key, value in storages]
    return zipped([("archive/data.pkl", content), *data, ("archive/version", b"3\n")], method=method)


def a_tensor(*, count: int = 2, size: object = (2,), stride: object = (1,), offset: int = 0) -> bytes:
    """The pickle of a tensor, whatever its storage holds."""
    persistent = pickle.dumps(("storage", "F", "0", "cpu", count), protocol=2)[:-1]
    persistent = persistent.replace(b"X\1\0\0\0F", b"ctorch\nFloatStorage\n", 1)
    rest = pickle.dumps((offset, size, stride, False, None), protocol=0)[:-1]
    # (storage, *rest) by a mark: the storage's tuple, BINPERSID, then the parts of the rest.
    parts = b"".join(pickle.dumps(part, protocol=2)[2:-1] for part in (offset, size, stride, False, None))
    assert rest
    return b"\x80\2ctorch._utils\n_rebuild_tensor_v2\n(" + persistent[2:] + b"Q" + parts + b"tR."


def faults_of(error: ValueError, path: Path) -> list[str]:
    """What is wrong with the refusal of a file: it must be one line of at most 200 characters that names it."""
    text = str(error)
    return [
        *(["several lines or control characters"] if not text.isprintable() else []),
        *([f"{len(text)} characters"] if len(text) > 200 and "python -c" not in text else []),
        *(["does not name the file"] if in_line(str(path)) not in text else []),
        *(f"says {word}" for word in FOREIGN if word in text),
    ]


@dataclass
class Memory:
    megabytes: int = field(default=0)


@contextmanager
def limited() -> Iterator[Memory]:
    """Ends a reader that hangs; gives the peak memory of the body, beyond what was in use before."""

    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    memory, before = Memory(), signal.signal(signal.SIGALRM, stop)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest level so far
    start = in_memory("VmRSS")
    signal.alarm(SECONDS)
    try:
        yield memory
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        memory.megabytes = max(0, in_memory("VmHWM") - start)


def in_memory(key: str) -> int:
    """Megabytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(key))
