"""Write docs/reference.md from conf/**: python -m docs.make_reference, or make docs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ditexp.cli.command import register_with_hydra
from ditexp.cli.explanations import Config, explained, options, read
from ditexp.cli.packaged import packaged

CONF = packaged("conf")
REFERENCE = Path(__file__).with_name("reference.md")
INTRODUCTION = """\
# Every option and setting

To choose an option of a group write `<group>=<option>`, and to change a setting write its full name:

    ditexp run solver=dopri5 solver.rtol=1e-3

- Both can be swept: `-m solver=heun,dopri5`.
- **required** settings have no default.
- `${steps}` is the value of the setting `steps`, and `${bundled:<name>}` is a file of
  [ditexp/weights](../ditexp/weights/README.md).
- `ditexp run --cfg job ...` prints the composed configuration.

`make docs` writes this page from the files of [conf](../conf); edit those files instead.
"""


def reference() -> str:
    register_with_hydra()
    commands = [read(path) for path in sorted(CONF.glob("*.yaml"))]
    folders = sorted({path.parent for path in CONF.glob("**/*.yaml")} - {CONF, CONF / "hydra" / "job_logging"})
    groups = [folder.relative_to(CONF).as_posix() for folder in folders]
    parts = [INTRODUCTION, *(section_of_command(config, groups) for config in commands)]
    parts += [section_of_group(name, options(name)) for name in groups]
    return "\n".join(parts)


def section_of_command(config: Config, groups: Iterable[str]) -> str:
    command = " ".join(config.about.split()[:2])  # ditexp run
    rows = [
        (f"[`{name}`](#{name})" if name in groups else f"`{name}`", shown(default), comment)
        for name, default, comment in config.settings
        if not name.startswith("hydra")
    ]
    return f"## `{command}`\n\n{link(config)}\n\n{table(('setting', 'default', 'description'), rows)}"


def section_of_group(group: str, configs: list[Config]) -> str:
    """A table of the options, and one of their settings; equal settings of several options share a row."""
    rows = []
    for (name, default, comment), with_it in explained(group, configs).items():
        which = "all" if len(with_it) == len(configs) > 1 else ", ".join(with_it)
        rows.append((f"`{name}`", shown(default), which, comment))
    tables = [table(("option", "description"), [(link(config), config.about) for config in configs])]
    if rows:
        tables.append(table(("setting", "default", "option", "description"), rows))
    return "\n".join([f"## {group}\n", *tables])


def link(config: Config) -> str:
    return f"[{config.path.stem}](../conf/{config.path.relative_to(CONF).as_posix()})"


def shown(default: str) -> str:
    return "**required**" if default == "???" else f"`{default}`"


def table(headers: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [headers, ("---",) * len(headers), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    REFERENCE.write_text(reference())
    print(REFERENCE)
