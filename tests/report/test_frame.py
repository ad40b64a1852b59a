"""Results as a DataFrame."""

from __future__ import annotations

import math

import pandas
import pytest

from ditexp.report.frame import frame
from tests.helpers.results import cell, failed, recorded, results_of


def test_a_row_has_ids_settings_costs_metrics_and_deviations():
    guided = cell(id="b", solver="heun", deviations={"fid": recorded(0.3, -0.3, 0.1, -0.1)})
    guided["settings"] |= {"steps": None, "guidance": "cfg", "guidance.scale": 1.5, "guidance.interval": "[0, 0.5]"}
    plain = cell(id="a", sample_id="s", fid=math.nan, cell_command="ditexp run", provenance={"commit": "c"})
    found = frame(results_of([plain, guided, failed(id="c")]))
    assert list(found.id) == ["a", "b", "c"] and found.sample_id[0] == "s" and found.commit[0] == "c"
    assert list(found.status) == ["done", "done", "failed"] and "not finite" in found.error[2]
    assert found["guidance.scale"].tolist()[1] == 1.5 and pandas.isna(found["guidance.scale"][0])
    assert found.steps.dtype == "Int64" and found.steps[0] == 20 and pandas.isna(found.steps[1])
    assert found.forwards.tolist()[:1] == [40.0] and found.num_samples.tolist() == [500, 500, 500]
    assert math.isnan(found["inception/fid"][0]) and found["inception/fid"][1] == 1.0
    assert found["inception/fid_sd"][1] == pytest.approx(0.2582, abs=1e-4)  # of four halves: the root of 0.2 / 3
    assert math.isnan(found["inception/recall_sd"][1])
    order = ["id", "solver", "steps", "nfe", "inception/fid", "inception/fid_sd", "command"]
    assert sorted(order, key=list(found.columns).index) == order


def test_metrics_of_two_networks_have_columns_of_their_own():
    found = frame(results_of([cell(fid=2.0), cell(fid=3.0, feature="digits")]))
    assert found["inception/fid"].count() == found["digits/fid"].count() == 1


def test_a_file_holds_every_column(tmp_path):
    """Also settings that are numbers in one cell and text in another."""
    results = results_of([cell(), cell(), failed()])
    results[0].settings["solver.order"], results[1].settings["solver.order"] = 2, "auto"
    found = frame(results)
    found.to_parquet(tmp_path / "results.parquet")
    again = pandas.read_parquet(tmp_path / "results.parquet")
    pandas.testing.assert_frame_equal(found, again)
    assert again["solver.order"].tolist()[:2] == ["2", "auto"]
    assert frame([]).empty and "id" in frame([]).columns
