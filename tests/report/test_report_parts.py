"""If a part of a report fails, the others are written; no failure of a report fails a sweep."""

from __future__ import annotations

import errno
import io
import os
import shlex
import struct
import zlib
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

from ditexp.cli.overrides import quoted
from ditexp.report import __main__ as command
from ditexp.report import writing
from ditexp.report.html.embedding import embed
from ditexp.report.picture_files import is_picture, read_picture
from ditexp.report.tables.table import Table
from ditexp.report.writing import write_report
from ditexp.run import summary, sweep
from ditexp.run.current import Sweep
from tests.helpers.pages import data_of
from tests.helpers.results import leave, results_of, six_cells

PARTS = {
    "table.md": "Table.markdown",
    "table.csv": "Table.csv",
    "table.tex": "Table.latex",
    "report.html": "html_page",
    "heat_map.png": "heat_map",
    "error_along_t.png": "error_along_t",
    "samples.png": "side_by_side",
}
FIGURES = ("quality_vs_cost", "heat_map", "error_along_t")


@pytest.fixture
def quick(monkeypatch):
    """A text is written instead of each figure, which would need half a second."""
    for name in FIGURES:
        monkeypatch.setattr(f"ditexp.report.writing.{name}", lambda table, *arguments: "a picture")


def fail(*arguments, **options):
    raise KeyError("nothing\nof the\x1b kind")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_is_named_and_the_others_are_written(part, tmp_path, monkeypatch, quick):
    monkeypatch.setattr("ditexp.report.writing.side_by_side", lambda table: "a picture")
    (tmp_path / part).write_text("of another sweep")
    monkeypatch.setattr(f"ditexp.report.writing.{PARTS[part]}", fail)
    report = write_report(results_of(six_cells()), tmp_path, title="x")
    assert all((tmp_path / name).is_file() == (name != part) for name in PARTS)
    assert len(report.failed) == 1 and report.failed[0].startswith(f"{tmp_path / part} was not written: KeyError:")
    assert report.failed[0].isprintable() and report.paths[part] is None


def test_a_full_disk_is_named(tmp_path, monkeypatch, quick):
    def full(table):
        raise OSError(errno.ENOSPC, "No space left on device", "/dev/full")

    monkeypatch.setattr(writing, "error_along_t", full)
    report = write_report(results_of(six_cells()), tmp_path, title="x")
    assert report.failed == [f"{tmp_path / 'error_along_t.png'} was not written: No space left on device"]


def test_published_numbers_that_cannot_be_read_are_named(tmp_path, quick):
    published = tmp_path / "published.yaml"
    published.write_text("title: [")
    report = write_report(results_of(six_cells()), tmp_path / "report", title="x", published=published)
    assert report.study is None and len(report.failed) == 1 and str(published) in report.failed[0]
    assert report.paths["table.md"].is_file()


