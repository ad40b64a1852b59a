"""A study of one's own: its published numbers lie in --config-dir, and a report finds them later, too."""

import re

import pytest

from ditexp.report.reading import published_of
from ditexp.terminal.notices import NOTICES
from tests.helpers.paths import ROOT
from tests.helpers.results import cell, results_of

FILES = dict(re.findall(r"```yaml\n# my/(\S+)\n(.*?)```", (ROOT / "docs/studies.md").read_text(), re.DOTALL))


def test_the_newest_place_that_a_run_remembers_is_used_and_a_lost_one_is_named(tmp_path, caplog):
    NOTICES.reset()
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    results = results_of([cell(published=str(old)), cell(published=str(new)), cell(study="mine")])
    assert published_of("mine", results[2:]) is None and not caplog.messages
    assert published_of("mine", results) is None
    assert caplog.messages == [f"{new}, the published numbers of study=mine, is gone: give the folder by --config-dir"]
    new.touch()
    assert published_of("mine", results) == new
    assert published_of("dit", results) == ROOT / "experiments/dit/published.yaml"


@pytest.mark.slow
def test_the_study_in_the_docs(ditexp, tmp_path):
    assert set(FILES) == {"experiment/mine.yaml", "experiment/mine/published.yaml"}
    for name, text in FILES.items():
        (tmp_path / "my" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my" / name).write_text(text)

    def run(*more):
        small = ("num_samples=64", "metric=[fid]", "resamples=0")
        return ditexp("--config-dir=my", "-m", "experiment=mine", *small, *more, folder=tmp_path)

    def report():
        return ditexp("study=mine", module="ditexp.report", folder=tmp_path)

    published = tmp_path / "my/experiment/mine/published.yaml"
    published.write_text(published.read_text().replace("rows:", "rowz:"))
    command = run()
    assert command.code == 2 and command.complaints[0].startswith(f"{published}: the file, key 'rowz' is unknown")
    assert not list(tmp_path.glob("outputs/samples/*"))
    published.write_text(FILES["experiment/mine/published.yaml"])
    command = run()
    assert command.code == 0 and "not comparable: num_samples 64, not 512" in command.output, command.output
    found = report()
    assert found.code == 0 and "Of 2: 2 not comparable." in found.output, found.output
    published.rename(tmp_path / "my/published.yaml")
    assert f"{published}, the published numbers of study=mine, is gone" in report().output
