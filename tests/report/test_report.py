import copy
import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ditexp.cli.packaged import packaged
from ditexp.outputs import Outputs
from ditexp.report.grids import by_caption, draw, image_grid
from ditexp.report.pareto import pareto_front
from ditexp.report.plots.heat_map import heat_map
from ditexp.report.plots.side_by_side import choose_samples
from ditexp.report.reading import study_results
from ditexp.report.recommend import recommend
from ditexp.report.studies.comparison import compare, study_table
from ditexp.report.studies.published import load
from ditexp.report.tables.printing import print_table
from ditexp.report.tables.rows import MANY_SEEDS
from ditexp.report.tables.significance import difference, worse_than_best
from ditexp.report.writing import write_report as write
from ditexp.terminal.console import Terminal
from ditexp.values import Sheet
from tests.helpers.results import cell, failed, leave, recorded, results_of, sampled, table_of


def write_report(results, folder):
    return write(results_of(results), folder, title="solvers")


def headers(table):
    return [column.header for column in table.columns]


def on_terminal(table, width=200):
    terminal = Terminal(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    print_table(terminal, table, file="table.csv")
    return terminal.file.getvalue()


def test_columns_are_what_differs_then_cost_then_metrics():
    table = table_of([cell(), cell(solver="heun", steps=10, fid=2.0)])
    assert headers(table) == (
        ["solver", "steps", "NFE", "forwards", "s/image", "images/s", "FID", "IS", "Precision", "Recall"]
    )
    varied = cell(steps=10)
    varied["settings"]["weight"] = 1.5
    varied["cost"]["peak_memory_mb"] = 512.0
    table = table_of([cell(), varied])
    assert headers(table)[:3] == ["solver", "weight", "steps"] and "peak MB" in headers(table)
    assert table.column("peak_memory_mb").values.count(None) == 1


def test_a_components_settings_are_shown_where_they_tell_cells_apart():
    heun, euler = cell(solver="heun"), cell(solver="euler")
    heun["settings"]["solver.correct_last"] = True
    assert "solver.correct_last" not in headers(table_of([heun, euler]))
    other = copy.deepcopy(heun) | {"id": "other"}
    other["settings"]["solver.correct_last"] = False
    table = table_of([heun, euler, other])
    assert "solver.correct_last" in headers(table)
    assert sorted(table.labels[row] for row in range(3)) == [
        "euler",
        "heun, solver.correct_last false",
        "heun, solver.correct_last true",
    ]


def test_a_small_feature_network_is_named_in_every_metric_header():
    table = table_of([cell(feature="digits"), cell(id="1", feature="inception", fid=9.0)])
    assert {"FID (digits)", "IS (digits)", "Precision (digits)", "Recall (digits)", "FID"} <= set(headers(table))
    # numbers from two networks never share a column, nor a best mark
    assert table.column("digits/fid").values == (1.0, None)
    assert table.column("inception/fid").values == (None, 9.0)
    assert table.column("digits/fid").best == table.column("inception/fid").best == set()


def test_rows_go_from_best_to_worst_then_nan_then_failed():
    results = [failed(id="f"), cell(id="n", fid=math.nan), cell(id="b", fid=2.0), cell(id="a", fid=1.0)]
    assert [row.first.id for row in table_of(results).rows] == ["a", "b", "n", "f"]
    for result in results[1:]:
        del result["metrics"]["fid"]
    results[2]["metrics"] = {"inception_score": 1.0}
    results[1]["metrics"] = {"inception_score": 3.0}
    results[3]["metrics"] = {"inception_score": 2.0}
    assert [row.first.id for row in table_of(results).rows] == ["n", "a", "b", "f"]  # highest IS first


def test_best_marks():
    a, b, c = cell(fid=2.0), cell(steps=50, fid=1.0), cell(steps=40, fid=1.0)
    a["metrics"]["precision"], b["metrics"]["recall"] = 0.9, 0.9
    for result, memory in zip((a, b, c), (512.0, 600.0, 700.0)):
        result["cost"]["peak_memory_mb"] = memory
    table = table_of([a, b, c])  # in the table: b, c, a
    best = {column.name: column.best for column in table.columns}
    assert best["inception/fid"] == {0, 1}
    assert best["inception/precision"] == {2} and best["inception/recall"] == {0}
    assert best["seconds_per_image"] == best["images_per_second"] == best["peak_memory_mb"] == {2}
    assert not best["steps"] and not best["nfe"] and not best["forwards"] and not best["solver"]
    assert table.fid.texts == ["1.00", "1.00", "2.00 ?"]  # equal ones are as good; of the other nothing is known
    assert table.markdown().count("**1.00**") == 2 and r"\textbf{1.00}" in table.latex()


def test_no_best_among_cells_with_different_protocols():
    table = table_of([cell(fid=1.0), cell(steps=50, fid=2.0, num_samples=100)])
    assert table.fid.best == set() and table.column("seconds_per_image").best
    assert headers(table)[:2] == ["solver", "num_samples"]
    assert len(table.caption) == 2 and "number of samples" in table.caption[1]
    assert len(table_of([cell(), cell(steps=50)]).caption) == 1  # equal in all


def test_a_number_of_another_protocol_is_marked_and_the_mark_explained():
    usual = {"feature": {"name": "inception", "resize": "tensorflow"}, "reference": {"name": "x", "count": 9}}
    clean = usual | {"protocol": "clean_fid", "feature": {"name": "inception", "resize": "clean"}}
    results = [cell(id=str(i), steps=i, fid=2.0 + i, protocol=usual | {"protocol": "adm"}) for i in (1, 2)]
    table = table_of([*results, cell(id="3", steps=3, fid=1.0, protocol=clean), failed(id="4")])
    assert table.fid.texts == ["1.00†", "3.00", "4.00", "–"] and table.fid.best == set()
    assert "Protocol: adm / clean_fid." in table.caption[0]
    assert table.caption[1].startswith("† not comparable with the others: protocol clean_fid; weights")
    assert "1.00†" in table.markdown() and r"1.00\textdagger{}" in table.latex()
    assert list(csv.reader(io.StringIO(table.csv())))[1][table.columns.index(table.fid)] == "1.0"


def test_a_setting_that_departs_from_the_protocol_is_marked_as_well():
    usual = cell()["protocol"] | {"protocol": "adm", "changed": []}
    changed = usual | {"changed": ["metric.precision_recall.k=5"]}
    table = table_of([cell(protocol=usual), cell(fid=3.0, protocol=usual), cell(fid=2.0, protocol=changed)])
    assert table.column("inception/precision").texts == ["0.700", "0.700†", "0.700"]
    assert table.caption[1] == "† not comparable with the others: protocol adm, metric.precision_recall.k=5."


def test_caption_names_feature_reference_and_count_in_markdown_and_latex():
    table = table_of([cell(feature="digits"), cell(feature="digits", steps=50)])
    for text in (table.markdown(), table.latex()):
        assert all(fact in text for fact in ("Features: digits", "digits (1,797 images)", "500"))


def test_a_failed_cell_shows_its_steps_and_its_error():
    table = table_of([cell(), failed(solver="rk4", steps=5)])
    assert table.column("steps").values == (20, 5) and table.column("forwards").values == (40.0, None)
    for text in (table.markdown(), table.csv(), table.latex(), on_terminal(table)):
        assert "not finite at step 3" in text
    assert "error" not in headers(table_of([cell()]))


def test_only_failed_cells(tmp_path):
    report = write_report([failed()], tmp_path)
    assert "not finite" in report.paths["table.md"].read_text()
    assert report.paths["quality_vs_cost.png"] is None and report.table.fid is None


def test_markdown_escapes_and_keeps_its_shape():
    error = "a|b *c* `d` <e> _f_ batch_size 50%\nnext"
    text = table_of([cell(), failed(error=error)]).markdown()
    assert r"a\|b \*c\* \`d\` \<e> \_f\_ batch_size 50% next" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert len(bars) == 1 and len({len(line) for line in lines}) == 1 and len(lines) == 4


def test_latex_escapes():
    text = table_of([cell(), failed(error=r"50% of a_b & c#d $e {f} \g ~h ^i")]).latex()
    assert r"50\% of a\_b \& c\#d \$e \{f\} \textbackslash{}g \textasciitilde{}h \textasciicircum{}i \\" in text
    ampersands = {len(re.findall(r"(?<!\\)&", line)) for line in text.splitlines() if line.endswith(r"\\")}
    assert len(ampersands) == 1


def test_csv_gives_back_the_exact_numbers():
    numbers = [math.pi, 1 / 3, 1e-17, 123456789.123456789]
    results = [cell(id=str(i), steps=i + 1, fid=value) for i, value in enumerate(numbers)]
    for result, value in zip(results, numbers):
        result["cost"]["seconds_per_image"] = value
        result["deviations"] = {"recall": recorded(value, -value)}
    results.append(cell(steps=9, fid=math.nan))
    rows = list(csv.DictReader(io.StringIO(table_of(results).csv())))
    assert [float(row["inception/fid"]) for row in rows[:4]] == sorted(numbers)
    assert math.isnan(float(rows[4]["inception/fid"]))
    for row in rows[:4]:
        assert row["inception/fid"] == row["seconds_per_image"]
        assert float(row["inception/recall_sd"]) == pytest.approx(2**0.5 * float(row["inception/fid"]), rel=1e-12)


def test_numbers_of_a_column_share_their_decimals():
    table = table_of([cell(fid=0.0123), cell(steps=50, fid=12.3), cell(steps=40, fid=math.nan)])
    assert table.fid.texts == ["0.0123", "12.3000 ?", "nan"]
    assert table.column("forwards").texts == ["40", "100", "80"]
    spread = cell(deviations={"inception_score": recorded(0.125, 0.0, -0.125)})
    assert table_of([spread]).column("inception/inception_score").texts[0] == "8.00 ± 0.12"


def test_no_metrics_no_picture(tmp_path):
    write_report([cell(), cell(steps=50)], tmp_path)
    assert (tmp_path / "quality_vs_cost.png").exists()
    report = write_report([cell(metrics={}, protocol={}), cell(steps=50, metrics={}, protocol={})], tmp_path)
    assert report.paths["quality_vs_cost.png"] is None and report.paths["samples.png"] is None
    assert not (tmp_path / "quality_vs_cost.png").exists()  # it would show other results
    assert report.table.caption == ["Samples per cell: 500."]


@pytest.mark.parametrize(
    "fids",
    [[1.0], [1.0, 1.0], [0.0, -0.1], [math.nan, 2.0], [100.0, 1.0, 0.01], [5.0 + i for i in range(40)]],
)
def test_pictures_of_all_sorts_of_results(tmp_path, fids):
    results = [
        cell(id=str(i), fid=fid, steps=10 * (i + 1), solver=f"s{i % 9}", feature="digits") for i, fid in enumerate(fids)
    ]
    report = write_report([*results, failed(solver="rk4")], tmp_path)
    with Image.open(report.paths["quality_vs_cost.png"]) as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24)) > 10
    assert not list(tmp_path.glob(".*"))


