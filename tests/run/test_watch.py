"""What a cell reports while it runs, who is shown it, and what is known of a sweep that goes on or is stopped."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from unittest.mock import Mock

import pytest

from ditexp.progress import Progress
from ditexp.result import Result
from ditexp.run import stopping
from ditexp.run.forecast import Forecast, Work
from ditexp.run.underway import Underway
from ditexp.run.views import Display, LogLines, Place
from ditexp.run.watch import Watch
from ditexp.terminal.progress import progress_bar

CELL = Result(id="a", status="running", settings={"solver": "euler", "steps": 5})
STATE = Progress(
    phase="sampling",
    seconds=10,
    images=256,
    images_in_progress=64.5,
    total_images=1024,
    forwards=3205,
    images_per_second=32.05,
    seconds_left=22,
    failed_blocks=0,
)


def test_viewers_are_given_samples_notes_and_the_first_picture(tmp_path, monkeypatch):
    monkeypatch.setattr("ditexp.run.watch.TICK", 0.01)
    monkeypatch.setattr("ditexp.run.watch.JOIN", 600.0)
    viewer, broken = Mock(), Mock()
    for method in (broken.begin_cell, broken.log_progress, broken.log_preview):
        method.side_effect = OSError("the server is gone")
    with Watch([broken, viewer], folder=tmp_path) as watch:
        assert not watch.has_preview
        watch.begin(CELL, images=256, total=1024)
        watch.phase("sampling")
        watch.sampled(images=256, in_progress=64.5, forwards=3205, failed=1)
        watch.preview(lambda path: path.write_bytes(b"PNG"))
        watch.phase("scoring")
        with progress_bar("features", total=8) as bar:
            bar.advance(2)
            while viewer.log_progress.call_args.args[1].note != "features, 2 of 8 images":
                time.sleep(0.01)
    viewer.begin_cell.assert_called_once_with(CELL)
    viewer.log_preview.assert_called_once_with(CELL, tmp_path / "preview.png")
    assert watch.has_preview and (tmp_path / "preview.png").read_bytes() == b"PNG"
    states = [call.args[1] for call in viewer.log_progress.call_args_list]
    assert ("sampling", 256, 0) in [(each.phase, each.images, each.forwards) for each in states]
    noted = next(each for each in states if each.note == "features, 2 of 8 images")
    assert (noted.phase, noted.images, noted.images_in_progress, noted.total_images) == ("scoring", 256, 64.5, 1024)
    assert (noted.forwards, noted.failed_blocks) == (3205, 1)
    count = viewer.log_progress.call_count
    time.sleep(0.03)
    assert viewer.log_progress.call_count == count  # it has ended


def test_no_viewer_is_given_an_older_state_after_a_newer_one(monkeypatch):
    """Even if the thread that shows a cell once a second is stopped between looking and showing."""
    looked, newer, phases = threading.Event(), threading.Event(), []

    def look(**facts) -> Progress:
        if threading.current_thread() is not threading.main_thread():
            looked.set()
            newer.wait(0.3)
        return Progress(**facts)

    monkeypatch.setattr("ditexp.run.watch.TICK", 0.01)
    monkeypatch.setattr("ditexp.run.watch.Progress", look)
    viewer = Mock()
    viewer.log_progress.side_effect = lambda cell, progress: phases.append(progress.phase)
    with Watch([viewer]) as watch:
        watch.begin(CELL, images=0, total=1024)
        assert looked.wait(120)
        watch.phase("scoring")
        newer.set()
    assert phases == sorted(phases, key=["preparing", "scoring"].index)


def test_a_batch_counts_as_far_as_its_evaluations_are(monkeypatch):
    monkeypatch.setattr("ditexp.run.underway.LONG", 0.0)
    sampler = Mock()
    sampler.evaluations.return_value = (5.0, 10.0)
    sampler.meter.cost.network_rows = 1000
    underway = Underway(sampler)
    underway.begin(8, images=16)
    assert underway.how_far() == (16, 1000)
    assert not sampler.evaluations.called  # a short batch needs no count of what is expected
    sampler.meter.cost.network_rows = 1040
    assert underway.how_far() == (20, 1040)
    sampler.meter.cost.network_rows = 2000  # more than expected
    assert underway.how_far() == (24, 2000)
    underway.end(24, 2000)
    sampler.meter.cost.network_rows = 0
    assert underway.how_far() == (24, 2000)
    underway.reset()
    assert underway.how_far() == (0, 0)


def work(id: str, images: int, forwards: float | None, *, solver: str = "", done: bool = False) -> Work:
    return Work(id=id, images=images, forwards=forwards, speed="", solver=solver, is_done=done)


def test_a_sweeps_time_is_estimated_from_evaluations_or_not_at_all():
    works = [work("a", 1024, 10), work("b", 512, 40), work("c", 0, None, done=True)]
    forecast = Forecast(works)
    forecast.begin_cell(CELL)
    forecast.log_progress(CELL, replace(STATE, phase="preparing", seconds=0, images=0, forwards=0))
    assert forecast.seconds_left(CELL, replace(STATE, seconds_left=None)) is None
    forecast.log_progress(CELL, replace(STATE, seconds=1, forwards=5))
    forecast.log_progress(CELL, STATE)  # 3205 evaluations in 9 seconds
    assert forecast.seconds_left(CELL, STATE) == pytest.approx(22 + 512 * 40 * 9 / 3205)
    works[2] = work("c", 512, None, solver="dopri5")  # adaptive, and nothing is known of it
    assert Forecast(works).seconds_left(CELL, STATE) is None
    forecast.works = works
    assert forecast.seconds_left(CELL, STATE) is None


def place(number: int = 1, total: int = 1) -> Place:
    return Place("euler 5", number, total, Forecast())


def test_the_log_has_a_line_a_minute_and_at_each_phase(caplog):
    caplog.set_level(logging.INFO, "ditexp")
    lines = LogLines(place(3, 9))
    for seconds in (10, 30, 69, 71, 90, 132):
        lines.log_progress(CELL, replace(STATE, seconds=seconds))
    lines.log_progress(CELL, replace(STATE, seconds=133, phase="scoring", note="features"))
    assert len(caplog.messages) == 4 and caplog.messages[-1].endswith("after 2 min 13 s: scoring, features")
    first = "cell 3 of 9 (euler 5) after 10 s: sampling, 320 of 1,024 images, 32 images/s, 22 s left"
    assert caplog.messages[0] == first


def test_without_a_terminal_nothing_is_shown_live(capsys):
    display = Display(place())
    with display.shown():
        display.log_progress(CELL, STATE)
    assert capsys.readouterr() == ("", "")


def test_images_in_progress_are_not_kept(capsys, tmp_path, monkeypatch):
    """Only complete blocks are, which a resumed run finds on disk."""
    cell = Mock()
    cell.store.num_blocks, cell.store.block_size = 4, 256
    cell.store.missing.return_value = [1, 2, 3]  # of which one was half made
    cell.store.keeps_latents, cell.store.decodable.return_value = True, [1]
    cell.slice.of = list
    monkeypatch.setattr(stopping, "command", lambda: "ditexp run -m seed=0,1")
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / "cell.json").write_text(
        '{"id": "a", "status": "failed", "error": "x", "settings": {"solver": "euler", "steps": 5}}'
    )
    stopping.print_kept("interrupted", running=cell, folders=folders, sweep=tmp_path)
    first, *others = capsys.readouterr().err.splitlines()
    kept = "0 of 2 cells and 1 of 4 blocks of this one (256 of 1,024 images), and the latents of 1 more"
    assert first == f"ditexp: interrupted in cell 2 of 2; kept: {kept}"
    assert others == ["ditexp: the same command continues from there:", "  ditexp run -m seed=0,1"]
