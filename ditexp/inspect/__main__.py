"""Say what files are, without sampling: ditexp inspect FILE... (see --help)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ditexp import __version__
from ditexp.cli.errors import describe
from ditexp.cli.flags import Parser, own_parser
from ditexp.cli.streams import without_readers
from ditexp.cli.subcommands import INSPECT
from ditexp.inspect.card import card_of
from ditexp.terminal.console import wide_terminal


@without_readers()
def main() -> None:
    try:
        arguments = parser().parse_args()
        if not arguments.files:
            raise ValueError("give a FILE of weights, of a VAE or a reference, as in ditexp inspect my.pt")
        sys.exit(inspect(arguments.files, as_json=arguments.json))
    except ValueError as error:
        complain(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def parser() -> Parser:
    parser = own_parser(INSPECT)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a file, or a folder of several files")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--version", action="version", version=f"ditexp {__version__}")
    return parser


def inspect(files: list[Path], *, as_json: bool) -> int:
    """Print a card for each file; returns the exit code, 2 if one cannot be read."""
    code = 0
    for path in files:
        try:
            card = card_of(path.expanduser())
        except (ValueError, OSError, MemoryError) as error:
            complain(error)
            code = 2
            continue
        if as_json:
            print(json.dumps(card.to_json()))
        else:
            for line in card.lines():
                wide_terminal().print(line, soft_wrap=True)
    return code


def complain(error: Exception) -> None:
    for line in describe(error):
        print(f"ditexp: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