def test_nothing_but_nan_makes_no_picture(tmp_path):
    assert write_report([cell(fid=math.nan)], tmp_path).paths["quality_vs_cost.png"] is None


def test_the_front_is_what_nothing_beats():
    points = {0: (10, 5.0), 1: (20, 6.0), 2: (20, 3.0), 3: (40, 3.0), 4: (80, 1.0), 5: (5, 9.0)}
    assert pareto_front(points) == [5, 0, 2, 4]


def test_samples_side_by_side_are_at_most_nine_and_unaltered(tmp_path):
    results = []
    for i, solver in enumerate(["euler", "heun", "rk4", "midpoint"]):
        for steps in (5, 10, 20, 50):
            grid = tmp_path / f"{solver}-{steps}.png"
            Image.new("RGB", (400, 200), (10 * i + 1, steps, 7)).save(grid)
            results.append(cell(solver=solver, steps=steps, fid=1 + i + 1 / steps, grid=str(grid)))
    results[0]["grid"] = str(tmp_path / "gone.png")
    table = table_of(results)
    rows, columns = choose_samples(table)
    chosen = [(table.column("solver").values[row], table.column("steps").values[row]) for row in rows]
    assert columns == 3 and chosen[3:6] == [("heun", 5), ("heun", 20), ("heun", 50)]
    assert {solver for solver, _ in chosen} == {
        "euler",
        "heun",
        "rk4",
    }  # the best three; never the missing grid
    report = write_report(results, tmp_path / "report")
    with Image.open(report.paths["samples.png"]) as picture:
        colors = {color: count for count, color in picture.convert("RGB").getcolors(1 << 24)}
    assert colors[(11, 20, 7)] == 400 * 200


