"""The command line: flags anywhere, ~ for home, one line for each mistake, --help, --version and closed pipes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import hydra
import pytest

from ditexp import __version__
from ditexp.checks import ConfigError
from ditexp.cli.arguments import read
from ditexp.cli.packaged import options_of
from ditexp.cli.streams import occupy, without_readers
from ditexp.run import __main__ as run
from ditexp.samples import __main__ as samples
from ditexp.terminal.console import wide_terminal

COMMANDS = ("run", "evaluate", "train", "optimize", "report", "reference")
GUIDANCE = ", ".join(options_of("guidance"))
SOLVERS = ", ".join(options_of("solver"))


def typed(*arguments: str) -> list[str]:
    return read(arguments, config_name="config").arguments


def complaints(*arguments: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        typed(*arguments)
    return str(error.value).split("\n")


# ---- Flags


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["num_samples=16", "-m", "solver=euler,heun"], ["--multirun", "num_samples=16", "solver=euler,heun"]),
        (["a=1", "--config-dir", "x=y", "steps=3"], ["--config-dir=x=y", "a=1", "steps=3"]),
        (["--cfg", "job", "steps=3"], ["--cfg=job", "steps=3"]),
        (["steps=3", "--info"], ["--info=all", "steps=3"]),
        (["steps=3", "--info", "defaults", "seed=1"], ["--info=defaults", "steps=3", "seed=1"]),
        (["-c", "all", "--resolve", "-p", "solver"], ["--cfg=all", "--resolve", "--package=solver"]),
        (["~preset", "+x=1", "++y=2"], ["~preset", "+x=1", "++y=2"]),
        (
            ["-m", "solver=dopri5,tsit5", "solver.rtol=0.1"],
            ["--multirun", "solver=dopri5,tsit5", "solver.rtol=choice(0.1)"],
        ),
    ],
)
def test_flags_stand_anywhere(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x=y").mkdir()
    assert typed(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--num_samples=16"], "--num_samples=16 is not a flag, and settings have no dashes: write num_samples=16"),
        (["--num-samples", "16"], "--num-samples is not a flag, and settings have no dashes: write num_samples=..."),
        (["-steps=16"], "-steps=16 is not a flag, and settings have no dashes: write steps=16"),
        (["--multirnu"], "--multirnu is not a flag; did you mean --multirun?; choices: --multirun, --run, --cfg"),
        (["--experimental-rerun=x"], "--experimental-rerun=x is not a flag; choices: --multirun"),  # it unpickles
        (["--cfg"], "argument --cfg/-c: expected one argument"),
        (["--cfg", "jobs"], "argument --cfg/-c: invalid choice: 'jobs'"),
        (["--config-dir", "/missing"], "--config-dir /missing is not a folder: give a folder of configurations"),
        (["-m", "--cfg", "job"], "--cfg and --info print one cell: leave -m out, and give each setting one value"),
        (["--cfg=job", "steps=2,3"], "steps=2,3: --cfg and --info print one cell: give steps one value"),
    ],
)
def test_flags_that_mean_nothing(arguments, complaint):
    assert [line[: len(complaint)] for line in complaints(*arguments)] == [complaint]


def test_files_that_would_hang_hydra(tmp_path):
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "mine.yaml").write_bytes(b"\xff\xfe")
    flags = f"--config-dir={tmp_path}"
    assert typed(flags) == [flags]  # nobody chose it
    (complaint,) = complaints(flags, "preset=mine")
    assert complaint.startswith(f"{tmp_path}/preset/mine.yaml cannot be read (") and "UTF-8" in complaint
    os.mkfifo(tmp_path / "preset" / "pipe.yaml")
    assert complaints(flags) == [f"{tmp_path}/preset/pipe.yaml is not a regular file: remove it"]


# ---- Overrides


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("outputs=~/x", "outputs=/home/me/x"),
        ("outputs=~", "outputs=/home/me"),
        ("model.checkpoint=~/a.pt,~/b.pt", "model.checkpoint=/home/me/a.pt,/home/me/b.pt"),
        ("results=[~/a, '~/b']", "results=[/home/me/a, '/home/me/b']"),
        ("model.checkpoint='~/a=b.pt'", "model.checkpoint='/home/me/a=b.pt'"),
        ("study=a~b", "study=a~b"),
        ("outputs=x/~/y", "outputs=x/~/y"),
        ("~preset", "~preset"),
    ],
)
def test_home(argument, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    read_as = [argument.replace("~", "/home/me") if expected != argument else argument]
    try:
        assert typed("-m", argument) == ["--multirun", expected]
    except ConfigError:  # a ~ that is no home needs quotes
        assert expected == argument and read_as == [argument]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["heun"], "heun: give <key>=<value>, such as solver=heun"),
        (["–m"], "–m begins with a long dash, as editors make them: type -m"),
        (["—multirun"], "—multirun begins with a long dash, as editors make them: type --multirun"),
        (["nonsense"], "nonsense: give <key>=<value>, such as solver=heun"),
        (["solver:heun"], "solver:heun: give <key>=<value>, such as solver=heun"),
        (["solver/heun"], "solver/heun: give <key>=<value>, such as solver=heun"),
        (["solver.rk4"], "solver.rk4: give <key>=<value>, such as solver=rk4"),
        (["steps:16"], "steps:16: give <key>=<value>, such as steps=16"),
        (["steps", "16"], "steps 16: write steps=16"),
        (["steps", "=", "16"], "steps = 16: write steps=16, without spaces around ="),
        (["steps = 16"], "steps = 16: write steps=16, without spaces around ="),
        (["=heun"], "=heun: give <key>=<value>, such as solver=heun"),
        (["solver==heun"], "solver==heun: one = is enough"),
        (["solver="], f"solver= has no value: choose solver={SOLVERS}"),
        (["outputs="], "outputs= has no value: give one, or leave it out"),
        (["solver=null"], f"solver=null: null is not an option: leave it out, or choose solver={SOLVERS}"),
        (
            ["solver=[euler,heun]"],
            "solver=[euler,heun]: solver takes one option; -m solver=euler,heun sweeps over them",
        ),
        (["steps=2,"], "steps=2,: remove one comma"),
        (["metric=[fid,,kid]"], "metric=[fid,,kid]: remove one comma"),
        (["metric=[fid,", "kid]"], 'metric=[fid, kid]: leave the spaces out: "metric=[fid,kid]"'),
        (["-m", "steps=10,", "20,", "30"], "steps=10, 20,: leave the spaces out: steps=10,20,30"),
        (["guidance=1.5"], f"guidance=1.5: 1.5 is not an option: choose guidance={GUIDANCE}"),
        (["metric=[fid"], "metric=[fid: it begins like a list but cannot be read as one"),
        (
            ["steps=range(1,3"],
            "steps=range(1,3: it begins like a function but cannot be read as one; as text, write "
            "\"steps='range(1,3'\"",
        ),
        (
            ["-m", "steps=rnage(1,3)"],
            "steps=rnage(1,3): rnage is not a function of Hydra's, which has bool, choice, float, glob, int, interval, "
            "range, shuffle, sort, str, tag; as text, write \"steps='rnage(1,3)'\"",
        ),
        (["study=a#b"], "study=a#b: a value with # in it needs quotes; as text, write \"study='a#b'\""),
        (
            ["study=it's"],
            "study=it's: a value with ' in it needs quotes; as text, write \"study='it\\\\'s'\"",
        ),
        (
            ["study=$(x)"],
            "study=$(x): a value with ( ) in it needs quotes; as text, write \"study='\\$(x)'\"",
        ),
        (["steps=range(1,3)"], "steps=range(1,3): add -m to sweep over these values"),
        (
            ["solver=euler,heun"],
            "solver=euler,heun: add -m to sweep over these values",
        ),
        (
            ["num_samples=50,000"],
            "num_samples=50,000: add -m to sweep over these values; to give one number, write num_samples=50000",
        ),
        (["hydra.launcher=plan"], "hydra.launcher=plan chooses nothing: write hydra/launcher=plan"),
        (
            ["-m", "hydra.launcher=plan,local"],
            "hydra.launcher=plan,local chooses nothing: write hydra/launcher=plan,local",
        ),
    ],
)
def test_overrides_that_mean_nothing(arguments, complaint):
    assert complaints(*arguments) == [complaint]


def test_all_mistakes_at_once():
    assert len(complaints("heun", "steps=2,", "solver==heun")) == 3


def test_a_remedy_is_taken():
    """What a shell makes of the proposed text is read as that text."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for text in ("a=b.pt", "it's", 'a"b', "=$x", "=back\\slash", "a`b`", "[a", "x(y)", "a;b", "é&ü", "\\'"):
        (complaint,) = complaints(f"study={text}")
        proposed = complaint.rpartition("; as text, write ")[2]
        shown = os.popen(f"printf %s {proposed}").read()
        assert OverridesParser.create().parse_override(shown).value() == text, complaint


# ---- Help and version


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, in_process, monkeypatch):
    """Also of evaluate, which has no default reference. Each line fits into 80 columns, but one long default."""
    monkeypatch.setenv("COLUMNS", "80")
    ended = in_process("--help", command=command)
    lines = ended.out.splitlines()
    assert ended.code == 0 and not ended.err and lines[0].startswith(f"ditexp {command} [")
    assert ended.out.count("  # ") == 3  # examples
    assert all(len(line) <= 80 or "<fingerprint>" in line for line in lines)
    assert ("  solver=" in ended.out) == (command in ("run", "optimize"))
    assert all(f"--{flag}" in ended.out for flag in ("multirun", "cfg", "config-dir", "version"))


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("solver", ["  heun3 ", "  solver.rtol=1e-4 ", "[adaptive, bosh3, dopri5, tsit5]", "default is euler"]),
        ("solver=dopri5", ["Dormand & Prince", "  solver.rtol=1e-4 ", "atol + rtol"]),
        ("guidance=cfg_dit", ["  guidance.scale=1.5 ", "as papers print it", "  guidance.interval=null"]),  # of cfg
        ("steps", ["  steps=50 ", "intervals between"]),
        ("solver.rtol", ["  solver.rtol=1e-4 ", "  solver.rtol=1e-3 "]),
        ("experiment", ["  digits_steps ", "How many steps does a solver need"]),
    ],
)
def test_help_on_a_group_an_option_or_a_setting(topic, words, in_process):
    ended = in_process("--help", topic)
    assert ended.code == 0 and all(word in ended.out for word in words), ended.out
    assert "--multirun" not in ended.out


