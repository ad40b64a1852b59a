"""A composed configuration: something reads every key, and what was checked is what runs."""

from __future__ import annotations

import inspect
import os
import pickle
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict

from ditexp.checks import ConfigError
from ditexp.cli.command import register_with_hydra
from ditexp.cli.errors import describe
from ditexp.cli.numbers import not_whole_numbers
from ditexp.cli.packaged import packaged
from ditexp.cli.settings import settle
from ditexp.result import Result
from ditexp.run import job, summary, sweep
from ditexp.run.__main__ import main
from ditexp.run.cell import Cell, build
from ditexp.run.watch import Watch

FILES = {
    "preset/typo.yaml": "# @package _global_\nnum_sample: 32\nstep: 7\n",
    "preset/no_package.yaml": "num_samples: 32\nsteps: 7\n",
    "preset/of_a_solver.yaml": "# @package _global_\ndefaults:\n  - override /solver: dopri5\nsolver: {rtoll: 0.1}\n",
    "preset/a_name.yaml": "# @package _global_\nsolver: heun\n",
    "preset/nothing.yaml": "# @package _global_\nsolver: null\n",
    "preset/helper.yaml": "# @package _global_\nnfe: 40\nsteps: ${nfe}\n",
    "preset/environment.yaml": "# @package _global_\nhydra: {job: {env_set: {SET_TOO_LATE: 1}}}\n",
    "mine/own.yaml": "num_samples: 32\n",
    "protocol/typo.yaml": "defaults: [adm, _self_]\nname: mine\nmetric: {kid: {subset: 3}}\n",
    "protocol/own.yaml": "defaults: [adm, _self_]\nname: mine\nmetric: {own: {k: 3}}\n",
    "metric/own.yaml": "own:\n  _target_: ditexp.metric.precision_recall.PrecisionRecall\n"
    "  k: ${protocol.metric.own.k}\n",
    "metric/flat.yaml": "_target_: ditexp.metric.precision_recall.PrecisionRecall\nk: 3\n",
    "solver/no_target.yaml": "order: 2\n",
    "schedule/own.yaml": "_target_: ditexp.schedule.uniform.Uniform\nsteps: ${half}\n",
    "own.yaml": "defaults: [config, _self_]\nnum_sample: 32\n",
}


@pytest.fixture
def own(tmp_path) -> Path:
    """A folder of a user's configuration files."""
    for name, text in FILES.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(text)
    return tmp_path / "own"


def settled(*overrides: str, own: Path | None = None, command: str = "config") -> DictConfig:
    register_with_hydra()
    paths = [f"hydra.searchpath=[file://{own}]"] if own else []
    with initialize_config_dir(str(packaged("conf")), version_base="1.3"):
        cfg = compose(command, [*paths, *overrides], return_hydra_config=True)
    settle(cfg, cfg.hydra, command)
    return cfg


def complaints(*overrides: str, **options) -> list[str]:
    with pytest.raises(ConfigError) as error:
        settled(*overrides, **options)
    return str(error.value).split("\n")


