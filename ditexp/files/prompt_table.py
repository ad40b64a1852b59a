"""Files of prompts, or of captions of images: text, CSV, TSV, JSON Lines, and the JSON of COCO and MJHQ-30K."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditexp.files.reading import UnfitFile, parse_json, read_text, shown, unfit
from ditexp.values import Prompt

FILE_BYTES = 2**28
MAX_CHARACTERS = 10_000  # of a prompt; the longest contexts are some 500 tokens
MAX_SEED = 2**62
# The names of each column, in any case; the first that a file has counts.
COLUMNS = {
    "text": ("prompt", "prompts", "caption", "text"),
    "id": ("id", "prompt_id", "item_id", "image_id"),
    "file": ("file_name", "filename", "file", "image"),
    "seed": ("seed",),
    "label": ("label",),
}


@dataclass(frozen=True)
class PromptRow:
    """A row of a file. id: None if the file gives none. file: of the image that the text describes. label: a class."""

    text: str
    id: str | None = None
    file: str | None = None
    seed: int | None = None
    label: int | None = None


def read_prompts(path: str, *, name: str) -> list[PromptRow]:
    """The prompts of a file, in its order. name: of the setting, for messages.

    .jsonl has an object a line, .csv and .tsv a line of names first; of their columns those in COLUMNS are read. .json
    is COCO's annotations (the first caption of each image, in the order of the images' ids), objects by their ids, or a
    list of objects. Any other file is text with a prompt a line, whose empty lines are skipped. Rows that repeat an id
    and its text, without seeds, are one: DPG-Bench has a row for each question about a prompt.

    Raises ValueError for a file that is not one of these, or holds no prompt.
    """
    text = read_text(path, "a text file with a prompt a line", most=FILE_BYTES, name=name)
    suffix = Path(path).suffix.lower()
    if suffix not in TABLES:
        return lines_in(text, name)
    rows: list[PromptRow] = []
    known: dict[str, PromptRow] = {}
    for place, fields in TABLES[suffix](text, name):
        row = row_of(fields, name, place)
        before = known.setdefault(row.id, row) if row.id is not None else row
        if before.text != row.text:
            raise unfit(name, f"has two prompts of id {shown(row.id)}, the second at {place}", "give each its own id")
        if before is row or row.seed is not None or row.file != before.file:
            rows.append(row)
    if not rows:
        raise unfit(name, "holds no prompt", "write some")
    return rows


def lines_in(text: str, name: str) -> list[PromptRow]:
    """A line ends at LF or CR LF; all other characters belong to the prompt."""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        check_text(line, name, f"line {number}")
    prompts = [line.removesuffix("\r").strip(" \t") for line in lines if line.strip()]
    if not prompts:
        raise unfit(name, "holds no prompt", "write one a line")
    return [PromptRow(prompt) for prompt in prompts]


def check_text(text: str, name: str, place: str) -> None:
    if len(text) > MAX_CHARACTERS or "\0" in text:
        wrong = f"of {len(text):,} characters" if len(text) > MAX_CHARACTERS else "with a null character"
        kind, _, number = place.partition(" ")
        remedy = f"give a prompt of up to {MAX_CHARACTERS:,} characters a {kind}"
        raise unfit(name, f"has a {kind} {wrong}, number {number}", remedy)


Fields = Iterator[tuple[str, Mapping[str, Any]]]  # where each row is, and its columns by their names


def json_lines(text: str, name: str) -> Fields:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", checked_object(parsed(line, name, f"line {number}"), name, f"line {number}")


def separated(delimiter: str) -> Callable[[str, str], Fields]:
    def rows(text: str, name: str) -> Fields:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            for row in reader:
                texts = {key: value.strip() for key, value in row.items() if isinstance(key, str) and value}
                yield f"line {reader.line_num}", {**dict.fromkeys(reader.fieldnames or ()), **texts}
        except csv.Error as error:
            raise unfit(name, f"cannot be read at line {reader.line_num} ({error})", "save it again") from None

    return rows


def json_rows(text: str, name: str) -> Fields:
    found = parsed(text, name, "")
    if isinstance(found, dict) and isinstance(found.get("annotations"), list):
        yield from coco_rows(found, name)
        return
    if isinstance(found, dict):
        items = ((key, {"id": key, **checked_object(value, name, f"id {key}")}) for key, value in found.items())
    elif isinstance(found, list):
        items = ((str(number), checked_object(value, name, f"row {number}")) for number, value in enumerate(found, 1))
    else:
        raise unfit(name, f"holds {shown(found)}", "give COCO's captions, or a list of objects with a prompt each")
    yield from ((f"row {place}", fields) for place, fields in items)


def coco_rows(found: dict[str, Any], name: str) -> Fields:
    """The first caption of each image, by the annotations' ids."""
    try:
        files = {image["id"]: image["file_name"] for image in found.get("images", [])}
        first: dict[int, dict[str, Any]] = {}
        for each in sorted(found["annotations"], key=lambda each: each["id"]):
            first.setdefault(each["image_id"], each)
        for image, each in sorted(first.items()):
            yield f"row {each['id']}", {"id": image, "file_name": files.get(image), "caption": each["caption"]}
    except (AttributeError, KeyError, TypeError):
        raise unfit(name, "is no file of COCO's captions", "give one such as captions_val2014.json") from None


