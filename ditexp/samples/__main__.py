"""Look after sample sets on disk: ditexp samples ls | verify | export | push | gc (see --help)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from ditexp.cli.flags import Parser, own_parser, with_outputs
from ditexp.cli.shortage import shortage
from ditexp.cli.streams import without_readers
from ditexp.cli.subcommands import SAMPLES
from ditexp.outputs import Outputs
from ditexp.samples.commands import complain, export_set, free_needless, list_sets, push_set, verify_sets


@without_readers()
def main() -> None:
    try:
        arguments = parser().parse_args(with_outputs(sys.argv[1:]))
        sys.exit(arguments.run(arguments))
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        complain(shortage(error) or str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def parser() -> Parser:
    parser = own_parser(SAMPLES)
    shared = Parser(add_help=False)
    shared.add_argument("--outputs", type=Path, default=Path("outputs"), help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(required=True, metavar="VERB", title="verbs, each with --help")

    def verb(name: str, run: Callable[[argparse.Namespace], int], help: str) -> Parser:
        about = "outputs=<folder>: where the sets are (default: outputs)"
        added = verbs.add_parser(name, help=help, description=help, epilog=about, parents=[shared])
        added.set_defaults(run=run)
        return added

    added = verb("ls", ls, "list the sets, a line each: what they are, how large and how complete")
    added.add_argument("--verbose", action="store_true", help="also the command and the machines that made each")
    added = verb("verify", verify, "hash every block again; drop damaged ones, so that the next run makes them again")
    added.add_argument("ids", nargs="*", metavar="id", help="or paths of sets; default: all sets")
    added = verb("export", export, "stream a set into an .npz, a .tar of PNGs, or a folder of PNGs, as OUT's name says")
    added.add_argument("id", help="a folder of outputs/samples (sample_id in a result), or the path of a set")
    added.add_argument("out", type=Path)
    added.add_argument("--num-samples", type=int, help="how many, from the first (default: all that are there)")
    added = verb("push", push, "send a set's card, record and results to the Hugging Face hub, as a data set")
    added.add_argument("id", help="a folder of outputs/samples (sample_id in a result), or the path of a set")
    added.add_argument("--to", metavar="USER/NAME", help="default: ditexp-<id> of who is logged in")
    added.add_argument("--images", action="store_true", help="also the images or latents themselves")
    added.add_argument("--dry-run", action="store_true", help="list what would be sent, and how large it is")
    added = verb("gc", gc, "free what no result needs: sets, cached features, and what killed processes left")
    added.add_argument("--yes", action="store_true", help="don't ask")
    return parser


def ls(arguments: argparse.Namespace) -> int:
    return list_sets(Outputs(arguments.outputs), verbose=arguments.verbose)


def verify(arguments: argparse.Namespace) -> int:
    return verify_sets(Outputs(arguments.outputs), arguments.ids)


def export(arguments: argparse.Namespace) -> int:
    return export_set(Outputs(arguments.outputs), arguments.id, arguments.out, num_samples=arguments.num_samples)


def push(arguments: argparse.Namespace) -> int:
    return push_set(
        Outputs(arguments.outputs),
        arguments.id,
        to=arguments.to,
        images=arguments.images,
        dry_run=arguments.dry_run,
    )


def gc(arguments: argparse.Namespace) -> int:
    return free_needless(Outputs(arguments.outputs), yes=arguments.yes)


if __name__ == "__main__":
    main()
