"""Take a sample set elsewhere: python -m ditexp.samples export ID OUT.npz [--num-samples N] [--outputs FOLDER]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ditexp.store import SampleStore


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ditexp.samples", description="Take a sample set elsewhere.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    export = verbs.add_parser("export", help="stream a set into the npz that ADM's and other evaluators read")
    export.add_argument("id", help="the set's id, a folder of outputs/samples (sample_id in a result)")
    export.add_argument("out", type=Path, help="the npz to write: arr_0 (N, H, W, C) uint8, arr_1 (N,) labels")
    export.add_argument("--num-samples", type=int, help="how many, from the first (default: all that are there)")
    export.add_argument("--outputs", type=Path, default=Path("outputs"))
    arguments = parser.parse_args()
    try:
        store = SampleStore.open(arguments.outputs / "samples" / arguments.id, num_samples=arguments.num_samples)
        store.export_npz(arguments.out)
    except (ValueError, OSError) as error:
        print(f"ditexp: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{len(store)} images: {arguments.out}")


if __name__ == "__main__":
    main()
