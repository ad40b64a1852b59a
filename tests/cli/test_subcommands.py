"""`ditexp <command>`: the one command that is chosen, in any spelling, and what `ditexp` prints by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from ditexp import __main__ as program
from ditexp import __version__, provenance
from ditexp.cli.subcommands import SUBCOMMANDS
from ditexp.env.facts import environment
from tests.helpers.paths import ROOT

MISTAKES = {
    "run solver=huen": "did you mean solver=heun?",
    "run steps=20 stepps=3": "did you mean steps?",
    "run cfg=1.5": "guidance=cfg guidance.scale=...",
    "run model=missing.pt": "model.checkpoint=missing.pt does not exist",
    "run steps=abc": "steps=abc: give a whole number",
    "run solver=dopri5 +solver.order=2": "unknown key 'solver.order'",
    "run -m solver=euler,huen": "did you mean solver=heun?",
    "evaluate images=x.npz": "reference has no default",
    "train steps=0": "steps=0: give a whole number",
    "optimize max_steps=0": "max_steps=0: give a whole number",
    "reference feature=digit": "did you mean feature=digits?",
    "report study=missing": "no cell of study=missing",
}


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


def test_mistakes_of_composition_are_said_without_torch(tmp_path):
    """In one process, and there also a list of sample sets, and how a run begins to start its workers."""
    code = """
import sys; from multiprocessing import forkserver; from ditexp.__main__ import main
forkserver.ensure_running = lambda: sys.exit("workers")
for line in sys.stdin.read().splitlines():
    sys.argv = ["ditexp", *line.split()]
    try:
        main()
    except SystemExit as ended:
        print(ended.code, [name for name in ("torch", "scipy", "pandas", "matplotlib", "wandb") if name in sys.modules])
"""
    given = {"input": "\n".join([*MISTAKES, "samples ls", "run -m steps=2,3"]), "cwd": tmp_path}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **given)
    answers = [line for line in ended.stdout.splitlines() if not line.startswith("no sample sets")]
    assert answers == ["2 []"] * len(MISTAKES) + ["0 []", "workers []"], ended.stdout + ended.stderr
    for complaint, line in zip(MISTAKES.values(), ended.stderr.splitlines(), strict=True):
        assert complaint in line


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


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ditexp r", "run report reference"),
        ("ditexp ", " ".join(SUBCOMMANDS)),
        ("ditexp run solver=heun", "solver=heun solver=heun3 solver=heun_edm"),  # by Hydra
        ("ditexp samples l", ""),
    ],
)
def test_completion(line, expected, started, monkeypatch):
    monkeypatch.setenv("COMP_LINE", line)
    code, out, _ = started("-sc", "query=bash")
    assert not code and out.split() == expected.split()


def test_the_environment_without_its_secrets():
    variables = {"WANDB_API_KEY": "key", "HTTPS_PROXY": "http://me:password@proxy:3128", "HOME": "/root"}
    assert environment(variables) == {
        "HTTPS_PROXY": "http://...@proxy:3128",
        "WANDB_API_KEY": "set",
        "HF_TOKEN": "not set",
    }


def test_facts_for_a_bug_report(started, tmp_path):
    _, out, _ = started("env", "--json", f"outputs={tmp_path}")
    found = json.loads(out)
    assert (
        found["ditexp"]["ditexp"] == __version__ and found["packages"]["torch"] == torch.__version__.partition("+")[0]
    )
    assert found["folders"]["outputs"].startswith(f"{tmp_path} (") and "memory" in found["devices"]
