"""Which server, account and project a W&B run goes to, what is remembered of it, and what W&B refuses."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from hydra import compose, initialize_config_dir
from PIL import Image
from wandb.sdk import wandb_setup

from ditexp.cli.command import register_with_hydra
from ditexp.result import Result, Status
from ditexp.run import checking
from ditexp.tracker import destination, service, writer
from ditexp.tracker.destination import Options
from ditexp.tracker.memory import opened
from ditexp.tracker.runs import WandbRuns
from ditexp.tracker.wandb import WandbTracker
from tests.helpers.offline_wandb import read_runs
from tests.helpers.paths import CONF
from tests.helpers.refusals import refused
from tests.helpers.wandb_server import WandbServer

pytestmark = pytest.mark.usefixtures("lonely_wandb")
OTHER_KEY = "9" * 40
ONLINE = destination.Destination(
    mode="online",
    problem="",
    server="one",
    page="one",
    entity="",
    project="p",
    account="key",
    folder=Path("unused"),
    group=None,
    tags=(),
)


def cell(id: str, status: Status = "done", **more: Any) -> Result:
    return Result(
        id=id,
        status=status,
        study="solvers",
        settings={"model": "digits", "solver": "heun", "steps": 20},
        sample_id="9b",
        num_samples=4,
        metrics={"fid": 3.0},
        **more,
    )


@pytest.fixture
def log(tmp_path, monkeypatch, caplog):
    """log(cell, ...) logs as one command does, and gives the lines that it prints."""
    caplog.set_level("INFO", "ditexp")

    def run(*cells: Result, folder: Path = tmp_path / "wandb", **settings) -> list[str]:
        caplog.clear()
        monkeypatch.setattr(service, "_attempts", ["online", "offline", "offline"])
        service._refused.clear()
        tracker = WandbRuns(Options(folder=folder, **settings))
        tracker.check()
        for result in cells:
            tracker.log_cell(result)
        tracker.close()
        return lines_of(caplog)

    return run


def lines_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("ditexp")]


def state(server: WandbServer) -> dict:
    """What would change if a run was sent again."""
    return {id: (run.project, run.facts.get("entity"), len(run.history)) for id, run in server.runs.items()}


def use(monkeypatch, server: WandbServer) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def picture(tmp_path) -> Path:
    """Rows of history come with pictures: a run that is sent twice has one more."""
    Image.new("RGB", (4, 4)).save(tmp_path / "grid.png")
    return tmp_path / "grid.png"


def test_memory_tells_servers_accounts_projects_and_runs_apart(tmp_path, monkeypatch):
    entities, sent = {"key": "me", "new key": "me", "other": "colleague"}, []

    def begin(where, *, id, **run):
        return SimpleNamespace(id=id, entity=entities[where.account], resumed=False, summary={})

    def finish(session, show, status):
        if show:
            sent.append((session.id, status))

    monkeypatch.setattr(writer, "begin", begin)
    monkeypatch.setattr(writer, "finish", finish)

    def send(id="a", status="done", **changes) -> tuple[str, bool]:
        where = dataclasses.replace(ONLINE, **changes)
        runs = writer.Writer(tmp_path / "logged", tmp_path / "before")
        with runs.record(f"{id}.{status}") as record:
            return runs.online(lambda run: None, where, record, None, id=id, status=status, name="n", watched=None)

    new = [{}, {"id": "b"}, {"status": "failed"}, {"server": "two"}, {"account": "other"}, {"project": "q"}]
    assert [send(**changes) for changes in new] == [("colleague" if "account" in c else "me", True) for c in new]
    assert len(sent) == len(new)
    assert not any(is_new for _, is_new in [send(**changes) for changes in new])
    assert send(account="new key") == send(entity="me", account="new key") == ("me", False)
    assert send(entity="team") == ("team", True) and send(entity="team") == ("team", False)


@pytest.mark.slow
def test_another_server_gets_everything_and_the_same_one_nothing(log, server, picture, monkeypatch):
    cells = [cell("a", grid=picture), cell("b", "failed", error="no memory")]
    page = f"{server.url}/somebody/ditexp"
    assert log(*cells) == [f"W&B: {page} (sent: 2 cells)"]
    requests, before = server.requests, state(server)
    assert log(*cells) == [f"W&B: already on {page}: 2 cells"]
    assert log(*cells, cell("c")) == [f"W&B: {page} (sent: 1 cell; already there: 2 cells)"]
    assert requests < server.requests and {**state(server), "c": None} == {**before, "c": None}
    with WandbServer() as other:
        use(monkeypatch, other)
        assert log(*cells) == [f"W&B: {other.url}/somebody/ditexp (sent: 2 cells)"]
        assert state(other) == before
    use(monkeypatch, server)
    requests = server.requests
    assert log(*cells, cell("c")) == [f"W&B: already on {page}: 3 cells"]
    assert server.requests == requests  # nobody had to be asked


@pytest.mark.slow
def test_another_account_or_project_gets_everything_and_a_new_key_nothing(log, server, picture, monkeypatch):
    a = cell("a", grid=picture)
    log(a)
    monkeypatch.setenv("WANDB_API_KEY", OTHER_KEY)
    assert log(a) == [f"W&B: already on {server.url}/somebody/ditexp: 1 cell"]
    assert state(server) == {"a": ("ditexp", "somebody", 1)}
    server.entity = "colleague"
    monkeypatch.setenv("WANDB_API_KEY", "8" * 40)
    assert log(a) == [f"W&B: {server.url}/colleague/ditexp (sent: 1 cell)"]
    assert log(a, entity="team") == [f"W&B: {server.url}/team/ditexp (sent: 1 cell)"]
    monkeypatch.setenv("WANDB_ENTITY", "team")
    assert log(a) == [f"W&B: already on {server.url}/team/ditexp: 1 cell"]
    monkeypatch.setenv("WANDB_PROJECT", "thesis")
    assert log(a) == [f"W&B: {server.url}/team/thesis (sent: 1 cell)"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert log(a) == [f"W&B: already on {server.url}/team/thesis: 1 cell"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "status", "complaint"),
    [
        ("refused", 403, "W&B does not allow writing it: unlock it there"),
        ("refused", 400, "W&B does not accept one of its values"),
        ("cut", 413, "413 Request Entity Too Large"),
        ("large", 413, "413 Request Entity Too Large"),
    ],
)
def test_a_run_that_is_refused_is_the_only_one_offline(what, status, complaint, log, server, picture, tmp_path):
    refusing = getattr(server, what)
    refusing["a"] = status
    a, b = cell("a", grid=picture), cell("b")
    for _ in range(2):
        warning, where, how = log(a, b)
        assert warning.startswith("W&B: cell heun-20 (run a) stays offline, and the same command tries it again: ")
        assert complaint in warning and len(warning) < 330
        assert where.startswith((f"W&B: {server.url}/somebody/ditexp (", "W&B: already on"))
        assert how.startswith("W&B runs are offline; upload them with: wandb sync ")
        assert server.runs["b"].exit_code == 0
        assert [folder.name[-2:] for folder in tmp_path.glob("wandb/wandb/offline-run-*")] == ["-a"]
    refusing.clear()
    assert log(a, b)[0].startswith(f"W&B: {server.url}/somebody/ditexp (sent: 1 cell; already there")
    assert server.runs["a"].exit_code == 0 and server.runs["a"].summary["status"] == "done"


@pytest.mark.slow
def test_a_key_that_the_server_does_not_know_is_of_the_server(log, server):
    server.refused = dict.fromkeys("ab", 401)
    warning, how = log(cell("a"), cell("b"))
    assert warning.startswith("W&B: continuing offline") and how.startswith("W&B runs are offline")


@pytest.mark.slow
def test_a_server_that_refuses_every_run_is_asked_no_more(log, server, monkeypatch):
    monkeypatch.setattr(service, "MAX_REFUSALS", 2)
    server.refused = dict.fromkeys("abc", 403)
    lines = log(cell("a"), cell("b"), cell("c"))
    assert [line[:30] for line in lines[:2]] == ["W&B: cell heun-20 (run a) stay", "W&B: cell heun-20 (run b) stay"]
    assert lines[2] == "W&B: continuing offline, since 2 runs in a row were refused"
    assert len(lines) == 4 and lines[3].startswith("W&B runs are offline")


def test_a_deleted_run_is_logged_under_another_id(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "ditexp")
    deleted, begun = {"a", "b", "b-2"}, []

    def begin(where, *, settings, id, **run):
        begun.append((id, settings.init_timeout))
        if id in deleted:
            raise wandb.errors.CommError(
                f"Timed out while retrying: HTTP 409: run {id} was previously created and deleted"
            )
        return SimpleNamespace(id=id, entity="me", resumed=False, summary={})

    monkeypatch.setattr(writer, "begin", begin)
    monkeypatch.setattr(writer, "finish", lambda session, show, status: None)
    runs = writer.Writer(tmp_path / "logged", tmp_path / "before")
    for id in ("a", "b", "c", "a"):
        with runs.record(f"{id}.done") as record:
            show = {"status": "done", "watched": None, "name": f"cell {id}"}
            runs.online(lambda run: None, ONLINE, record, None, id=id, **show)
    assert lines_of(caplog) == [
        "W&B: run a was deleted there, and its id cannot be used again: cell a is now run a-2",
        "W&B: run b was deleted there, and its id cannot be used again: cell b is now run b-3",
    ]
    probe = service.limits.probe  # once it is known that there are such runs
    first = [("a", service.limits.init), ("a-2", probe), ("b", probe), ("b-2", probe), ("b-3", probe), ("c", probe)]
    assert begun == first
    deleted.update({f"d-{number}" for number in range(2, 10)}, {"d"})
    with runs.record("d.done") as record, pytest.raises(service.Refused, match="runs d to d-5 were all deleted"):
        runs.online(lambda run: None, ONLINE, record, None, id="d", **show)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["wandb sync", "wandb sync and wandb clean", "an earlier version"])
def test_what_is_on_the_server_by_other_ways_is_not_sent_again(by, log, server, picture, tmp_path, monkeypatch):
    a, here = cell("a", grid=picture), tmp_path / "wandb"
    log(a, folder=tmp_path / "elsewhere")
    if by == "an earlier version":
        (here / "logged" / "default" / "ditexp" / "online").mkdir(parents=True)
        (here / "logged" / "default" / "ditexp" / "online" / "a.done").touch()
    else:
        log(a, mode="offline")
        (folder,) = here.glob("wandb/offline-run-*")
        if by == "wandb sync":
            (folder / "run-a.wandb.synced").touch()
        else:
            folder.rename(tmp_path / "cleaned")
    assert log(a) == [f"W&B: already on {server.url}/somebody/ditexp: 1 cell"]
    assert state(server) == {"a": ("ditexp", "somebody", 1)} and server.runs["a"].exit_code == 0
    with WandbServer() as other:  # which has nothing by any way
        use(monkeypatch, other)
        assert log(a) == [f"W&B: {other.url}/somebody/ditexp (sent: 1 cell)"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Timed out while retrying: HTTP 409: run a was previously created and deleted", 409),
        ("Error initializing run: input: run a was previously created and deleted", 409),
        ("Failed to get resume status for run a: returned error 403: {}", 403),
        ("file transfer: upload: failed to upload: status: 413 Request Entity Too Large: body: {}", 413),
        ("filestream: fatal error: filestream: failed to upload: 403 Forbidden url=http://host/", 403),
        ("Failed to get resume status for run a: input: permission denied", 0),
        ("Failed to get resume status for run a: context deadline exceeded while retrying: HTTP 500: {}", 500),
        ("Failed to get resume status for run a: dial tcp 127.0.0.1:9: connect: connection refused", None),
    ],
)
def test_answers_about_one_run_are_told_from_those_of_a_server_that_fails(text, status):
    assert writer.status_in(text) == status
    assert writer.is_of_run(status) == (status not in (500, None))


@pytest.mark.slow
def test_offline_runs_are_written_once_unless_they_were_removed(log, tmp_path):
    log(cell("a"), mode="offline")
    (folder,) = (tmp_path / "wandb" / "wandb").glob("offline-run-*")
    for _ in range(2):
        assert log(cell("a"), mode="offline")[-1] == (
            f"W&B runs are offline; upload them with: wandb sync {folder.parent}/offline-run-*"
        )
        assert list(folder.parent.glob("offline-run-*")) == [folder]
    folder.rename(tmp_path / "removed")
    log(cell("a"), mode="offline")
    assert len(list(folder.parent.glob("offline-run-*"))) == 1


def test_a_run_that_another_process_logs_is_left_to_it(log, tmp_path):
    with opened(tmp_path / "wandb" / "logged" / "a.done.jsonl"):
        assert log(cell("a"), mode="offline") == ["W&B: another process logs 1 cell"]
    assert not list(tmp_path.rglob("*.wandb"))


def test_a_line_of_memory_that_was_cut_counts_for_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"server": "one"}\n[]\n\x00\xff\n{"server": "tw')
    with opened(path) as record:
        record.add(server="three")
    with opened(path) as record:
        assert record.find(server="one") and record.find(server="three") and not record.find(server="two")


def test_a_picture_that_cannot_be_read_costs_its_cell_nothing_else(log, picture, tmp_path):
    Path(picture).write_bytes(b"")
    warning, _ = log(cell("a", grid=picture), mode="offline")
    assert warning.startswith(f"{picture} is damaged (no image is in it): it is left out")
    (run,) = read_runs(tmp_path).values()
    assert run.summary["status"] == "done" and run.exit_code == 0


def test_ids_and_groups_that_wandb_refuses_are_changed(log, tmp_path):
    long = dataclasses.replace(cell("failed-x,y:z/1", "failed", error=""), study="s" * 200)
    assert len(log(long, mode="offline")) == 1
    (run,) = read_runs(tmp_path).values()
    assert run.run.run_id.isalnum() and run.run.run_group == "s" * 128


FILE = {"project": "from_file", "entity": "of_file", "run_group": "group_of_file", "mode": "offline"}


@pytest.mark.parametrize(
    ("file", "environment", "settings", "found"),
    [
        ({}, {}, {}, {"project": "ditexp", "entity": "", "mode": "offline", "group": None, "tags": ()}),
        (FILE, {}, {}, {"project": "from_file", "entity": "of_file", "group": "group_of_file", "mode": "offline"}),
        (FILE, {"PROJECT": "p", "ENTITY": "e"}, {}, {"project": "p", "entity": "e", "group": "group_of_file"}),
        (FILE, {"PROJECT": "p", "RUN_GROUP": "g"}, {"project": "x", "entity": "y"}, {"project": "x", "entity": "y"}),
        ({}, {"RUN_GROUP": "g", "TAGS": "one,two"}, {}, {"group": "g", "tags": ("one", "two")}),
        ({}, {"RUN_GROUP": "g", "TAGS": "o"}, {"group": "x", "tags": ("y",)}, {"group": "x", "tags": ("y",)}),
        ({}, {"MODE": "disabled"}, {}, {"mode": "disabled"}),
        ({}, {"DISABLED": "true"}, {}, {"mode": "disabled"}),
        ({}, {"DISABLED": "true", "MODE": "disabled"}, {"mode": "offline"}, {"mode": "offline"}),
        ({}, {"MODE": "dryrun"}, {}, {"mode": "offline"}),
        ({}, {"API_KEY": OTHER_KEY}, {}, {"mode": "online"}),
        ({}, {"API_KEY": OTHER_KEY, "MODE": "offline"}, {"mode": "online"}, {"mode": "online"}),
        ({}, {"API_KEY": "local-" + OTHER_KEY, "MODE": "run"}, {}, {"mode": "online", "problem": ""}),
        ({}, {"API_KEY": "short"}, {}, {"mode": "offline"}),
        ({}, {"DIR": "/tmp/of_wandb"}, {}, {"folder": Path("/tmp/of_wandb")}),
        ({}, {"MODE": "", "TAGS": "", "PROJECT": "", "BASE_URL": ""}, {}, {"mode": "offline", "project": "ditexp"}),
        ({}, {"RUN_ID": " a/b ", "RESUME": "must", "FORK_FROM": "a?_step=1", "SWEEP_ID": "s"}, {}, {"mode": "offline"}),
        ({}, {"BASE_URL": "http://me:secret@Host.org:80/"}, {}, {"server": "http://host.org:80"}),
        ({}, {"BASE_URL": "https://api.wandb.ai"}, {}, {"server": "https://forge.coreweave.com/wandb"}),
    ],
)
def test_settings_beat_variables_and_these_beat_files(file, environment, settings, found, tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    lines = ["[default]", *(f"{name} = {value}" for name, value in file.items())]
    (tmp_path / "config" / "settings").write_text("\n".join(lines))
    for name, value in environment.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setattr("wandb.setup", functools.partial(wandb_setup._setup, start_service=False))  # which is slow
    where = dataclasses.asdict(destination.find(Options(folder=tmp_path, **settings)))
    assert {name: where[name] for name in found} == found
    assert all(os.environ[f"WANDB_{name}"] == value for name, value in environment.items())


def test_variables_reach_the_run_or_are_named(log, tmp_path, monkeypatch):
    for name, value in {"TAGS": "mine", "NOTES": "a note", "RUN_GROUP": "g", "NAME": "n", "RUN_ID": "r"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    unused, *_ = log(cell("a"))
    assert unused == "W&B: ignored, since each cell is a run with its own id: WANDB_RUN_ID, WANDB_NAME"
    (run,) = read_runs(tmp_path).values()
    assert (run.run.run_id, run.run.display_name, run.run.notes, run.run.run_group) == ("a", "heun-20", "a note", "g")
    assert list(run.run.tags) == ["model:digits", "solver:heun", "mine"]


@pytest.mark.parametrize(
    ("environment", "settings", "words"),
    [
        ({}, {"project": "a/b"}, ("'a/b'", "cannot contain", "tracker.project or WANDB_PROJECT")),
        ({"PROJECT": "a:b"}, {}, ("'a:b'", "cannot contain", "tracker.project or WANDB_PROJECT")),
        ({}, {"project": "p" * 200}, ("128 characters",)),
        ({}, {"tags": ("t" * 65,)}, ("tracker.tags=ttt", "between 1 and 64 characters")),
        ({}, {"entity": "me/p"}, ("me/p", "tracker.entity or WANDB_ENTITY")),
        ({"MODE": "onlin"}, {}, ("WANDB_MODE=onlin", "'online', 'offline'")),
        ({"TAGS": "a,,b"}, {}, ("WANDB_TAGS=a,,b", "between 1 and 64 characters")),
        ({"BASE_URL": "wandb"}, {}, ("WANDB_BASE_URL=wandb", "valid URL")),
        ({"API_KEY": f" {OTHER_KEY}"}, {}, ("WANDB_API_KEY", "whitespace")),
    ],
)
def test_what_wandb_takes_in_no_run_is_refused_before_any_work(environment, settings, words, tmp_path, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setattr("wandb.setup", functools.partial(wandb_setup._setup, start_service=False))
    with refused(words):
        WandbRuns(Options(folder=tmp_path / "wandb", **settings)).check()


def test_a_sweep_asks_its_tracker_first(tmp_path, monkeypatch):
    def check(tracker: WandbTracker) -> None:
        raise ValueError(f"no such project: {tracker.options.project}")

    monkeypatch.setattr(WandbTracker, "check", check)
    register_with_hydra()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = compose("config", overrides=["steps=0", "tracker.project=a/b", f"outputs={tmp_path}"])
    with refused(["no such project: a/b"]):
        checking.check({"a cell": cfg})


@pytest.mark.parametrize(("mode", "level"), [("auto", "INFO"), ("online", "WARNING")])
def test_nobody_logged_in_is_said_before_any_work(mode, level, tmp_path, caplog):
    caplog.set_level("INFO", "ditexp")
    tracker = WandbRuns(Options(folder=tmp_path / "wandb", mode=mode))
    tracker.check()
    record = next(record for record in caplog.records if record.name.startswith("ditexp"))
    assert record.levelname == level and "nobody is logged in to http://127.0.0.1:9, so runs" in record.getMessage()
    tracker.log_cell(cell("a"))
    assert len(lines_of(caplog)) == 1