@pytest.mark.parametrize(
    ("command", "overrides", "beginning"),
    [
        ("config", ["+num_sample=32"], "unknown key 'num_sample'; did you mean num_samples?; --help lists all"),
        ("config", ["++num_sample=32"], "unknown key 'num_sample'; did you mean num_samples?"),
        ("config", ["+solver.order=2"], "unknown key 'solver.order'; solver has no settings here"),
        ("config", ["tracker=none", "+tracker.mode=x"], "unknown key 'tracker.mode'; tracker has no settings here"),
        ("config", ["+data.path=x"], "unknown key 'data.path'"),
        ("config", ["+metric.fidd.k=1"], "unknown key 'metric.fidd'; did you mean metric.fid?"),
        ("config", ["+metric.fid.k=1"], "unknown key 'metric.fid.k'; metric.fid has uses, name"),
        ("config", ["+protocol.metric.kid.subset=1"], "unknown key 'protocol.metric.kid.subset'; did you mean"),
        (
            "config",
            ["metric=[trajectory]", "+metric.trajectory.reference.tol=1"],
            "unknown key 'metric.trajectory.reference.tol'; did you mean metric.trajectory.reference.rtol?",
        ),
        (
            "config",
            ["guidance=autoguidance", "guidance.weak.checkpoint=x", "+guidance.weak.num_head=1"],
            "unknown key 'guidance.weak.num_head'; did you mean guidance.weak.num_heads?",
        ),
        ("config", ["+sampler=heun"], "unknown key 'sampler'; it is called solver=... here"),
        ("config", ["+cfg_scale=1.5"], "unknown key 'cfg_scale'; it is called guidance=cfg guidance.scale=... here"),
        ("config", ["+hydra.launcher.partition=gpu"], "unknown key 'hydra.launcher.partition'"),
        ("config", ["+hydra.foo=1"], "unknown key 'hydra.foo'"),
        ("config", ["+hydra.job.names=1"], "unknown key 'hydra.job.names'; did you mean hydra.job.name?"),
        ("config", ["+mine.nfe=3", "+mine.other=4", "steps=${mine.nfe}"], "unknown key 'mine.other'; mine has nfe"),
        ("config", ["+solver.foo=3", "steps=${solver.foo}"], "unknown key 'solver.foo'"),  # Euler would refuse it
        ("config", ["+a=3", "+b=${a}"], "unknown key 'b'"),  # what b reads, nobody reads
        ("evaluate", ["images=x", "reference=digits", "+num_sample=3"], "unknown key 'num_sample'; did you mean num_s"),
        ("train", ["+step=3", "folder=x"], "unknown key 'step'; did you mean steps?"),
        ("train", ["+network.dept=3", "folder=x"], "unknown key 'network.dept'; did you mean network.depth?"),
        ("optimize", ["+max_step=3"], "unknown key 'max_step'; did you mean max_steps?"),
        ("prepare_reference", ["+outs=3"], "unknown key 'outs'; did you mean out?"),
        ("report", ["+stduy=3"], "unknown key 'stduy'; did you mean study?"),
        ("config", ["~tracker"], "tracker is missing (~tracker removes it): choose tracker=none, tensorboard, wandb"),
        ("config", ["~guidance"], "guidance is missing (~guidance removes it): choose guidance=apg, "),
        ("config", ["~steps", "schedule.steps=3"], "steps is missing (~steps removes it): leave ~steps out"),
        (
            "config",
            ["~solver._target_"],
            "solver has no _target_, which names the class of these settings: choose solver=",
        ),
        ("config", ["outputs=null"], "outputs=null: give a name or a path"),
        ("config", ["study=1.5"], "study=1.5 is not text; text that looks like a number needs two kinds of quotes"),
        ("config", ["num_samples=${oc.env:NOT_SET}"], "num_samples=${oc.env:NOT_SET}: "),
    ],
)
def test_what_nothing_reads_is_refused(command, overrides, beginning):
    assert [line[: len(beginning)] for line in complaints(*overrides, command=command)] == [beginning]


