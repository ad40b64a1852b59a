"""Sample sets on disk: python -m ditexp.samples ls | verify | export | gc (see --help)."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.table import Table

from ditexp.card import amount
from ditexp.claims import Claims
from ditexp.export import export
from ditexp.files import abandoned
from ditexp.progress import progress_bar
from ditexp.store import SampleStore, folder_named
from ditexp.terminal import accept_any_text, wide_terminal

DAY = 86_400  # seconds


def main() -> None:
    accept_any_text()
    arguments = parse()
    try:
        sys.exit(arguments.verb(arguments))
    except (ValueError, OSError) as error:
        print(f"ditexp: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ditexp.samples", description="Look after sample sets.")
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
    needed = needed_by(results(arguments.outputs))
    for store in stores(arguments.outputs):
        made = list(store.manifests())
        images, size = min(len(made) * store.block_size, len(store)), sum(manifest["bytes"] for manifest in made)
        state = "complete" if len(made) == store.num_blocks else "not complete"
        if at_work(store):
            state = f"{state}, in use"
        elif store.id not in needed:
            state = f"{state}, no result"
        hosts = ", ".join(sorted({manifest["maker"]["host"] for manifest in made}))
        counts = (f"{images:,}", f"{len(store):,}", amount(size))
        about = store.about()
        made_by = f"{hosts} {about['provenance']['time'][:10]}"
        table.add_row(store.id, *counts, state, about["command"], made_by)
    if table.row_count:
        wide_terminal().print(table)
    else:
        print(f"no sample sets in {arguments.outputs / 'samples'}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    chosen = [SampleStore.find(folder_named(given, arguments.outputs / "samples")) for given in arguments.ids]
    found = chosen or list(stores(arguments.outputs))
    every = chosen or list((arguments.outputs / "samples").glob("*/set.json"))
    if not every:
        print(f"no sample sets in {arguments.outputs / 'samples'}")
    wrong = len(every) - len(found)  # those that cannot be read
    for store in found:
        damaged, absent = [], []
        with progress_bar(f"verifying {store.id}", total=store.num_blocks, unit="blocks") as bar:
            for block in range(store.num_blocks):
                if store.manifest(block, verify=True) is None:
                    (damaged if store.path(block).exists() else absent).append(block)
                bar.advance(1)
        for block in damaged:
            store.drop(block)
            print(f"{store.id}: block {block} ({store.path(block).name}) is damaged and was dropped")
        for block in absent:
            print(f"{store.id}: block {block} ({store.path(block).name}) is missing")
        if damaged or absent:
            wrong += 1
            print(f"{store.id}: to make it whole: {store.about()['command']}")
        else:
            print(f"{store.id}: all {store.num_blocks} blocks are whole")
    return 1 if wrong or not every else 0


def export_set(arguments: argparse.Namespace) -> int:
    folder = folder_named(arguments.id, arguments.outputs / "samples")
    store = SampleStore.open(folder, num_samples=arguments.num_samples)
    with progress_bar(f"exporting {store.id}", total=len(store)) as bar:
        export(store, arguments.out, bar.advance)
    print(f"{len(store)} images: {arguments.out}")
    if arguments.num_samples is None and len(store) < (planned := len(SampleStore.find(store.folder))):
        print(f"{store.id} is not complete: {planned} samples were asked for", file=sys.stderr)
    return 0


def gc(arguments: argparse.Namespace) -> int:
    found, freed = list(results(arguments.outputs)), []
    needed, measured = needed_by(found), fingerprints(found)
    every = {store.folder.name: store for store in stores(arguments.outputs)}
    for store in every.values():
        if store.id not in needed and not at_work(store):
            freed.append((store.folder, f"sample set, {len(list(store.manifests()))} of {store.num_blocks} blocks"))
    for folder in sorted((arguments.outputs / "cache" / "features").glob("*/*")):
        in_use = at_work(every[folder.name]) if folder.name in every else is_recent(folder)
        if folder.name not in needed | measured and not in_use:
            freed.append((folder, "cached features"))
    freed += [(path, "left by a killed process") for path in abandoned(arguments.outputs, deep=True)]
    if not freed:
        print("nothing to free: every set is needed by a result, or in use")
        return 0
    sizes = {path: sum(file.stat().st_size for file in (path, *path.rglob("*"))) for path, _ in freed}
    for path, why in freed:
        print(f"{amount(sizes[path]):>8}  {path}  ({why})")
    total = amount(sum(sizes.values()))
    if not arguments.yes and not (sys.stdin.isatty() and input(f"free {total}? [y/N] ").strip().lower() == "y"):
        print("nothing was freed" + ("" if sys.stdin.isatty() else ": give --yes"))
        return 0
    for path, _ in freed:
        if path.name in every and at_work(every[path.name]):
            print(f"{path} was left alone: it has come into use")
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    print(f"freed {total}")
    return 0


def stores(outputs: Path) -> Iterator[SampleStore]:
    """Every set; one whose set.json cannot be read is told and left alone."""
    for path in sorted((outputs / "samples").glob("*/set.json")):
        try:
            yield SampleStore.find(path.parent)
        except ValueError:
            print(f"ditexp: {path} is damaged; the run that made the set mends it", file=sys.stderr)


def at_work(store: SampleStore) -> bool:
    """Whether a process samples or judges the set, as far as its claims tell."""
    claims = Claims(store.folder)
    return any(not claims.is_void(name) for name in claims.names())


def needed_by(results: Iterable[dict]) -> set[str | None]:
    """The ids of the sets that results rest on; of one of ditexp.evaluate, None."""
    return {result.get("sample_id") for result in results}


def fingerprints(results: Iterable[dict]) -> set[str]:
    """Of the images that results are of, and of those that they are measured against."""
    protocols = [result.get("protocol") or {} for result in results]
    found = [protocol.get(part) or {} for protocol in protocols for part in ("images", "reference")]
    return {source["fingerprint"] for source in found if "fingerprint" in source}


def results(outputs: Path) -> Iterator[dict]:
    """Raises ValueError for one that cannot be read."""
    for path in (outputs / "results").glob("*.json"):
        try:
            yield json.loads(path.read_text())
        except ValueError:
            raise ValueError(f"{path} is damaged, so what it needs is unknown: remove it and run again") from None


def is_recent(folder: Path) -> bool:
    """Whether a run that has no result yet may have put features there."""
    return time.time() - folder.stat().st_mtime < DAY


if __name__ == "__main__":
    main()
