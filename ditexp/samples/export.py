"""Exports sample sets to formats that other tools read, one block at a time: memory doesn't grow with the set."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ditexp.files.atomic import atomic, check_writable, free_space
from ditexp.values import Prompt

Advance = Callable[[int], None]


class Exported(Protocol):
    """What can be exported: a set on disk, or samples in memory.

    kind: "images" or "latents". name: for messages. shape: of a sample, (H, W, C) or (C, H, W). block_bytes: of a
    block's array.
    """

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def block_size(self) -> int: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def num_blocks(self) -> int: ...

    @property
    def block_bytes(self) -> int: ...

    def __len__(self) -> int: ...

    def read(self, block: int) -> tuple[np.ndarray, np.ndarray | None]: ...


def export(store: Exported, out: Path, advance: Advance, prompts: Sequence[Prompt] = ()) -> None:
    """Write an .npz, a .tar of PNGs, or else a folder of PNGs, as the name of `out` says; latents only as an .npz.

    prompts: that the samples have in turn, for a folder or a .tar. advance: called with the number of samples that are
    done. Raises ValueError if `out` is a folder already, or if the disk has no room.
    """
    out = Path(out)
    write = {".npz": to_npz, ".tar": to_tar}.get(out.suffix, to_folder)
    if store.kind != "images" and write is not to_npz:
        raise ValueError(f"{out}: {store.name} holds latents, not images: choose a name that ends in .npz")
    if out.is_dir() or (write is to_folder and out.exists()):
        raise ValueError(f"{out} is there already: remove it, or choose another name")
    check_writable(out)  # also removes what a killed export left, before the room is measured
    size = free_space(out.parent)
    if size < len(store) * store.block_bytes / store.block_size:
        raise ValueError(
            f"{out}: the disk has {size:,} bytes free, too few for {len(store)} {store.kind}: choose another"
        )
    write(store, out, advance, prompts)


def to_npz(store: Exported, out: Path, advance: Advance, prompts: Sequence[Prompt]) -> None:
    """The format of ADM's and most other evaluators: arr_0 (N, H, W, C) uint8 and, if there are labels, arr_1 (N,).

    Of latents, arr_0 is (N, C, H, W) float32.
    """
    every_label = []
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as member:
            kind = "|u1" if store.kind == "images" else "<f4"
            header = {"descr": kind, "fortran_order": False, "shape": (len(store), *store.shape)}
            np.lib.format.write_array_header_1_0(member, header)
            for array, labels in blocks(store):
                member.write(array.data)
                if labels is not None:
                    every_label.append(labels)
                advance(len(array))
        if every_label:
            with archive.open("arr_1.npy", "w") as member:
                np.lib.format.write_array(member, np.concatenate(every_label))


def to_folder(store: Exported, out: Path, advance: Advance, prompts: Sequence[Prompt]) -> None:
    """000000.png, 000001.png, ... and, if there are labels, dataset.json as EDM's tools write it.

    If there are prompts, also metadata.jsonl, as the Hugging Face hub and `ditexp evaluate` read it.
    """
    with atomic(out) as temporary:
        temporary.mkdir()
        every_label = []
        for name, data, label in pngs(store):
            (temporary / f"{name}.png").write_bytes(data)
            every_label.append([f"{name}.png", label])
            advance(1)
        if every_label[0][1] is not None:
            (temporary / "dataset.json").write_text(json.dumps({"labels": every_label}))
        if prompts:
            every_prompt = ((name, prompts[i % len(prompts)]) for i, (name, _) in enumerate(every_label))
            facts = ({"file_name": name, "prompt": prompt.text, "id": prompt.id} for name, prompt in every_prompt)
            (temporary / "metadata.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in facts))


def to_tar(store: Exported, out: Path, advance: Advance, prompts: Sequence[Prompt]) -> None:
    """000000.png, 000000.cls (the label as text), 000000.txt (the prompt), and so on, as webdataset reads them."""
    with atomic(out) as temporary, tarfile.open(temporary, "w") as tar:
        for i, (name, data, label) in enumerate(pngs(store)):
            add(tar, f"{name}.png", data)
            if label is not None:
                add(tar, f"{name}.cls", str(label).encode())
            if prompts:
                add(tar, f"{name}.txt", prompts[i % len(prompts)].text.encode())
            advance(1)


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def pngs(store: Exported) -> Iterator[tuple[str, bytes, int | None]]:
    """The name, the PNG and the label of each image."""
    digits = max(6, len(str(len(store) - 1)))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        index = 0
        for images, labels in blocks(store):
            for i, data in enumerate(threads.map(png, images)):
                yield f"{index:0{digits}d}", data, None if labels is None else int(labels[i])
                index += 1


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def blocks(store: Exported) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """The arrays and labels of each block, together exactly num_samples."""
    for block in range(store.num_blocks):
        count = min(store.block_size, len(store) - block * store.block_size)
        array, labels = store.read(block)
        yield array[:count], None if labels is None else labels[:count]
