"""Which prompt each image belongs to: from a sample set, or from a file beside images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ditexp.files.prompt_table import PromptRow, as_prompts, read_prompts
from ditexp.files.reading import unfit
from ditexp.images.folder import FolderImages
from ditexp.images.source import ImageSource
from ditexp.samples.store import SampleStore
from ditexp.values import Prompt

TABLES = ("metadata.jsonl", "metadata.csv")  # of a folder, as the Hugging Face hub has them
REMEDY = "give captions=<file> with columns file_name and prompt"


def prompts_of(images: ImageSource, captions: str | None) -> Sequence[Prompt]:
    """The prompts that images have in turn; none if nothing says them.

    captions: a file as of `read_prompts`. Its rows name the files of a folder; other images have its prompts in turn.
    None: the prompts of a sample set, or a folder's metadata.jsonl or metadata.csv, or an image's own x.txt beside
    x.png. Raises ValueError if images lack a prompt.
    """
    if captions is not None:
        rows = read_prompts(captions, name=f"captions={captions}")
        return matched(images, rows) if isinstance(images, FolderImages) else in_turn(images, rows, captions)
    if isinstance(images, SampleStore):
        return images.prompts
    if not isinstance(images, FolderImages):
        return ()
    table = next((path for name in TABLES if (path := images.path / name).is_file()), None)
    return matched(images, read_prompts(str(table), name=str(table))) if table else beside(images)


def in_turn(images: ImageSource, rows: Sequence[PromptRow], captions: str) -> list[Prompt]:
    if len(images) > len(rows) and len(images) % len(rows):
        found = f"has {len(rows)} prompts, which {len(images)} images of {images.name} cannot have equally often"
        raise unfit(f"captions={captions}", found, "give one for each image")
    return as_prompts(rows)


def matched(images: FolderImages, rows: Sequence[PromptRow]) -> list[Prompt]:
    """The prompt of each file, whose row has its name or, as its id, the name's stem."""
    known = {key: row for row in rows for key in keys_of(row)}
    found: list[PromptRow] = []
    for file in images.files:
        inner = file.relative_to(images.path)
        row = next((known[key] for key in (inner.as_posix(), inner.name, inner.stem) if key in known), None)
        if row is None:
            raise unfit(file, f"has no prompt among {len(rows)}", REMEDY)
        found.append(row)
    return as_prompts(found)


def keys_of(row: PromptRow) -> Iterator[str]:
    if row.file is not None:
        yield row.file
        yield Path(row.file).name
    elif row.id is not None:
        yield row.id


def beside(images: FolderImages) -> list[Prompt]:
    """The text beside each image; none if no image has one."""
    texts = {file: text for file in images.files if (text := file.with_suffix(".txt")).is_file()}
    if not texts:
        return []
    if without := next((file for file in images.files if file not in texts), None):
        raise unfit(without, f"has no {without.stem}.txt beside it, as others have", REMEDY)
    return as_prompts([caption(file, text) for file, text in texts.items()])


def caption(file: Path, text: Path) -> PromptRow:
    """The lines of a text file as one prompt."""
    lines = read_prompts(str(text), name=str(text))
    return PromptRow(" ".join(line.text for line in lines), file=file.name)


def digest_of(prompts: Sequence[Prompt]) -> Mapping[str, list]:
    """What identifies prompts in results."""
    return {"prompts": [[prompt.id, prompt.text] for prompt in prompts]}
