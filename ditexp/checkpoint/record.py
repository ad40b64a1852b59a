"""What a pickle says of objects that are never rebuilt."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False, repr=False)
class Record:
    """An object of a class that is never imported: its class's name, and what the pickle would make it of.

    kind: such as "argparse.Namespace". arguments: of the call that would make the object; None for the mere name of a
    class or a function. fields: its attributes, such as a Namespace's. items: what would be appended to it.
    """

    kind: str
    arguments: tuple | None = None
    fields: dict = field(default_factory=dict)
    items: list = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<{self.kind}>"


@dataclass(frozen=True)
class UnusableTensor:
    """A tensor that no network here can have. wrong: why, such as "is sparse"."""

    wrong: str