TABLES: dict[str, Callable[[str, str], Fields]] = {
    ".jsonl": json_lines,
    ".json": json_rows,
    ".csv": separated(","),
    ".tsv": separated("\t"),
}


def parsed(text: str, name: str, place: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        where = f" at {place}" if place else ""
        raise unfit(name, f"is not JSON{where} ({error})", "write it again") from None


def checked_object(value: Any, name: str, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise unfit(name, f"has {shown(value)} at {place}", 'write an object there, as {"prompt": "a seven"}')
    return value


def row_of(fields: Mapping[str, Any], name: str, place: str) -> PromptRow:
    """Raises ValueError unless the fields have a prompt, and whole numbers as seed and label, if any."""
    lower = {str(key).strip().lower(): value for key, value in fields.items()}
    given = {
        column: next((lower[each] for each in names if lower.get(each) not in (None, "")), None)
        for column, names in COLUMNS.items()
    }
    text = given["text"]
    if text is None and not lower.keys() & set(COLUMNS["text"]):
        columns = ", ".join(sorted(lower))
        raise unfit(name, f"has no column prompt, but {shown(columns)}", "name one prompt, caption or text")
    if not isinstance(text, str) or not text.strip():
        raise unfit(name, f"has no prompt at {place}, but {shown(text)}", "write one, or remove it")
    check_text(text, name, place)
    return PromptRow(
        text,
        id=None if given["id"] is None else str(given["id"]).strip(),
        file=None if given["file"] is None else str(given["file"]).strip(),
        seed=whole_number(given["seed"], "seed", name, place),
        label=whole_number(given["label"], "label", name, place),
    )


def whole_number(value: Any, column: str, name: str, place: str) -> int | None:
    if value is None:
        return None
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20 else value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MAX_SEED:
        raise wrong_number(value, column, name, place)
    return number


def wrong_number(value: Any, column: str, name: str, place: str) -> UnfitFile:
    remedy = "give a whole number from 0 on, or rename the column"
    return unfit(name, f"has {shown(value)} as {column} at {place}", remedy)


def as_prompts(rows: Sequence[PromptRow]) -> list[Prompt]:
    """Ids are the rows' own, or the names of their images' files, or numbers from 0 on; so are labels without one."""
    return [
        Prompt(row.id or row.file or str(number), row.text, number if row.label is None else row.label, row.seed)
        for number, row in enumerate(rows)
    ]