def bomb() -> bytes:
    """A PNG with 50,000 x 50,000 pixels, according to its header."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def damaged_pictures(whole: bytes) -> dict[str, bytes]:
    return {
        "cut": whole[: len(whole) // 2],
        "header": whole[:40],
        "flipped": whole[:60] + bytes(20) + whole[80:],
        "empty": b"",
        "text": b"no picture",
        "bomb": bomb(),
    }


def test_a_damaged_picture_is_left_out_and_named(tmp_path, caplog, quick):
    results = [result for result in six_cells(tmp_path) if result["status"] == "done"]
    buffer = io.BytesIO()
    Image.effect_noise((100, 100), 50).save(buffer, "png")
    for result, content in zip(results, damaged_pictures(buffer.getvalue()).values()):
        Path(result["grid"]).write_bytes(content)
    for result in results[:2]:
        Path(result["trajectory_picture"]).unlink()
        os.mkfifo(result["trajectory_picture"])
    Path(results[-1]["grid"]).write_bytes(buffer.getvalue())
    report = write_report(results_of(results), tmp_path / "report", title="x")
    assert report.failed == [] and report.paths["samples.png"].is_file()
    rows = data_of(report.paths["report.html"].read_text())["rows"]
    assert sorted("grid" in row["pictures"] for row in rows) == [False] * 4 + [True]
    assert sum("trajectory_picture" in row["pictures"] for row in rows) == 3
    for result in results[:-1]:
        assert sum(result["grid"] in line and "is damaged" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("kind", damaged_pictures(bytes(100)))
def test_no_damaged_picture_is_an_error(kind, tmp_path):
    buffer = io.BytesIO()
    Image.effect_noise((100, 100), 50).save(buffer, "png")
    path = tmp_path / "x.png"
    path.write_bytes(damaged_pictures(buffer.getvalue())[kind])
    assert not is_picture(path) and read_picture(path) is None and embed([path]) == {}


class Broken:
    """A tracker against its protocol."""

    def log_cell(self, result):
        pass

    def log_report(self, *arguments):
        raise ValueError("no such server")

    close = log_report


@pytest.fixture
def ended(tmp_path, monkeypatch, quick):
    """A sweep whose cells have run, before its report."""
    results = [result for result in six_cells() if result["status"] == "done"]
    runs, node = tmp_path / "runs" / "$a$b, it's [c]", {"_target_": "ditexp.tracker.null.NullTracker"}
    leave([result | {"cached": False} for result in results], runs)
    hydra = {"runtime": {"choices": {"hydra/launcher": "local"}}, "overrides": {"task": []}}
    cfg = OmegaConf.create({"hydra": hydra, "outputs": str(tmp_path), "study": "$a_$b^", "tracker": node})
    cells_of_sweep = dict.fromkeys(sorted(runs.iterdir()), cfg)
    monkeypatch.setattr(sweep, "current", Sweep(cfg=cfg, folder=runs, cells=cells_of_sweep))
    return runs


def test_a_report_that_fails_fails_no_sweep(ended, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(writing, "heat_map", fail)
    monkeypatch.setattr(summary, "tracker_of", lambda cfg: Broken())
    sweep.finish()
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith(f"warning {tmp_path / 'reports' / ended.name / 'heat_map.png'} was not written: KeyError")
    assert second == "warning the report was not tracked: no such server"
    again = shlex.split(third.partition("again: ")[2])
    (override,) = OverridesParser.create().parse_overrides(again[2:])
    assert again[:2] == ["ditexp", "report"] and override.value() == str(ended)
    assert (tmp_path / "reports" / ended.name / "table.md").is_file()
    monkeypatch.setattr(Table, "of", fail)
    sweep.finish()
    assert "has no report: KeyError" in capsys.readouterr().err


def test_what_the_command_could_not_write_is_named_with_exit_code_1(ended, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(writing, "heat_map", fail)
    monkeypatch.setattr("sys.argv", ["ditexp.report", f"results={quoted(str(ended))}", f"out={tmp_path / 'out'}"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 1
    first, last = capsys.readouterr().err.splitlines()
    assert "heat_map.png was not written" in first and last.endswith(f"{tmp_path / 'out'} is not complete: see above")
    assert (tmp_path / "out" / "table.md").is_file()


def test_prompts_with_the_highest_and_lowest_scores_stand_in_a_table(tmp_path, quick):
    done, other = six_cells()[:2]
    lowest = [{"id": "b", "prompt": "a | b", "images": 2, "clip_score": 1.23456789}]
    highest = [{"id": "a", "prompt": "seven", "images": 2, "clip_score": 30.0}]
    done["prompts"] = {"table": "x.prompts.csv", "count": 2, "lowest": lowest, "highest": highest}
    text = (write_report(results_of([done, other]), tmp_path, title="x").paths["prompts.md"] or Path()).read_text()
    assert text.count("## ") == 1 and "2 of 2 prompts" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows == [
        "| id | prompt | images | clip_score |",
        "| a | seven | 2 | 30 |",
        "| b | a \\| b | 2 | 1.23457 |",
    ]
    assert write_report(results_of([other]), tmp_path, title="x").paths["prompts.md"] is None
    assert not (tmp_path / "prompts.md").exists()
