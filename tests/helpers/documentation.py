"""The commands on the pages of the documentation."""

from __future__ import annotations

import re

from ditexp.cli.subcommands import SUBCOMMANDS


def commands_of(page: str) -> list[str]:
    """Every command of a page: in fenced and indented blocks, and in inline code."""
    block = re.compile(r"^```.*?^```|(?:^ {4}[^\n]*\n)+", re.DOTALL | re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", "".join(block.findall(page))).splitlines()
    lines += re.findall(r"`([^`]+)`", block.sub("", page))
    lines = [" ".join(line.split()) for line in lines]
    return [line for line in lines if re.match(rf"(\w+=\S+ )*ditexp ({'|'.join(SUBCOMMANDS)}) [^\s#]", line)]
