"""A W&B workspace: a view of a project that shows quality against cost.

It needs the package wandb-workspaces (`pip install 'ditexp[workspace]'`).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ditexp.report.tables.table import Table
from ditexp.tracker.views import PICTURES, charted

NAME = "ditexp: quality against cost"


def can_save_workspace() -> bool:
    return find_spec("wandb_workspaces") is not None


def save_workspace(entity: str, project: str, table: Table) -> str:
    """Save panels for the costs and metrics of a report's table, and return their URL. Raises wandb's errors."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    costs = [name for name in ("forwards", "seconds_per_image") if table.column(name)]
    metrics = list(charted(table).values())
    scatters = [
        panels.ScatterPlot(
            title=f"{metric.header} against {cost.replace('_', ' ')}",
            x=panels.SummaryMetric(cost),
            y=panels.SummaryMetric(metric.name),
            running_ymin=metric.goal is min or None,  # the Pareto front
        )
        for metric in metrics
        for cost in costs
    ]
    bars = [
        panels.BarPlot(
            title=f"{metric.header}, mean by solver",
            metrics=[panels.SummaryMetric(metric.name)],
            groupby=panels.Config("solver"),
            groupby_aggfunc="mean",
        )
        for metric in metrics[:1]
    ]
    sections: dict[str, list[Any]] = {
        "Quality against cost": [*scatters, *bars],
        "Samples": [panels.MediaBrowser(media_keys=["samples"])],
        "Report": [
            panels.WeavePanelSummaryTable(table_name="table"),
            panels.MediaBrowser(media_keys=[*PICTURES, "report"]),
        ],
        "Runs": [panels.RunComparer(diff_only="split")],
    }
    workspace = workspaces.Workspace(
        name=NAME,
        entity=entity,
        project=project,
        sections=[workspaces.Section(name=name, panels=found, is_open=True) for name, found in sections.items()],
    )
    return workspace.save().url
