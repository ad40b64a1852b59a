"""Opens files safely: only regular ones, up to a size. An error is one line that names the file and what is wrong."""

from __future__ import annotations

import errno
import json
import os
import reprlib
import stat
import struct
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from ditexp.terminal.notices import in_line

LINE = 200  # characters of a message, unless the path alone is longer
JSON_BYTES = 2**26
YAML_BYTES, YAML_VALUES, YAML_DEPTH = 2**18, 10_000, 20
DIGITS = 30  # of a whole number in JSON
DIRECTORY_BYTES = 2**23  # of a zip file's list of members: enough for 80,000
NO_FILES = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


class UnfitFile(ValueError):
    """A file that cannot be read or used; the message is one line that names it. wrong: what is wrong with the file."""

    def __init__(self, line: str, wrong: str = "") -> None:
        super().__init__(line)
        self.wrong = wrong


def unfit(path: Path | str, wrong: str, remedy: str) -> UnfitFile:
    """The error to raise for a file: `<path> <wrong>: <remedy>`, where a long `wrong` loses its middle."""
    name, remedy = in_line(str(path), LINE), in_line(remedy)
    room = max(LINE - len(name) - len(remedy) - 3, 40)
    wrong = in_line(" ".join(wrong.split()), room)
    return UnfitFile(f"{name} {wrong}: {remedy}", wrong)


class NoRegularFile(ValueError):
    """A folder, a pipe, a socket or a device: the message says which. Its reader might wait without end."""


def open_regular(path: Path | str) -> IO[bytes]:
    """Open a regular file to read. Raises OSError, or NoRegularFile for anything else, which is not opened."""
    check_regular(os.stat(path))
    # If a pipe has taken the file's place meanwhile, O_NONBLOCK keeps us from waiting for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        check_regular(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NoRegularFile(NO_FILES.get(stat.S_IFMT(found.st_mode), "a device"))


def opened(
    path: Path | str, kind: str, *, most: int | None = None, name: str | None = None, remedy: str | None = None
) -> IO[bytes]:
    """Open a regular file to read, or raise UnfitFile, a ValueError.

    kind: what the file should be, with its article. most: the most bytes that it may have. name: the file's name in
    messages. remedy: what to do if there is no such file.
    """
    name, remedy = name or str(path), remedy or f"give the path of {kind}"
    try:
        file = open_regular(path)
    except FileNotFoundError:
        wrong = "is a link to a file that is not there" if os.path.islink(path) else "does not exist"
        raise unfit(name, wrong, remedy) from None
    except OSError as error:
        raise unfit(name, in_words(error), remedy) from None
    except NoRegularFile as error:
        raise unfit(name, f"is {error}", remedy) from None
    except ValueError:  # a null byte
        raise unfit(name, "is no path", remedy) from None
    size = os.fstat(file.fileno()).st_size
    if most is not None and size > most:
        file.close()
        raise too_large(name, kind, size, most)
    return file


