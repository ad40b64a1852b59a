"""Report on what was run: python -m ditexp.report study=<study> (see conf/report.yaml)."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ditexp.checks import is_name
from ditexp.cli.command import command
from ditexp.cli.packaged import published_file
from ditexp.outputs import Outputs
from ditexp.report.reading import read_results, study_results
from ditexp.report.writing import show, write_report
from ditexp.terminal.console import print_line


@command("report")
def main(cfg: DictConfig) -> None:
    if (cfg.results is None) == (cfg.study is None):
        raise ValueError("give results=outputs/runs/<sweep>, or study=<study> for all cells of a study")
    for name in ("forwards", "seconds"):
        if cfg[name] is not None and not (isinstance(cfg[name], int | float) and cfg[name] > 0):
            raise ValueError(f"{name}={cfg[name]}: give a number above 0, the maximum cost of an image")
    if cfg.study is not None and not is_name(str(cfg.study)):
        raise ValueError(
            f"study={cfg.study} is a path: give the name of a study, or results=<folder> of a sweep or a run"
        )
    outputs = Outputs(cfg.outputs)
    if cfg.study is not None:
        name, results = cfg.study, study_results(outputs, cfg.study)
    else:
        folders = [Path(folder) for folder in ([cfg.results] if isinstance(cfg.results, str) else cfg.results)]
        name, results = folders[0].resolve().name, [result for folder in folders for result in read_results(folder)]
    published = published_file(name) if cfg.study is not None else None
    if not results and not published:
        raise ValueError(
            f"{cfg.outputs}/runs has no cell of study={name}: run it with `python -m ditexp.run -m experiment={name}`, "
            "or give its folder as results=..."
        )
    out = Path(cfg.out) if cfg.out else outputs.reports / name
    budgets = {"forwards": cfg.forwards, "seconds_per_image": cfg.seconds}
    report = write_report(results, out, budgets=budgets, published=published)
    show(report)
    for line in report.failed:
        print_line(line)
    if report.failed:
        raise RuntimeError(f"the report in {out} is not complete: see above")


if __name__ == "__main__":
    main()