def test_image_grid_enlarges_with_hard_pixels():
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), dtype=np.uint8)
    grid = np.asarray(image_grid(images, 3, 4))
    assert grid.shape == (2 * 32 + 2, 3 * 32 + 2 * 2, 3)
    assert (grid[34::4, 34:66:4] == images[4]).all() and (grid[34:, 34:66] == grid[34:, 34:66].max()).mean() < 0.1
    assert (grid[32:34] == 255).all() and (grid[34:, 68:] == 255).all()
    assert image_grid(images[:, :, :, :1], 3).mode == "L"
    assert image_grid(images, 5).height == 48


@pytest.fixture
def report(ditexp):
    """report(study="x", forwards=40) runs the command."""

    def run(**settings):
        return ditexp(*(f"{name}={value}" for name, value in settings.items()), module="ditexp.report")

    return run


@pytest.mark.slow
def test_command_remakes_the_report_of_a_sweep(report, tmp_path):
    results = [cell(id="a"), cell(id="b", steps=50, fid=0.5), failed(id="c", solver="rk4")]
    leave(results, tmp_path)
    done = report(results=tmp_path, out=tmp_path / "elsewhere", forwards=40)
    assert done.code == 0, done.output
    assert (tmp_path / "elsewhere" / "table.md").read_text().startswith(table_of(results).markdown())
    assert "Best within 40 forwards: euler with 20 steps" in done.output
    (tmp_path / "1" / "cell.json").write_text("{")
    broken = report(results=tmp_path, out=tmp_path / "elsewhere")
    assert broken.code == 0 and "1/cell.json is damaged (Expecting property name enclos" in broken.output
    rest = table_of([results[0], results[2]])
    assert (tmp_path / "elsewhere" / "table.md").read_text().startswith(rest.markdown())


