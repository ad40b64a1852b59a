"""Print what a bug report needs: ditexp env (see --help)."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ditexp.checks import ConfigError
from ditexp.cli.errors import describe
from ditexp.cli.flags import Parser, own_parser, with_outputs
from ditexp.cli.streams import without_readers
from ditexp.cli.subcommands import ENV
from ditexp.env.facts import Facts, facts
from ditexp.terminal.notices import in_line


@without_readers()
def main() -> None:
    try:
        arguments = parser().parse_args(with_outputs(sys.argv[1:]))
    except ConfigError as error:
        for line in describe(error):
            print(f"ditexp: {line}", file=sys.stderr)
        sys.exit(2)
    found = facts(arguments.outputs)
    print(json.dumps(found, indent=2) if arguments.json else in_lines(found))


def parser() -> Parser:
    parser = own_parser(ENV)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help=argparse.SUPPRESS)
    return parser


def in_lines(found: Facts) -> str:
    lines = []
    for section, values in found.items():
        lines += ["", section] if lines else [section]
        lines += [f"  {name:24}{in_line(value)}" for name, value in values.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