def test_help_after_a_whole_command_is_the_commands(in_process):
    assert "--multirun" in in_process("solver=heun", "steps=3", "--help").out


@pytest.mark.parametrize(
    ("topic", "complaint"),
    [
        ("solvr", "no help on 'solvr'; did you mean solver?; `ditexp run --help` lists groups and settings"),
        ("solver=huen", "unknown solver 'huen'; did you mean solver=heun?; choices: ab2, "),
    ],
)
def test_help_on_nothing(topic, complaint, in_process):
    ended = in_process("--help", topic)
    assert ended.code == 2 and [line[: len(complaint)] for line in ended.complaints] == [complaint]


def test_version(in_process):
    ended = in_process("--version")
    assert (ended.code, ended.out) == (0, f"ditexp {__version__} (Hydra {hydra.__version__})\n")


@pytest.mark.parametrize("flags", [["--cfg", "job"], ["--cfg", "all"], ["--info", "defaults"], ["--info", "config"]])
def test_what_hydra_prints_ends_well(flags, in_process, tmp_path):
    ended = in_process(*flags, "solver=heun")
    assert ended.code is None and not ended.err
    assert (
        "heun" in ended.out or flags[0] == "--info"
    )  # which is logged, to wherever this process's first command set up
    assert not list(tmp_path.iterdir())