def test_command_gathers_a_study_from_all_its_runs(tmp_path):
    """The newest of each cell: of one that failed, was run again and then failed once more, the last failure."""
    runs = tmp_path / "runs"
    leave([cell(id="a"), failed(id="failed-1", steps=50), cell(id="other", steps=5, study="other")], runs / "1")
    leave([cell(id="b", steps=50), cell(id="a")], runs / "2")
    (runs / "3").mkdir()
    (runs / "3" / "cell.json").write_text(json.dumps(cell(id="c", solver="heun")))
    results = study_results(Outputs(tmp_path), "solvers")
    assert sorted(result.id for result in results) == ["a", "b", "c"]
    assert study_results(Outputs(tmp_path), "absent") == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ["ditexp run", "outputs="]),
        ({"results": "nowhere"}, ["nowhere", "cell.json"]),
        ({"study": "x", "results": "y"}, ["results=", "study="]),
        ({"study": "x", "forwards": "many"}, ["forwards=many", "above 0"]),
        ({"study": "x", "seconds": 0}, ["seconds=0", "above 0"]),
        ({"stud": "x"}, ["stud", "did you mean study"]),
        ({"study": "absent"}, ["study=absent", "experiment=absent"]),
        ({"study": "../x"}, ["study=../x is a path", "results="]),
        ({"study": "/tmp"}, ["study=/tmp is a path", "results="]),
    ],
)
def test_command_refuses_in_one_line(settings, words, report, tmp_path):
    done = report(outputs=tmp_path, **settings)
    assert done.code == 2 and len(done.output.splitlines()) == 1
    assert all(word in done.output for word in words), done.output


def test_matplotlib_is_only_imported_for_pictures():
    code = "import sys, ditexp.report.writing; assert 'matplotlib' not in sys.modules and 'wandb' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=600).returncode == 0


def test_results_are_left_alone(tmp_path):
    results = [cell(), failed()]
    before = copy.deepcopy(results)
    write_report(results, tmp_path)
    assert results == before


