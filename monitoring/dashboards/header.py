"""What stands around the panels of every dashboard: marks, variables, and the way to the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.models import dashboard as model

from monitoring.signals import EVALUATION_INTERVAL_S

TAG = "poolscope"
DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
_EVENT = "lab_cell_event_timestamp_seconds"
#: So long after its end a cell is known by its labels: for the mark that says it was rejected.
KNOWN = "1m"
#: Of a region's edges, which Grafana draws through the curves.
FAINT = "#73bf6950"
#: Moments of a cell: event, what it says, colour. Off: they would be drawn over the curves.
MOMENTS = (
    ("cell_start", "Cell start", "blue"),
    ("window_end", "Window end", "purple"),
    ("rejected", "Rejected", "red"),
)
#: Variable, its label, and the label of lab_cell_info that it chooses by.
VARIABLES = (
    ("framework", "Framework", "framework"),
    ("route", "Route", "route"),
    ("run", "Run", "run_id"),
)


def marks(chosen: str) -> list[dict[str, Any]]:
    """Return the marks: each window of the chosen cells as a region, and moments that are off."""
    return [_windows(chosen), *(_moment(*moment, chosen) for moment in MOMENTS)]


def _windows(chosen: str) -> dict[str, Any]:
    """Return the windows: there is a sample at each step inside one, and Grafana joins these."""
    at = 'max by (run_id, cell_id) ({}{{event="{}", run_id=~"$run"}}) <= time()'
    begun, ended = (at.format(_EVENT, event) for event in ("window_start", "window_end"))
    expr = (
        f"({begun}) unless on(run_id, cell_id) ({ended})"
        f" and on(run_id, cell_id) lab_cell_info{{{chosen}}}"
    )
    return _annotation("Window", FAINT, expr, enable=True)


def _moment(event: str, name: str, color: str, chosen: str) -> dict[str, Any]:
    # In milliseconds: the value is the moment, whenever it was scraped.
    expr = (
        f'{_EVENT}{{event="{event}", run_id=~"$run"}} * 1000'
        f" and on(run_id, cell_id) last_over_time(lab_cell_info{{{chosen}}}[{KNOWN}])"
    )
    return _annotation(name, color, expr, enable=False) | {"useValueForTime": True}


def _annotation(name: str, color: str, expr: str, *, enable: bool) -> dict[str, Any]:
    step = f"{EVALUATION_INTERVAL_S}s"
    return {
        "name": name,
        "datasource": DATASOURCE.to_json(),
        "enable": enable,
        # No switch in the header; from Grafana 12.3 on it is in the menu of the controls.
        "hide": True,
        "placement": "inControlsMenu",
        "iconColor": color,
        "expr": expr,
        "step": step,
        # Where newer Grafana looks for the query; not every release moves it there by itself.
        "target": {"refId": "Anno", "expr": expr, "interval": step, "range": True},
        "titleFormat": name,
        "textFormat": "{{cell_id}}",
        "tagKeys": "run_id",
    }


def link() -> dict[str, Any]:
    """Return the menu of the other dashboards, which takes range and variables along."""
    made = model.DashboardLink(
        title="Dashboards",
        type_val=model.DashboardLinkType.DASHBOARDS,
        icon="external link",
        tags=[TAG],
        as_dropdown=True,
        include_vars=True,
        keep_time=True,
    )
    return in_sight(made.to_json())


def in_sight(link: dict[str, Any]) -> dict[str, Any]:
    """Return a link where one sees it: the SDK puts each into the menu of the controls."""
    return {name: value for name, value in link.items() if name != "placement"}


def variables(chosen: str) -> Iterator[model.VariableModel]:
    """Yield the data source, out of sight, and what the page's panels choose cells by."""
    yield model.VariableModel(
        type_val=model.VariableType.DATASOURCE,
        name="datasource",
        label="Data source",
        query="prometheus",
        hide=model.VariableHide.HIDE_VARIABLE,
        current=model.VariableOption(selected=True, text="Prometheus", value="poolscope"),
    )
    for name, label, by in VARIABLES:
        if f"${name}" in chosen:
            yield _variable(name, label, by)


def _variable(name: str, label: str, by: str) -> model.VariableModel:
    newest_first = model.VariableSort.ALPHABETICAL_DESC
    return model.VariableModel(
        type_val=model.VariableType.QUERY,
        name=name,
        label=label,
        # An id says by itself that it is a run's, and is long.
        hide=model.VariableHide.HIDE_LABEL if name == "run" else model.VariableHide.DONT_HIDE,
        datasource=DATASOURCE,
        query={"query": f"label_values(lab_cell_info, {by})", "refId": f"variable-{name}"},
        refresh=model.VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=newest_first if name == "run" else model.VariableSort.ALPHABETICAL_ASC,
        include_all=True,
        all_value=".*",
        current=model.VariableOption(selected=True, text="All", value="$__all"),
    )