# ---- Readers that leave


@contextmanager
def closed_pipe(monkeypatch) -> Iterator[TextIO]:
    """Standard output is a pipe that nobody reads. (A fixture would not do: pytest sets its own after each.)"""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            yield stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # for what the stream still holds


@pytest.mark.parametrize(("command", "arguments"), [(samples, ["ls"]), (run, ["--help"])])
def test_a_pipe_that_closes_early_is_no_error(command, arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ditexp", *arguments])
    with closed_pipe(monkeypatch) as stream:
        with pytest.raises(SystemExit) as ended:
            command.main()
        assert ended.value.code == 0 and sys.stdout is stream


def test_tables_and_lines_go_nowhere_without_a_reader(monkeypatch):
    """rich ends the process where it meets a closed pipe by itself."""
    with closed_pipe(monkeypatch), without_readers():
        wide_terminal().print("a table")
        print("x" * 100_000)


def test_without_that_it_is_one(monkeypatch):
    with closed_pipe(monkeypatch), pytest.raises(BrokenPipeError):
        print("x" * 100_000, flush=True)


def test_streams_that_are_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with without_readers():
        print("nowhere")
    captured = io.StringIO()  # a stream without a file
    monkeypatch.setattr(sys, "stdout", captured)
    with without_readers():
        print("kept")
    assert captured.getvalue() == "kept\n"


def test_a_closed_stream_gives_its_number_to_no_file(tmp_path):
    """Or a sample set's block would be where warnings are printed."""
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    occupy(free)
    assert os.readlink(f"/proc/self/fd/{free}") == os.devnull
    occupy(free)
    os.close(free)


def test_a_path_that_cannot_be_is_led_back_to_its_setting(in_process):
    file = Path("file")
    file.write_text("")
    for arguments, setting in (
        (["outputs=file"], "outputs"),
        (["-m", "hydra.sweep.dir=file"], "hydra.sweep.dir"),
    ):
        ended = in_process(*arguments, "tracker=none", "hydra/launcher=plan")
        (line,) = ended.err.splitlines()
        assert (
            ended.code == 2 and line.startswith("ditexp: ") and line.endswith(f"choose another path, by {setting}=...")
        )
