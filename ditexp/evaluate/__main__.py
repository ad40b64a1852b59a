"""Score images without a model: ditexp evaluate images=samples.npz reference=npz reference.path=...

images: an npz file, a folder, or a sample set. The numbers and their protocol go to outputs/results/evaluate-<id>.json.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table
from rich.text import Text

from ditexp.cli.command import command
from ditexp.evaluate.per_prompt import extremes, table_beside
from ditexp.outputs import Outputs
from ditexp.report.tables.column import MISSING
from ditexp.report.tables.comparability import describe_reference
from ditexp.result import Evaluation
from ditexp.terminal.console import Terminal, wide_terminal
from ditexp.terminal.escape import for_picture


@command("evaluate")
def main(cfg: DictConfig) -> None:
    from ditexp.evaluate.images import open_images
    from ditexp.evaluate.scoring import build_evaluator, score  # imports torch, which mistakes don't wait for

    evaluator, outputs = build_evaluator(cfg), Outputs(cfg.outputs)
    images = open_images(cfg.images, channels=evaluator.channels, outputs=outputs, num_samples=cfg.num_samples)
    score(cfg, evaluator, images, show=show)


def show(evaluation: Evaluation, out: Path) -> None:
    """Print the scores, each with its standard deviation between other images of the same kind."""
    measurement, terminal = evaluation.measurement, wide_terminal()
    images, reference = measurement.images, measurement.reference
    assert images is not None  # see `evaluate`
    against = f" against {describe_reference(reference)}" if reference else ""
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("sd", justify="right")
    for name, value in evaluation.metrics.items():
        found = evaluation.deviations.get(name)
        deviation = found.sd if found else 0.0  # also 0 if all halves agree
        table.add_row(name, f"{value:.6g}", f"{deviation:.2g}" if deviation else MISSING)
    terminal.print(f"{images.count:,} images of {images.name}{against}", soft_wrap=True)
    facts = [f"protocol {measurement.protocol}", *measurement.changed, f"features {measurement.network}"]
    terminal.print(", ".join(facts), soft_wrap=True)
    terminal.print(table)
    if evaluation.per_prompt:
        print_prompts(evaluation, out, terminal)
    if measurement.beyond:
        terminal.print(f"{measurement.protocol}'s evaluator has no {', '.join(measurement.beyond)}")
    terminal.print(str(out), soft_wrap=True)


def print_prompts(evaluation: Evaluation, out: Path, terminal: Terminal) -> None:
    """Print the prompts with the lowest and the highest scores."""
    lowest, highest = extremes(evaluation.per_prompt)
    table = Table()
    table.add_column("prompt", overflow="fold")
    for name in ("images", *lowest[0].scores):
        table.add_column(name, justify="right")
    for each in (*highest, *lowest[::-1]):
        numbers = [str(len(each.samples)), *(f"{value:.6g}" for value in each.scores.values())]
        table.add_row(Text(for_picture(each.prompt, 60)), *numbers)
    terminal.print(table)
    terminal.print(f"all {len(evaluation.per_prompt):,} prompts: {table_beside(out)}", soft_wrap=True)


if __name__ == "__main__":
    main()
