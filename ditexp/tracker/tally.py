"""What a command has logged to W&B, and where, for its last lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ditexp.terminal.units import plural


class Tally:
    """Counts cells and reports. offline: the folder of offline runs."""

    def __init__(self) -> None:
        self._amounts: dict[str, Counter[str]] = {}  # numbers of cells and reports, by how they were logged
        self._urls: list[str] = []  # of projects that have them online
        self.offline: Path | None = None

    def add(self, what: str, how: str, url: str = "") -> None:
        """what: "cell" or "report". how: sent, there (it was already), offline or busy. url: of the project."""
        self._amounts.setdefault(how, Counter())[what] += 1
        self._urls += [url] if url else []

    def lines(self) -> list[str]:
        """On what was sent where, and what was not."""
        amounts = {how: in_words(amount) for how, amount in self._amounts.items()}
        where, lines = " and ".join(dict.fromkeys(self._urls)), []
        if "sent" in amounts:
            before = f"; already there: {amounts['there']}" if "there" in amounts else ""
            lines.append(f"W&B: {where} (sent: {amounts['sent']}{before})")
        elif "there" in amounts:
            lines.append(f"W&B: already on {where}: {amounts['there']}")
        if "busy" in amounts:
            lines.append(f"W&B: another process logs {amounts['busy']}")
        if self.offline:
            lines.append(f"W&B runs are offline; upload them with: wandb sync {self.offline}/offline-run-*")
        return lines


def in_words(counts: Counter[str]) -> str:
    """For example "4 cells and the report"."""
    cells, reports = counts["cell"], counts["report"]
    words = [plural(cells, "cell")] if cells else []
    return " and ".join([*words, *(["the report"] if reports == 1 else [f"{reports} reports"] if reports else [])])
