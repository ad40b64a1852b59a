"""Report on what was run: ditexp report study=<study> (see conf/report.yaml); alone, it lists what there is."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ditexp.checks import is_name
from ditexp.cli.command import command
from ditexp.outputs import Outputs
from ditexp.report.index.page import write_index
from ditexp.report.listing import show_reportable
from ditexp.report.reading import published_of, read_results, study_results
from ditexp.report.writing import from_here, show, write_report
from ditexp.terminal.console import print_line, wide_terminal


@command("report")
def main(cfg: DictConfig) -> None:
    if cfg.results is not None and cfg.study is not None:
        raise ValueError("give either results=outputs/runs/<sweep>, or study=<study> for all cells of a study")
    for name in ("forwards", "seconds"):
        if cfg[name] is not None and not (isinstance(cfg[name], int | float) and cfg[name] > 0):
            raise ValueError(f"{name}={cfg[name]}: give a number above 0, the maximum cost of an image")
    if cfg.study is not None and not is_name(str(cfg.study)):
        raise ValueError(
            f"study={cfg.study} is a path: give the name of a study, or results=<folder> of a sweep or a run"
        )
    outputs = Outputs(cfg.outputs)
    if cfg.results is None and cfg.study is None:
        return list_reports(outputs)
    if cfg.study is not None:
        name, results = cfg.study, study_results(outputs, cfg.study)
    else:
        folders = [Path(folder) for folder in ([cfg.results] if isinstance(cfg.results, str) else cfg.results)]
        name, results = folders[0].resolve().name, [result for folder in folders for result in read_results(folder)]
    published = published_of(name, results) if cfg.study is not None else None
    if not results and not published:
        raise ValueError(
            f"{cfg.outputs}/runs has no cell of study={name}: run it with `ditexp run -m experiment={name}`, "
            "or give its folder as results=..."
        )
    out = Path(cfg.out) if cfg.out else outputs.reports / name
    budgets = {"forwards": cfg.forwards, "seconds_per_image": cfg.seconds}
    report = write_report(results, out, budgets=budgets, published=published)
    if out.parent == outputs.reports:
        write_index(outputs.reports)
    show(report)
    for line in report.failed:
        print_line(line)
    if report.failed:
        raise RuntimeError(f"the report in {out} is not complete: see above")


def list_reports(outputs: Outputs) -> None:
    """List what can be reported, and write the index of all reports."""
    terminal = wide_terminal()
    show_reportable(terminal, outputs)
    if outputs.reports.is_dir():
        terminal.print(f"all reports: {from_here(write_index(outputs.reports))}", soft_wrap=True)


if __name__ == "__main__":
    main()