def test_a_group_of_another_command_is_refused_as_such():
    with pytest.raises(HydraException) as error:
        settled("solver=heun", command="report")
    assert describe(error.value) == ["solver is not a setting of this command: leave it out"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["preset=typo"], ["unknown key 'num_sample' in ", "own/preset/typo.yaml; did you mean num_samples?"]),
        (["preset=no_package"], ["preset=no_package: nothing reads its num_samples, steps", "`# @package _global_`"]),
        (["+mine=own"], ["mine=own: nothing reads its num_samples", "mine/own.yaml", "`# @package _global_`"]),
        (["preset=of_a_solver"], ["unknown key 'solver.rtoll' in ", "of_a_solver.yaml; did you mean solver.rtol?"]),
        (["preset=a_name"], ["solver: heun stands where ", "`defaults: [override /solver: heun]`"]),
        (["preset=nothing"], ["solver is null: choose solver=ab2, "]),
        (["preset=environment"], ["hydra.job.env_set.SET_TOO_LATE=1 acts after ", "SET_TOO_LATE=1 ditexp "]),
        (
            ["protocol=typo"],
            ["unknown key 'protocol.metric.kid.subset' in ", "did you mean protocol.metric.kid.subsets?"],
        ),
        (["metric=flat"], ["metric: a metric needs a name"]),
        (["solver=no_target"], ["solver has no _target_"]),
    ],
)
def test_a_users_file_is_checked_too(own, overrides, words):
    found = complaints(*overrides, own=own)
    assert all(word in found[0] for word in words), found
    assert len(found) == (2 if overrides == ["preset=typo"] else 1)


@pytest.mark.parametrize(
    "overrides",
    [
        ["+nfe=40", "steps=${nfe}"],
        ["+nfe=40", "+same=${nfe}", "steps=${same}"],
        ["+mine.nfe=40", "steps=${oc.select:mine.nfe,3}"],
        ["+mine.nfe=40", "+which=nfe", 'steps="${mine.${which}}"'],
        ["+tag=x", "hydra.run.dir=runs/${tag}"],
        ["+half=40", "schedule=uniform"],  # which schedule=own reads: cells of one sweep
        ["preset=helper"],
        ["protocol=own"],
        ["protocol=own", "metric=[own]"],
        ["~metric.fid"],
        ["reference=none", "feature=none", "metric=[]"],
    ],
)
def test_what_another_value_refers_to_is_read(own, overrides):
    settled(*overrides, own=own)


def test_the_types_of_every_component_can_be_checked():
    """An annotation that is imported for type checkers alone would turn the check of its component's settings off."""
    text = "".join(file.read_text() for file in packaged("conf").rglob("*.yaml"))
    for target in set(re.findall(r"_target_: (ditexp\.[\w.]+)", text)):
        component = get_object(target)
        get_type_hints(component.__init__ if inspect.isclass(component) else component)


@pytest.mark.slow
def test_every_study_is_read():
    for file in sorted(packaged("experiments").glob("*/sweep.yaml")):
        params = OmegaConf.select(OmegaConf.load(file), "hydra.sweeper.params") or {}
        swept = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
        (cells,) = BasicSweeper.split_arguments(swept, None)
        for overrides in (cells[0], cells[-1]):
            settled(f"experiment={file.parent.name}", *overrides)


