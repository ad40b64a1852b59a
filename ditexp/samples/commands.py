"""What `ditexp samples` does: list, verify, export and free sample sets. Each returns the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from ditexp.outputs import Outputs
from ditexp.samples.claims import kept
from ditexp.samples.export import export
from ditexp.samples.folders import Set, SetFolder, list_folders, needed_latents, sets_in
from ditexp.samples.garbage import needless, remove
from ditexp.samples.listing import Listed, details, overview
from ditexp.samples.needs import results_by_images
from ditexp.samples.push import check_name, files_of, push, user_name
from ditexp.samples.set_record import NAME
from ditexp.samples.store import SampleStore, find_set, folder_named
from ditexp.terminal.console import wide_terminal
from ditexp.terminal.notices import in_line
from ditexp.terminal.progress import progress_bar
from ditexp.terminal.units import amount


def list_sets(outputs: Outputs, *, verbose: bool = False) -> int:
    """verbose: all that is known of each set, in place of one line."""
    used, folders = results_by_images(outputs, unreadable=complain_of_result), list_folders(outputs)
    sets = sets_in(folders)
    needed = used.keys() | needed_latents(sets, used)
    listed = [Listed(store, list(store.manifests()), used[store.id], store.id in needed) for store in sets]
    if listed:
        terminal = wide_terminal()
        terminal.print(details(listed) if verbose else overview(listed, width=terminal.width))
    else:
        print(f"no sample sets in {outputs.samples}")
    complain_of_others(folders)
    return 0


def verify_sets(outputs: Outputs, ids: Sequence[str] = ()) -> int:
    """ids: or paths of sets; all sets without any."""
    found, wrong = [], 0
    for folder in [folder_named(given, outputs.samples) for given in ids]:
        try:
            found.append(find_set(folder))
        except ValueError as error:
            if not os.path.lexists(folder / NAME):
                raise
            complain(str(error))
            wrong += 1
    if not ids:
        folders = list_folders(outputs)
        complain_of_others(folders)
        found, wrong = sets_in(folders), sum(folder.has_damaged_record for folder in folders)
        if not found and not wrong:
            print(f"no sample sets in {outputs.samples}")
            return 1
    for store in found:
        with kept(store.folder):
            wrong += not verify(store)
    return 1 if wrong else 0


def verify(store: Set) -> bool:
    """Hash every block, delete the damaged ones, and print what is damaged or missing. Whether the set is whole."""
    name, damaged, absent = title(store), [], []
    with progress_bar(f"verifying {name}", total=store.num_blocks, unit="blocks") as bar:
        for block in range(store.num_blocks):
            if store.manifest(block, verify=True) is None:
                (damaged if store.path(block).exists() else absent).append(block)
            bar.advance(1)
    for block in damaged:
        store.drop(block)
        print(f"{name}: block {block} ({store.path(block).name}) is damaged and was dropped")
    for block in absent:
        print(f"{name}: block {block} ({store.path(block).name}) is missing")
    if not damaged and not absent:
        print(
            f"{name}: "
            + ("its block is whole" if store.num_blocks == 1 else f"all {store.num_blocks} blocks are whole")
        )
    elif store.is_copy:
        print(f"{name}: to make it whole, copy sample set {store.id} again")
    else:
        print(f"{name}: to make it whole: {store.record().command or 'run the command that made it'}")
    return not damaged and not absent


def export_set(outputs: Outputs, id: str, out: Path, *, num_samples: int | None) -> int:
    """id: or the path of a set. num_samples: None for all that are there."""
    folder = folder_named(id, outputs.samples)
    store = find_set(folder).first(num_samples)
    if isinstance(store, SampleStore):
        store.check_pixels()
    with kept(folder), progress_bar(f"exporting {title(store)}", total=len(store)) as bar:
        export(store, out, bar.advance, store.prompts if isinstance(store, SampleStore) else ())
    print(f"{len(store)} {store.kind}: {out}")
    if num_samples is None and len(store) < (planned := len(find_set(store.folder))):
        print(f"{title(store)} is not complete: {planned} samples were asked for", file=sys.stderr)
    return 0


def push_set(outputs: Outputs, id: str, *, to: str | None, images: bool, dry_run: bool) -> int:
    """id: or the path of a set. to: user/name; None for ditexp-<id> of who is logged in."""
    store = find_set(folder_named(id, outputs.samples))
    target = check_name(to) if to else f"ditexp-{store.id}"
    with kept(store.folder):
        files = files_of(store, outputs, images=images)
        total = amount(sum(one.size for one in files))
        for one in files:
            print(f"{amount(one.size):>8}  {one.name}")
        if dry_run:
            print(f"{len(files)} files, {total}, would be sent to the data set {target}: nothing was sent")
            return 0
        name = user_name()
        address = push(files, to or f"{name}/{target}", message=f"Sample set {store.id}")
    print(f"{len(files)} files, {total}: {address}")
    return 0


def free_needless(outputs: Outputs, *, yes: bool) -> int:
    """yes: don't ask."""
    if not outputs.root.is_dir():
        raise ValueError(f"outputs={outputs.root} is no folder: give the one that runs wrote to")
    folders, freed = list_folders(outputs), 0
    found = needless(outputs, folders)
    complain_of_others(folders, without={one.path for one in found})
    if not found:
        print("nothing to free: every set is needed by a result, or in use")
        return 0
    for one in found:
        print(f"{amount(one.size):>8}  {one.path}  ({one.why})")
    total = amount(sum(one.size for one in found))
    if not yes and not (sys.stdin.isatty() and input(f"free {total}? [y/N] ").strip().lower() == "y"):
        print("nothing was freed" + ("" if sys.stdin.isatty() else ": give --yes"))
        return 0
    for one in found:
        if reason := remove(one, outputs):
            print(f"{one.path} was left alone: {reason}")
        else:
            freed += one.size
    print(f"freed {amount(freed)}")
    return 0


def title(store: Set) -> str:
    return str(store.folder) if store.is_copy else store.id


def complain_of_others(folders: Sequence[SetFolder], without: Collection[Path] = ()) -> None:
    """Name the folders that are no sets to work with, and say why."""
    for folder in folders:
        if folder.other and folder.path not in without:
            complain(f"{folder.path}: {folder.other}")


def complain_of_result(error: ValueError) -> None:
    complain(f"{error}: the set that it belongs to may be listed without a result")


def complain(line: str) -> None:
    print(f"ditexp: {in_line(line)}", file=sys.stderr)