def test_solvers_beside_the_exact_flow_have_pictures_of_their_own(tmp_path):
    """Without a feature network's name at their columns, and with no FID needed."""
    results = []
    for steps in (2, 4):
        metrics = {"trajectory_rmse": 0.1 / steps, "trajectory_order": 1.0, "round_trip_rmse": 0.2}
        along = [[i / steps, 0.01 * i] for i in range(steps + 1)]
        results.append(cell(steps=steps, metrics=metrics, trajectory={"error_along_t": along}))
    adaptive = cell(solver="dopri5", metrics={"trajectory_rmse": 0.001}, trajectory={})
    report = write_report([*results, adaptive], tmp_path)
    assert {"RMSE to exact", "order", "round trip"} <= set(headers(report.table))
    assert report.paths["quality_vs_cost.png"] is None
    for name in ("error_vs_cost.png", "error_along_t.png"):
        with Image.open(report.paths[name]) as picture:
            assert picture.width > 1000 and len(picture.convert("RGB").getcolors(10**6)) > 20
    report = write_report([cell()], tmp_path)
    assert report.paths["error_vs_cost.png"] is None and report.paths["error_along_t.png"] is None


def sheet(**texts) -> Sheet:
    """Two rows of three black images."""
    return Sheet(torch.zeros(2, 3, 1, 8, 8, dtype=torch.uint8), **texts)


def test_a_sheet_has_its_captions_beside_the_images():
    plain = draw(sheet())
    assert plain.size == (3 * 50 - 2, 2 * 50 - 2)
    long = "a harbour at dawn, " * 20
    page = draw(sheet(columns=("input", "mask", "result"), rows=("one", long)))
    left, top = page.width - plain.width, page.height - plain.height
    assert 100 < left < 400 and top > 15  # a long caption is cut off, and doesn't push the images away
    dark = np.asarray(page.convert("L")) < 100
    assert dark[top:, :left][: plain.height // 2].any() and dark[top:, :left][plain.height // 2 :].any()
    assert all(dark[:top, left + 50 * i : left + 50 * i + 48].any() for i in range(3))
    assert not dark[:top, :left].any() and dark[top : top + 48, left : left + 48].all()


def test_images_stand_by_their_captions():
    images = torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1).expand(7, 1, 2, 2)
    by = by_caption(images, ["a", "b", "a", "c", "b", "a", "c"])
    assert by.rows == ["a", "b", "c"]
    assert by.images[:, :, 0, 0, 0].tolist() == [[0, 2], [1, 4], [3, 6]]


# ---- seeds, noise and advice


def of_seeds(values, **changes):
    """A cell of several seeds, without halves."""
    results = [cell(id=f"{seed}-{changes}", fid=value, **changes) for seed, value in enumerate(values)]
    for seed, result in enumerate(results):
        result["settings"]["seed"] = seed
    return results


def test_seeds_of_a_cell_become_one_row():
    """Few seeds are not enough to estimate their spread, so that ± comes from halves of the samples."""
    fids = {0: 2.0, 1: 1.0, 2: 6.0}
    noises = {0: (0.3, -0.3, 0.0, 0.0), 1: (0.6, -0.6, 0.0, 0.0), 2: (0.0, 0.1, -0.1, 0.0)}
    several = [sampled(seed, noises[seed], fid=fid) for seed, fid in fids.items()]
    table = table_of([*several, sampled(0, steps=50, fid=4.0)])
    assert table.column("seeds").values == (3, 1) and table.column("seed").values == ("0, 1, 2", 0)
    assert table.fid.values == (3.0, 4.0)
    pooled = np.mean([np.var(noise, ddof=1) for noise in noises.values()]) ** 0.5
    assert table.fid.spread == (pytest.approx(pooled), pytest.approx(np.std([0.3, -0.3, 0, 0], ddof=1)))
    assert table.column("inception/fid_best_seed").values == (1.0, None)
    assert [len(row.members) for row in table.rows] == [3, 1]
    caption = " ".join(table.caption)
    assert "between sample sets, estimated from 4 random halves of a cell's samples; error from" in caption
    assert "seeds of a row" not in caption
    other = [sampled(seed, fid=9.0 + seed, feature="dinov2") for seed in (0, 1)]
    both = table_of([sampled(seed, fid=fid) for seed, fid in fids.items()] + other)
    assert sorted(both.column("inception/fid_best_seed").values, key=str) == [1.0, None]


