"""Keep links from the documentation to code true: python -m docs.code_links

A link [`name`](../ditexp/module.py#L12) leads to the line where a module defines a name; a method is `Class.method`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
LINK = re.compile(r"\[`([\w.]+)(\(\))?`\]\(([\w./]+\.py)(?:#L\d+)?\)")


def definitions(file: Path) -> dict[str, int]:
    """The line of each class, function, method and constant of a module, by name."""

    def walk(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, int]]:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                yield f"{prefix}{node.name}", node.lineno
            if isinstance(node, ast.ClassDef):
                yield from walk(node.body, f"{prefix}{node.name}.")
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            yield from ((f"{prefix}{target.id}", node.lineno) for target in targets if isinstance(target, ast.Name))

    return dict(walk(ast.parse(file.read_text(encoding="utf-8")).body, ""))


def updated(text: str, folder: Path) -> str:
    """The text of a page in `folder` with every link's line as it is now.

    Raises ValueError for a link to a file that is not there, or to a name that its file does not define.
    """

    def link(match: re.Match[str]) -> str:
        name, call, path = match.groups(default="")
        file = folder / path
        if not file.is_file():
            raise ValueError(f"{match[0]}: {path} does not exist")
        if name == file.name:  # a link to the whole module
            return match[0]
        if name not in (known := definitions(file)):
            raise ValueError(f"{match[0]}: {path} does not define {name}")
        return f"[`{name}{call}`]({path}#L{known[name]})"

    return LINK.sub(link, text)


def main() -> None:
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (new := updated(text, DOCS)) != text:
            page.write_text(new, encoding="utf-8")
            print(f"updated {page.name}")


if __name__ == "__main__":
    main()
