"""Make the report of a sweep anew: python -m ditexp.report outputs/runs/<sweep>"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ditexp.report import read_results, wide_console, write_report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ditexp.report", description="Make the report of a sweep anew.")
    parser.add_argument("folder", type=Path, help="a sweep's or a run's folder, such as outputs/runs/<sweep>")
    parser.add_argument("--out", type=Path, help="where to write the report (default: outputs/reports/<sweep>)")
    args = parser.parse_args()
    out = args.out or args.folder.parents[1] / "reports" / args.folder.name
    try:
        report = write_report(read_results(args.folder), out)
    except (ValueError, OSError) as error:
        print(f"ditexp: {error}", file=sys.stderr)
        sys.exit(2)
    wide_console().print(report.table.rich())
    for path in filter(None, report.paths.values()):
        print(path)


if __name__ == "__main__":
    main()