def test_the_spread_of_many_seeds_is_their_own():
    fids = [2.0, 1.0, 6.0, 3.0, 3.0]
    assert len(fids) == MANY_SEEDS
    many = [sampled(seed, fid=fid) for seed, fid in enumerate(fids)]
    table = table_of(many)
    assert table.fid.spread == (pytest.approx(np.std(fids, ddof=1)),)
    assert "between sample sets, estimated from the seeds of a row with 5 or more; error" in " ".join(table.caption)
    mixed = " ".join(table_of([*many, sampled(steps=50)]).caption)
    assert "4 random halves of a cell's samples or from the seeds of a row with 5 or more" in mixed
    assert table_of(of_seeds(fids)).fid.spread == (pytest.approx(np.std(fids, ddof=1)),)
    assert table_of(of_seeds(fids[:-1])).fid.spread == ()
    assert table_of(of_seeds([*fids[:-1], math.inf])).fid.spread == ()


def test_halves_that_agree_do_not_show_an_error_of_nothing():
    """As of a share, where every sample is right."""
    table = table_of([sampled(0, (0.0,) * 4, fid=1.0), sampled(0, (0.1, -0.1, 0.0, 0.0), steps=50, fid=2.0)])
    assert table.fid.texts[0] == "1.000" and table.fid.texts[1].startswith("2.000 ± 0.08")
    assert table.fid.spread[0] is None


def test_a_seed_whose_samples_or_protocol_differ_is_no_seed_of_the_cell():
    other_count, other_solver = sampled(1, num_samples=100), sampled(1, solver="heun")
    table = table_of([sampled(0), other_count, other_solver, sampled(0)])
    assert table.column("seeds") is None and len(table.rows) == 3  # the last is the first again
    twice = [sampled(0), sampled(0) | {"id": "elsewhere"}]
    assert len(table_of(twice).rows) == 2


def test_what_cells_share_does_not_hide_their_difference():
    """Both rise and fall by 1 with the same samples: a difference of 0.2 is ten times what is left of that."""
    shared = np.random.default_rng(0).normal(size=40)
    own = 0.02 * np.random.default_rng(1).normal(size=40)
    rows = table_of([sampled(noise=shared, fid=3.0), sampled(noise=shared + own, fid=3.2, steps=50)]).rows
    assert worse_than_best(rows, 0, "fid") == [False, True]
    alone = table_of([sampled(noise=shared, fid=3.0), sampled(noise=shared[::-1], fid=3.2, steps=50)])
    assert alone.fid.ties == {1} and alone.fid.texts[1].endswith(" ≈") and r"$\approx$" in alone.latex()


def test_a_difference_has_the_noise_of_all_its_seeds():
    """Variances of independent seeds add up; what one seed gives both rows cancels; the rest is Satterthwaite's."""
    draw = np.random.default_rng(0).normal(size=(4, 40))
    first = [sampled(seed, draw[seed], fid=2.0) for seed in (0, 1)]
    second = [sampled(1, draw[1] + draw[2], fid=3.0, steps=50), sampled(2, draw[3], fid=3.0, steps=50)]
    rows = table_of([*first, *second]).rows
    found = difference(rows[1], rows[0], "fid")
    parts = [np.var(draw[0] / 2, ddof=1), np.var(draw[2] / 2, ddof=1), np.var(draw[3] / 2, ddof=1)]
    assert found.value == 1 and found.error == pytest.approx(sum(parts) ** 0.5)
    each = 1 / (1 / 499 + 1 / 38)
    assert found.freedom == pytest.approx(each * sum(parts) ** 2 / sum(part**2 for part in parts))


def test_few_independent_units_make_a_difference_less_certain():
    noise = np.random.default_rng(0).normal(size=40)
    results = [sampled(fid=1.0, noise=0 * noise), sampled(fid=1 + 3.2 * np.std(noise, ddof=1), noise=noise, steps=50)]
    assert table_of(results).fid.ties == set()
    for result in results:
        result["deviations"]["fid"]["units"] = 4  # such as paths
    assert table_of(results).fid.ties == {1}


def test_the_more_cells_the_best_is_chosen_from_the_larger_must_a_difference_be():
    """2.5 standard errors are enough for two cells, not for one of nine; for one of two that are left they are."""
    draw = np.random.default_rng(0).normal(size=(9, 40))
    quiet = 0 * draw[0]

    def table(*distances):
        sizes = [2.5, *distances]
        cells = [sampled(noise=quiet, fid=1.0)]
        for i, (size, noise) in enumerate(zip(sizes, draw)):
            cells.append(sampled(noise=noise, steps=21 + i, fid=1 + size * np.std(noise, ddof=1)))
        return table_of(cells).fid

    assert table().ties == set()
    assert table(*[0.5] * 7).ties == set(range(1, 9))
    assert table(*[30.0] * 7).ties == set()