def test_the_environment_is_read_once_and_as_if_typed(monkeypatch):
    values = {"COUNT": "64", "LIST": "[1,7]", "NAME": "a, b", "DIGITS": "2024"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    cfg = settled(
        *("num_samples=${oc.env:COUNT}", "condition.classes=${oc.env:LIST}", "study=${oc.env:NAME}"),
        *("outputs=${oc.env:DIGITS}", "seed=${oc.env:NOT_SET,3}", 'slice="${oc.decode:${oc.env:COUNT}}"'),
        "hydra.run.dir=runs/${oc.env:NAME}",
    )
    for name in values:
        monkeypatch.setenv(name, "changed")
    assert (cfg.num_samples, cfg.condition.classes, cfg.study) == (64, [1, 7], "a, b")
    assert (cfg.outputs, cfg.seed, cfg.slice, cfg.hydra.run.dir) == ("2024", 3, 64, "runs/a, b")


def test_a_number_in_quotes_is_refused():
    assert not_whole_numbers(OmegaConf.create({"seed": "3"}), seed=0) == [
        "seed=3: give a whole number of at least 0, without quotes"
    ]


@dataclass
class Ended:
    cells: list[dict]  # what each was made of
    folders: list[str]  # where each was
    results: list[Result]  # in the report
    code: int
    complaints: list[str]


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """run("-m", ...) is the main command in this process, whose cells fail before they sample."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str) -> Ended:
        cells, folders, results = [], [], []

        def stop(cell: Cell, **kwargs) -> Result:
            cells.append(cell.config)
            folders.append(os.getcwd())
            raise RuntimeError("on purpose")

        def report(found: list[Result], *args, **kwargs) -> SimpleNamespace:
            results.extend(found)
            return SimpleNamespace(table=None, paths={}, failed=[])

        monkeypatch.setattr(sweep.job, "run", stop)
        monkeypatch.setattr(summary, "write_report", report)
        monkeypatch.setattr(summary, "show", lambda report: None)
        flags = [argument for argument in arguments if argument.startswith("-")]
        rest = [argument for argument in arguments if not argument.startswith("-")]
        monkeypatch.setattr(sys, "argv", ["ditexp.run", *flags, "tracker=none", "metric=[]", *rest])
        with pytest.raises(SystemExit) as ended:
            main()
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ditexp: ")]
        return Ended(cells, folders, results, ended.value.code, [line.removeprefix("ditexp: ") for line in lines])

    return start


def test_what_was_checked_is_what_runs(run, own, monkeypatch):
    """Though a file and the environment change between the check and the first cell."""
    monkeypatch.setenv("COUNT", "64")
    expect = sweep.expect

    def change(*arguments) -> None:
        (own / "preset" / "helper.yaml").write_text("# @package _global_\nsteps: 3\nprecision: nonsense\n")
        monkeypatch.setenv("COUNT", "1000")
        expect(*arguments)

    monkeypatch.setattr(sweep, "expect", change)
    ended = run(f"--config-dir={own}", "-m", "preset=helper", "solver=euler,heun", "num_samples=${oc.env:COUNT}")
    assert [(cell["steps"], cell["num_samples"], cell["precision"]) for cell in ended.cells] == [(40, 64, "fp32")] * 2
    assert ended.code == 1 and [result.settings["solver"] for result in ended.results] == ["euler", "heun"]


def test_a_job_runs_the_config_that_it_was_given(run, own, monkeypatch, tmp_path):
    """As submitit and Ray have it: pickled, and run when the files have changed, from another folder."""
    register_with_hydra()
    from hydra_plugins.ditexp_clusters import Job
    from hydra_plugins.ditexp_launchers import LocalLauncher

    def launch(self, job_overrides, initial_job_idx):
        sent = pickle.dumps(self.checked(job_overrides, initial_job_idx))
        (own / "preset" / "helper.yaml").write_text("# @package _global_\nsteps: 3\n")
        monkeypatch.chdir(own)
        for cfg in pickle.loads(sent).values():
            Job(self)(cfg)
        return []

    monkeypatch.setattr(LocalLauncher, "launch", launch)
    ended = run(f"--config-dir={own}", "-m", "preset=helper", "solver=euler,heun")
    assert [cell["steps"] for cell in ended.cells] == [40, 40] and ended.folders == [str(tmp_path)] * 2
    assert len(ended.results) == 2


def test_a_primary_file_of_ones_own(run, own):
    ended = run(f"--config-dir={own}", "--config-name=own")
    (complaint,) = ended.complaints
    assert "unknown key 'num_sample' in own/own.yaml; did you mean num_samples?" in complaint


def test_relative_paths_start_where_the_command_is_typed(run, tmp_path):
    ended = run("-m", "solver=euler,heun", "hydra.job.chdir=true")
    assert ended.folders == [str(tmp_path)] * 2
    assert len(list((tmp_path / "outputs" / "runs").glob("*/*/cell.json"))) == 2


def test_a_cell_that_leaves_nothing_is_a_failure(run, monkeypatch):
    monkeypatch.setattr(sweep, "save_result", lambda *args: None)
    ended = run("-m", "solver=euler,heun")
    assert ended.code == 1 and ended.complaints == ["2 of 2 cells failed; the same command tries them again"]
    assert [result.error for result in ended.results] == ["it ended without a result"] * 2


def test_cells_of_an_earlier_sweep_in_the_same_folder_do_not_count(run, tmp_path):
    run("-m", "seed=1,2,3", "hydra.sweep.dir=mine")
    ended = run("-m", "seed=4", "hydra.sweep.dir=mine")
    assert [result.settings["seed"] for result in ended.results] == [4]
    assert ended.complaints == ["the cell failed; the same command tries it again"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-m", "seed=range(0,0)"], "the sweep has no cells, because a key has no values: give it one"),
        (["-m", "seed=1,2", "hydra.sweep.subdir=x"], "hydra.sweep.subdir=x: cells would share this folder: "),
        (
            ["-m", "seed=1,2", "hydra/launcher=basic"],
            "hydra/launcher=basic does not check cells before it runs them: choose",
        ),
        (["-m", "seed=1,2", "+num_sample=1"], "unknown key 'num_sample'; did you mean num_samples?"),
        (["experiment=digits_steps"], "this is a sweep over solver, steps, seed: add -m, or give each a value"),
        (["experiment=digits_steps", "hydra/launcher=plan"], "this is a sweep over "),
        (["+hydra.job.env_set.OMP_NUM_THREADS=7"], "hydra.job.env_set.OMP_NUM_THREADS=7 acts after the settings are"),
        (["-m", "+hydra.job.env_set.OMP_NUM_THREADS=7"], "hydra.job.env_set.OMP_NUM_THREADS=7 acts after the settings"),
        (["hydra.job.env_copy=[NOT_SET]"], "hydra.job.env_copy: the environment has no 'NOT_SET': export it"),
        (["~nothing"], "~nothing: there is no such setting to remove: leave it out"),
        (["~solver.order"], "~solver.order: there is no such setting to remove: leave it out"),
        (["~outputs"], "hydra.run.dir refers to outputs, which is not set: give outputs=..., or"),
        (
            ["~schedule.steps"],
            "ditexp.schedule.uniform.Uniform: it needs 'steps', which the configuration does not give",
        ),
        (
            ["reference=null"],
            "reference=null: null is not an option: leave it out, or choose reference=digits, folder, ",
        ),
        (["+solver=heun"], "+solver=heun: solver has an option already: leave the plus out to choose another"),
    ],
)
def test_a_command_that_means_nothing_is_one_line(run, arguments, complaint):
    ended = run(*arguments)
    assert ended.code == 2 and not ended.cells
    assert [line[: len(complaint)] for line in ended.complaints] == [complaint]


def test_blocks_that_are_missing_without_a_slice_are_a_failure(monkeypatch, tmp_path):
    register_with_hydra()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "sample", lambda *args: None)
    for part, missing in (("null", "blocks 0 to 3 are"), ("2/4", "block 1 is")):
        overrides = ("num_samples=1024", "metric=[]", "tracker=none", "steps=2", f"slice={part}")
        cfg = settled(*overrides)
        with open_dict(cfg):
            del cfg["hydra"]
        with pytest.raises(RuntimeError, match=f"{missing} missing in .*; the same command makes them again"):
            job.run(build(cfg), settings={}, command="", watch=Watch())
    cfg.slice = "5/5"  # no block is this one's: it is not its fault that some are missing
    assert job.run(build(cfg), settings={}, command="", watch=Watch()).status == "incomplete"


def test_a_result_that_cannot_be_written_is_reported_before_sampling(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "sample", lambda *args: pytest.fail("samples were made"))
    Path("outputs").mkdir()
    Path("outputs/results").touch()
    cfg = settled("num_samples=16", "metric=[]", "tracker=none", "steps=2")
    with open_dict(cfg):
        del cfg["hydra"]
    with pytest.raises(FileExistsError, match="results"):
        job.run(build(cfg), settings={}, command="", watch=Watch())
