"""How files are opened: regular ones alone, up to a size; one line names the file and says what is wrong with it."""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from ditexp.terminal.notices import in_line

LINE = 200  # characters of a message, unless a path alone takes as many
JSON_BYTES = 2**26
YAML_BYTES, YAML_VALUES, YAML_DEPTH = 2**18, 10_000, 20
DIGITS = 30  # of a whole number in JSON
DIRECTORY_BYTES = 2**23  # of a zip file's list of members: some 80,000 of them
NO_FILES = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


class UnfitFile(ValueError):
    """A file cannot be read, or is not what it is to be; one line that names it. wrong: what it says of the file."""

    def __init__(self, line: str, wrong: str = "") -> None:
        super().__init__(line)
        self.wrong = wrong


def unfit(path: Path | str, wrong: str, remedy: str) -> UnfitFile:
    """What to raise for a file: `<path> <wrong>: <remedy>`, where a long `wrong` loses its middle."""
    path, remedy = in_line(str(path), LINE), in_line(remedy)
    room = max(LINE - len(path) - len(remedy) - 3, 40)
    wrong = in_line(" ".join(wrong.split()), room)
    return UnfitFile(f"{path} {wrong}: {remedy}", wrong)


def opened(
    path: Path | str, kind: str, *, most: int | None = None, name: str | None = None, remedy: str | None = None
) -> IO[bytes]:
    """A regular file to read from; of anything else, nothing is opened, since its reader might wait for ever.

    kind: what it is to be, with its article. most: bytes that it may have. name: of the file in messages. remedy: what
    to do where there is no such file. Raises ValueError.
    """
    name, remedy = name or str(path), remedy or f"give the path of {kind}"
    try:
        check_kind(os.stat(path), kind, most=most, name=name, remedy=remedy)
        # Where a pipe has taken the file's place by now, opening it doesn't wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            check_kind(os.fstat(descriptor), kind, most=most, name=name, remedy=remedy)
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise
    except FileNotFoundError:
        wrong = "is a link to a file that is not there" if os.path.islink(path) else "does not exist"
        raise unfit(name, wrong, remedy) from None
    except OSError as error:
        raise unfit(name, in_words(error), remedy) from None
    except UnfitFile:
        raise
    except ValueError:  # a null byte
        raise unfit(name, "is no path", remedy) from None


def in_words(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a link that leads in a circle"
    return f"cannot be read ({error.strerror or error})"


def check_kind(found: os.stat_result, kind: str, *, most: int | None, name: str, remedy: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise unfit(name, f"is {NO_FILES.get(stat.S_IFMT(found.st_mode), 'a device')}", remedy)
    if most is not None and found.st_size > most:
        raise too_large(name, kind, found.st_size, most)


def too_large(name: Path | str, kind: str, size: int, most: int) -> UnfitFile:
    return unfit(name, f"has {size:,} bytes, and {kind} at most {most:,}", "give a smaller one")


def read(path: Path | str, kind: str, *, most: int, name: str | None = None) -> bytes:
    """All of a regular file. Raises ValueError."""
    try:
        with opened(path, kind, most=most, name=name) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise unfit(name or path, in_words(error), "give another") from None
    if len(data) > most:  # a file that grows, or one of a system that tells no sizes
        raise too_large(name or path, kind, len(data), most)
    return data


def read_text(path: Path | str, kind: str, *, most: int, name: str | None = None) -> str:
    """Of a file in UTF-8, with or without a byte order mark. Raises ValueError."""
    data = read(path, kind, most=most, name=name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {data[error.start]:#04x}"
        raise unfit(name or path, f"is not UTF-8 ({byte})", "save it as UTF-8") from None


def read_json(path: Path | str, kind: str, *, remedy: str, most: int = JSON_BYTES) -> Any:
    """What a JSON file holds. Raises ValueError."""
    text = read_text(path, kind, most=most)
    try:
        return parse_json(text)
    except ValueError as error:
        raise unfit(path, f"is not {kind}: {error}" if text.strip() else "is empty", remedy) from None


def parse_json(text: str) -> Any:
    """Raises ValueError for what is no JSON, too deep, or holds a number of very many digits."""
    try:
        return json.loads(text, parse_int=whole_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def whole_number(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a whole number in it has {len(digits):,} digits")
    return int(digits)


def read_facts(path: Path | str, kind: str, *, remedy: str, needed: Mapping[str, type | tuple[type, ...]]) -> dict:
    """The keys and values of a JSON file, which has those that are needed, by their types. Raises ValueError."""
    facts = read_json(path, kind, remedy=remedy)
    if wrong := lacking(facts, needed):
        raise unfit(path, f"is not {kind}: {wrong}", remedy)
    return facts


def lacking(facts: Any, needed: Mapping[str, type | tuple[type, ...]]) -> str | None:
    """What keeps a value from being keys of these types."""
    if not isinstance(facts, dict):
        return f"it holds {in_line(repr(facts), 40)}"
    for key, kind in needed.items():
        if key not in facts:
            return f"it has no {key}"
        if not isinstance(facts[key], kind) or isinstance(facts[key], bool):
            return f"its {key} is {in_line(repr(facts[key]), 40)}"
    return None


def read_yaml(path: Path | str, kind: str, *, remedy: str) -> Any:
    """The OmegaConf node of a YAML file that is neither deep, nor large once its aliases are filled in.

    Raises ValueError.
    """
    from omegaconf import OmegaConf

    text = read_text(path, kind, most=YAML_BYTES)
    try:
        count_values(yaml.compose(text, Loader=yaml.SafeLoader), {}, ())
        return OmegaConf.create(text) if text.strip() else OmegaConf.create()
    except RecursionError:
        wrong = "it is nested too deeply"
    except Exception as error:  # of YAML, or of OmegaConf's interpolations
        wrong = str(error)
    raise unfit(path, f"cannot be read: {wrong}", remedy)


def count_values(node: yaml.Node | None, known: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values a node stands for, with aliases filled in. known: of nodes that were counted already."""
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
def opened_zip(path: Path | str, kind: str, *, remedy: str, name: str | None = None) -> Iterator[zipfile.ZipFile]:
    """A zip file whose list of members is not too long for memory. Raises ValueError, also for what its reader raises.

    An error of the body that is no ValueError counts as one of the file.
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
    """Raise BadZipFile if the list of members that the end of a zip file tells of is too large."""
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