def test_an_unknown_noise_is_marked_and_explained():
    """Old results, resamples=0, and scores that single samples have no value of."""
    old = cell(steps=50, fid=2.0) | {"deviations": {"fid": [0.0] * 40}}
    for results in ([cell(), old], [cell(), cell(steps=50, fid=2.0)], [sampled(), old]):
        table = table_of(results)
        assert table.fid.unknown == {1} and table.fid.texts[1] == "2.00 ?" and "± " not in table.fid.texts[1]
        assert table.caption[-1].startswith("?: unknown whether tied with the best or worse")
        for text in (table.markdown(), table.latex(), on_terminal(table)):
            assert "2.00 ?" in text
    assert not any(line.startswith(("?", "±")) for line in table_of([cell(), cell(steps=50)]).caption)
    three = table_of([sampled(), sampled(steps=50, fid=9.0), cell(steps=7, fid=2.0)])
    assert (three.fid.worse, three.fid.unknown, three.fid.ties) == ({2}, {1}, set())


def test_a_fid_that_is_mostly_bias_has_a_footnote():
    """Halves have twice the bias."""
    cells = [sampled(fid=0.4), sampled(steps=50, fid=2.0)]
    for result, mean in zip(cells, (0.61, 2.9)):
        result["deviations"]["fid"]["mean"] = mean
    (line,) = [line for line in table_of(cells).caption if "bias" in line]
    assert line.startswith("FID: in 1 of 2 cells, at least half of the value is bias")
    cells[0]["deviations"]["fid"]["mean"] = 0.59
    assert "bias" not in " ".join(table_of(cells).caption)


def test_where_no_halves_are_known_shared_seeds_are_compared():
    def compared(*differences):
        base = [5.0, 9.0, 7.0]
        other = [value + difference for value, difference in zip(base, differences)]
        rows = table_of(of_seeds(base) + of_seeds(other, steps=50)).rows
        return worse_than_best(rows, 0, "fid")[1]

    assert compared(1.0, 1.1, 0.9) is True
    assert compared(1.0, -0.5, 0.5) is False
    assert worse_than_best(table_of([cell(), cell(steps=50)]).rows, 0, "fid") == [False, None]


def test_advice_names_the_best_within_a_budget_and_how_sure_it_is():
    quiet, loud = np.linspace(-0.01, 0.01, 40), np.linspace(-1, 1, 40)
    results = [
        sampled(noise=quiet, steps=10, fid=5.0),  # 20 forwards
        sampled(noise=quiet, steps=20, fid=2.0),
        sampled(noise=quiet[::-1], steps=40, fid=2.001),
        sampled(noise=loud, steps=80, fid=1.9),
    ]
    table = table_of(results)
    overall, forty, fifth, none, seconds = [
        recommend(table, {name: limit})[-1].text
        for name, limit in [("forwards", None)] + [("forwards", n) for n in (40, 25, 5)] + [("seconds_per_image", 9)]
    ]
    assert overall == (
        "Best of all cells: euler with 80 steps (FID 1.90 ± 0.60, 160 forwards); 2 other cells are statistically tied; "
        "the cheapest is euler with 20 steps (FID 2.00 ± 0.01, 40 forwards). Cheaper: euler with 10 steps (FID 5.00 ± "
        "0.01, 20 forwards), worse by 3.1 ± 0.59."
    )
    assert forty.startswith("Best within 40 forwards: euler with 20 steps")
    assert "by 3 ± 0, which is significant. Cheaper: euler with 10 steps (FID 5.00" in forty
    assert fifth.endswith("the only one.") and "no cell is that cheap; the cheapest needs 20" in none
    assert seconds.startswith("Best within 9 s/image: euler with 80 steps")
    unknown = recommend(table_of([cell(), cell(steps=50, fid=2.0)]), {})
    assert "by 1 ± ?, which may be noise" in unknown[0].text


