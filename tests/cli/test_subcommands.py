"""`ditexp <command>`: the one command that is chosen, in any spelling, and what `ditexp` prints by itself."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from ditexp import __main__ as program
from ditexp import __version__, provenance
from ditexp.cli.subcommands import SUBCOMMANDS
from tests.helpers.paths import ROOT


@pytest.fixture
def started(monkeypatch, capsys):
    """started("run", "--version") is `ditexp run --version` in this process: (exit code, stdout, stderr)."""

    def start(*arguments: str) -> tuple[int | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["ditexp", *arguments])
        try:
            program.main()
            code = None
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return start


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_alone_it_lists_the_commands(arguments, started):
    code, out, err = started(*arguments)
    assert code is None and not err
    assert all(f"  {name} " in out for name in SUBCOMMANDS) and "ditexp run -m solver=" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["solver=heun"], "solver=heun: the command comes first, as in `ditexp run solver=heun`"),
        (["rnu"], "unknown command 'rnu'; did you mean `ditexp run`?; choose from run, report, evaluate, "),
        (["-m", "steps=2,3"], "-m: the command comes before its flags, as in `ditexp run -m`"),
    ],
)
def test_what_is_no_command(arguments, complaint, started):
    code, out, err = started(*arguments)
    assert (code, out) == (2, "") and err.startswith(f"ditexp: {complaint}") and err.count("\n") == 1


def test_help_and_version_import_nothing_heavy():
    code = """
import sys; from ditexp.__main__ import main
for argument in ("--help", "--version"):
    sys.argv = ["ditexp", argument]
    main()
print([name for name in ("torch", "hydra", "omegaconf", "numpy", "rich") if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout.splitlines()[-2:] == [f"ditexp {__version__}", "[]"], ended.stderr


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_command_is_there(name, started):
    code, out, _ = started(name, "--help")
    assert code == 0 and f"ditexp {name} " in out
    assert (ROOT / "ditexp" / name / "__main__.py").exists()


@pytest.mark.parametrize(
    ("argv", "module", "recorded"),
    [
        (["ditexp run", "steps=2", "study=a b"], None, "ditexp run steps=2 'study=a b'"),
        (["ditexp run", "steps=2"], "ditexp.__main__", "python -m ditexp run steps=2"),
        (["/x/ditexp/run/__main__.py", "steps=2"], "ditexp.run.__main__", "python -m ditexp.run steps=2"),
        (["mine.py", "x"], None, "python mine.py x"),
    ],
)
def test_the_command_is_recorded_as_it_was_typed(argv, module, recorded, monkeypatch):
    main = SimpleNamespace(__spec__=SimpleNamespace(name=module) if module else None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", argv)
    assert provenance.command() == recorded