def in_words(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a link that leads in a circle"
    return f"cannot be read ({error.strerror or error})"


def too_large(name: Path | str, kind: str, size: int, most: int) -> UnfitFile:
    return unfit(name, f"has {size:,} bytes, and {kind} at most {most:,}", "give a smaller one")


def read(path: Path | str, kind: str, *, most: int, name: str | None = None) -> bytes:
    """The content of a regular file. Raises ValueError."""
    try:
        with opened(path, kind, most=most, name=name) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise unfit(name or path, in_words(error), "give another") from None
    if len(data) > most:  # it grows, or its file system gives no sizes
        raise too_large(name or path, kind, len(data), most)
    return data


def read_text(path: Path | str, kind: str, *, most: int, name: str | None = None) -> str:
    """The text of a file in UTF-8, with or without a byte order mark. Raises ValueError."""
    data = read(path, kind, most=most, name=name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {data[error.start]:#04x}"
        raise unfit(name or path, f"is not UTF-8 ({byte})", "save it as UTF-8") from None


def read_json(path: Path | str, kind: str, *, remedy: str, most: int = JSON_BYTES) -> Any:
    """The value in a JSON file. Raises ValueError."""
    text = read_text(path, kind, most=most)
    try:
        return parse_json(text)
    except ValueError as error:
        raise unfit(path, f"is not {kind}: {error}" if text.strip() else "is empty", remedy) from None


def parse_json(text: str) -> Any:
    """Raises ValueError if the text is not JSON, nested too deeply, or has a number of too many digits."""
    try:
        return json.loads(text, parse_int=whole_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def whole_number(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a whole number in it has {len(digits):,} digits")
    return int(digits)


def read_facts(path: Path | str, kind: str, *, remedy: str, needed: Mapping[str, type | tuple[type, ...]]) -> dict:
    """The object in a JSON file. needed: the types of the keys that it must have. Raises ValueError."""
    facts = read_json(path, kind, remedy=remedy)
    if wrong := lacking(facts, needed):
        raise unfit(path, f"is not {kind}: {wrong}", remedy)
    return facts


def lacking(facts: Any, needed: Mapping[str, type | tuple[type, ...]]) -> str | None:
    """Why a value is no object with keys of these types; None if it is."""
    if not isinstance(facts, dict):
        return f"it holds {shown(facts)}"
    for key, kind in needed.items():
        if key not in facts:
            return f"it has no {key}"
        if not isinstance(facts[key], kind) or isinstance(facts[key], bool):
            return f"its {key} is {shown(facts[key])}"
    return None


def shown(value: object) -> str:
    """A value in at most 40 characters. Lists in lists may stand for 2^100 values, so only the first are looked at."""
    short = reprlib.Repr()
    short.maxlevel = short.maxdict = short.maxlist = short.maxtuple = 2
    return in_line(short.repr(value), 40)


def read_yaml(path: Path | str, kind: str, *, remedy: str) -> Any:
    """The OmegaConf node in a YAML file.

    Raises ValueError, also for a file that is nested too deeply or too large once its aliases are filled in.
    """
    from omegaconf import OmegaConf

    text = read_text(path, kind, most=YAML_BYTES)
    try:
        count_values(yaml.compose(text, Loader=yaml.SafeLoader), {}, ())
        return OmegaConf.create(text) if text.strip() else OmegaConf.create()
    except RecursionError:
        wrong = "it is nested too deeply"
    except Exception as error:  # from YAML, or from OmegaConf's interpolations
        wrong = str(error)
    raise unfit(path, f"cannot be read: {wrong}", remedy)


def count_values(node: yaml.Node | None, known: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values a node stands for once aliases are filled in. known: counts of other nodes, by their id()."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above or len(above) > YAML_DEPTH:
        raise ValueError("it contains itself, by an alias" if id(node) in above else "it is nested too deeply")
    if id(node) not in known:
        parts = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(count_values(part, known, (*above, id(node))) for part in parts)
        if known[id(node)] > YAML_VALUES:
            raise ValueError(f"it stands for more than {YAML_VALUES:,} values, with its aliases filled in")
    return known[id(node)]


@contextmanager
def opened_zip(path: Path | str, kind: str, *, remedy: str, name: str | None = None) -> Generator[zipfile.ZipFile]:
    """Open a zip file whose list of members fits into memory. Raises ValueError.

    Any other error in the body counts as damage of the file and becomes a ValueError.
    """
    with opened(path, kind, name=name) as file:
        try:
            check_directory(file)
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                yield archive
        except ValueError:
            raise
        except Exception as error:  # zipfile raises a dozen kinds for damaged files
            raise unfit(name or path, f"cannot be read ({error})", remedy) from None


def check_directory(file: IO[bytes]) -> None:
    """Raise BadZipFile if the list of members, whose size is at the end of a zip file, is too large."""
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - 2**16 - 100))
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile("it has no list of members, as a truncated file")
    sizes = [struct.unpack_from("<L", tail, end + 12)[0]]
    if end >= 76 and tail[end - 20 : end - 16] == b"PK\6\7":  # zip64
        sizes = [struct.unpack_from("<Q", tail, end - 76 + 40)[0]]
    if max(sizes) > min(DIRECTORY_BYTES, start + end):
        raise zipfile.BadZipFile(f"its list of members takes {max(sizes):,} bytes")