def test_advice_passes_over_what_others_beat_in_cost_and_quality():
    """The best of a loud cell's rivals is tied with it, the better ones are not: they are known to be worse."""
    quiet, loud = np.linspace(-0.001, 0.001, 40), np.linspace(-1, 1, 40)
    best = sampled(noise=quiet, steps=80, fid=1.0)
    costly, cheap = sampled(noise=loud, steps=40, fid=1.5), sampled(noise=quiet, steps=20, fid=1.2)
    assert recommend(table_of([best, costly, cheap]), {})[0].text == (
        "Best of all cells: euler with 80 steps (FID 1.00 ± 0.00, 160 forwards); 1 other cell is statistically tied, "
        "but the cheaper ones are not on the Pareto front. Cheaper: euler with 20 steps (FID 1.20 ± 0.00, 40 "
        "forwards), worse by 0.2 ± 0."
    )
    between = sampled(noise=loud[::-1], steps=60, fid=1.1)
    assert "2 other cells are statistically tied; the cheapest on the Pareto front is euler with 60" in (
        recommend(table_of([best, costly, cheap, between]), {})[0].text
    )
    twin = sampled(noise=quiet, steps=60, fid=1.0)
    assert recommend(table_of([best, twin]), {})[0].best.startswith("Best of all cells: euler with 60 steps")


def test_advice_on_numbers_below_0():
    """As KID may be: a difference makes sense, a ratio does not."""
    noise = np.linspace(-0.001, 0.001, 40)
    results = [
        sampled(noise=noise, steps=steps, fid=fid) for steps, fid in ((80, -0.01), (40, 0.0), (20, 0.03), (10, 0.5))
    ]
    assert recommend(table_of(results), {})[0].text.endswith(
        "Cheaper: euler with 40 steps (FID 0.00000 ± 0.00060, 80 forwards), worse by 0.01 ± 0; euler with 20 steps "
        "(FID 0.03000 ± 0.00060, 40 forwards), worse by 0.04 ± 0."
    )


def test_no_advice_where_nothing_is_compared():
    assert recommend(table_of([cell()]), {"forwards": 10}) == []
    assert recommend(table_of([cell(), cell(steps=50, num_samples=9)]), {}) == []
    assert recommend(table_of([failed()]), {}) == []


def test_heat_map_of_solvers_and_steps(tmp_path):
    results = [
        sampled(solver=solver, steps=steps, fid=fid + steps / 10)
        for solver, fid in (("euler", 2), ("heun", 1))
        for steps in (5, 10, 20)
    ]
    path = write_report(results, tmp_path).paths["heat_map.png"]
    with Image.open(path) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20
    assert write_report(results[:3], tmp_path).paths["heat_map.png"] is None and not path.exists()
    shared_forwards = [sampled(solver=s, steps=n, fid=1.0 * n) for s, n in (("a", 2), ("a", 4), ("b", 3), ("b", 6))]
    for result in shared_forwards[2:]:
        result["cost"]["forwards"] *= 2 / 3
    figure = heat_map(table_of(shared_forwards), table_of(shared_forwards).fid)
    assert figure.axes[0].get_xlabel() == "network evaluations per image"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path):
    """Every mark, sign and bad character that a table can hold, and the tables of all studies."""
    usual, other = cell()["protocol"] | {"protocol": "adm"}, cell()["protocol"] | {"protocol": "clean_fid"}
    noise = np.random.default_rng(0).normal(size=40)
    marked = [sampled(noise=noise, steps=n, fid=1 + n / 1000, protocol=usual) for n in (5, 10)]
    awkward = failed(error=r"50% of a_b & c#d $e {f} \g ~h ^i <j> |k|" + "\nnext")
    tables = {"ties": table_of([*marked, awkward]), "marks": table_of([*marked, cell(protocol=other), awkward])}
    for file in sorted(packaged("experiments").glob("*/published.yaml")):
        tables[file.parent.name] = study_table(known := load(file), compare(known, []))
    preamble = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}\usepackage{booktabs}"
    body = "\n\n".join(table.latex() for table in tables.values())
    assert "≈" in tables["ties"].markdown() and r"\textdagger" in tables["marks"].latex()
    (tmp_path / "tables.tex").write_text(rf"{preamble}\begin{{document}}{body}\end{{document}}", encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "tables.log").read_text(errors="replace")
