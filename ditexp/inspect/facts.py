"""A card: what a file is, as facts for programs and as lines for readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ditexp.checkpoint.container import Container
from ditexp.terminal.units import amount

MANY_LINES = "evidence"  # the fact whose values get a line each


@dataclass(frozen=True)
class Card:
    """kind: what the file is, in words. facts: JSON-able, by name. commands: what uses it."""

    path: Path
    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    commands: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        return {"path": str(self.path), "kind": self.kind, **self.facts, "commands": list(self.commands)}

    def lines(self) -> Iterator[str]:
        yield f"{self.path}: {self.kind}"
        width = max(map(len, self.facts), default=0)
        for name, value in self.facts.items():
            for number, line in enumerate(value if name == MANY_LINES else [value]):
                yield f"  {name if not number else '':{width}}  {in_words(name, line)}"
        yield from (f"  {command}" for command in self.commands)


def in_words(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {in_words(key, part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        shape = all(isinstance(part, int) for part in value)
        return (" x " if shape else ", ").join(map(str, value))
    if name == "size" and isinstance(value, int):
        return amount(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def file_facts(container: Container) -> dict[str, Any]:
    return {"format": container.format, "size": container.bytes, "sha256": container.sha256}
