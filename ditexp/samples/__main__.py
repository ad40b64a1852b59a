"""Sample sets on disk: python -m ditexp.samples ls | verify | export | gc (see --help)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection
from pathlib import Path

from rich.table import Table

from ditexp.cli.flags import Parser
from ditexp.cli.shortage import shortage
from ditexp.cli.streams import without_readers
from ditexp.samples.claims import kept
from ditexp.samples.export import export
from ditexp.samples.garbage import at_work, folders, needed_by, needless, remove, stores, strangers
from ditexp.samples.store import SampleStore, folder_named
from ditexp.terminal.console import wide_terminal
from ditexp.terminal.notices import in_line
from ditexp.terminal.progress import progress_bar
from ditexp.terminal.units import amount


@without_readers()
def main() -> None:
    try:
        arguments = parse()
        sys.exit(arguments.verb(arguments))
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        complain(shortage(error) or str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def parse() -> argparse.Namespace:
    parser = Parser(prog="python -m ditexp.samples", description="Look after sample sets.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--outputs", type=Path, default=Path("outputs"), help="default: %(default)s")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(function, help: str) -> argparse.ArgumentParser:
        name = function.__name__.removesuffix("_set")
        added = verbs.add_parser(name, help=help, description=help, parents=[shared])
        added.set_defaults(verb=function)
        return added

    verb(ls, "what sets there are: how large, how far, and what made them")
    added = verb(verify, "hash every block again; drop what is damaged, so that the next run makes it anew")
    added.add_argument("ids", nargs="*", metavar="id", help="or paths of sets; default: all sets")
    added = verb(export_set, "stream a set into an .npz, a .tar of PNGs, or a folder of PNGs, as OUT's name says")
    added.add_argument("id", help="a folder of outputs/samples (sample_id in a result), or the path of a set")
    added.add_argument("out", type=Path)
    added.add_argument("--num-samples", type=int, help="how many, from the first (default: all that are there)")
    added = verb(gc, "free what no result needs: sets, cached features, and what killed processes left")
    added.add_argument("--yes", action="store_true", help="don't ask")
    return parser.parse_args()


def ls(arguments: argparse.Namespace) -> int:
    table = Table("set", "images", "of", "size", "state", "made with", "by", box=None, header_style="bold")
    needed = needed_by(arguments.outputs, unreadable=complain_of_result)
    for store in stores(arguments.outputs):
        made = list(store.manifests())
        images, size = min(len(made) * store.block_size, len(store)), sum(manifest["bytes"] for manifest in made)
        state = "complete" if len(made) == store.num_blocks else "not complete"
        if at_work(store):
            state = f"{state}, in use"
        elif store.id not in needed:
            state = f"{state}, no result"
        hosts = ", ".join(sorted({str(manifest["maker"].get("host", "?")) for manifest in made}))
        counts = (f"{images:,}", f"{len(store):,}", amount(size))
        about = store.about()
        made_by = f"{hosts} {((about.get('provenance') or {}).get('time') or '')[:10]}"
        table.add_row(store.id, *counts, state, about.get("command") or "", made_by)
    if table.row_count:
        wide_terminal().print(table)
    else:
        print(f"no sample sets in {arguments.outputs / 'samples'}")
    tell_of_strangers(arguments.outputs)
    return 0


def complain_of_result(error: ValueError) -> None:
    complain(f"{error}: a set that it is of may be listed without a result")


def tell_of_strangers(outputs: Path, but: Collection[Path] = ()) -> None:
    for path, what in strangers(outputs):
        if path not in but:
            complain(f"{path}: {what}")


def complain(line: str) -> None:
    print(f"ditexp: {in_line(line)}", file=sys.stderr)


def verify(arguments: argparse.Namespace) -> int:
    samples, found, wrong = arguments.outputs / "samples", [], 0
    for folder in [folder_named(given, samples) for given in arguments.ids]:
        try:
            found.append(SampleStore.find(folder))
        except ValueError as error:
            if not os.path.lexists(folder / "set.json"):
                raise
            complain(str(error))
            wrong += 1
    if not arguments.ids:
        tell_of_strangers(arguments.outputs)
        found = list(stores(arguments.outputs))
        every = folders(arguments.outputs)
        wrong = sum(store is None and os.path.lexists(path / "set.json") for path, store, _ in every)
        if not found and not wrong:
            print(f"no sample sets in {samples}")
            return 1
    for store in found:
        with kept(store.folder):
            wrong += not is_whole(store)
    return 1 if wrong else 0


def is_whole(store: SampleStore) -> bool:
    """Whether all blocks of a set are; those that are damaged are dropped, and named as those that are missing."""
    name, damaged, absent = store.folder if store.is_copy else store.id, [], []
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
        print(f"{name}: all {store.num_blocks} blocks are whole")
    elif store.is_copy:
        print(f"{name}: to make it whole, copy sample set {store.id} again")
    else:
        print(f"{name}: to make it whole: {store.about().get('command') or 'run the command that made it'}")
    return not damaged and not absent


def export_set(arguments: argparse.Namespace) -> int:
    folder = folder_named(arguments.id, arguments.outputs / "samples")
    store = SampleStore.open(folder, num_samples=arguments.num_samples)
    name = store.folder if store.is_copy else store.id
    with kept(folder), progress_bar(f"exporting {name}", total=len(store)) as bar:
        export(store, arguments.out, bar.advance)
    print(f"{len(store)} images: {arguments.out}")
    if arguments.num_samples is None and len(store) < (planned := len(SampleStore.find(store.folder))):
        print(f"{name} is not complete: {planned} samples were asked for", file=sys.stderr)
    return 0


def gc(arguments: argparse.Namespace) -> int:
    if not arguments.outputs.is_dir():
        raise ValueError(f"--outputs {arguments.outputs} is no folder: give the one that runs wrote to")
    found, freed = needless(arguments.outputs), 0
    tell_of_strangers(arguments.outputs, but={one.path for one in found})
    if not found:
        print("nothing to free: every set is needed by a result, or in use")
        return 0
    for one in found:
        print(f"{amount(one.size):>8}  {one.path}  ({one.why})")
    total = amount(sum(one.size for one in found))
    if not arguments.yes and not (sys.stdin.isatty() and input(f"free {total}? [y/N] ").strip().lower() == "y"):
        print("nothing was freed" + ("" if sys.stdin.isatty() else ": give --yes"))
        return 0
    for one in found:
        if reason := remove(one, arguments.outputs):
            print(f"{one.path} was left alone: {reason}")
        else:
            freed += one.size
    print(f"freed {amount(freed)}")
    return 0


if __name__ == "__main__":
    main()
