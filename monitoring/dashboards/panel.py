"""What a dashboard is made of, as data: queries, panels, rows; `build.py` makes Grafana's JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from monitoring.signals import BY_NAME, Due, Signal

Kind = Literal["text", "timeseries", "stat", "bargauge", "barchart", "table", "heatmap"]
Format = Literal["time_series", "table", "heatmap"]
#: A colour from the value on; None is the value of everything below the first.
Step = tuple[float | None, str]

GREEN, AMBER, RED, BLUE = "green", "orange", "red", "blue"
COLUMNS = 24
#: Labels of the cell that is measured, chosen by the dashboard's variables.
CHOSEN = 'framework=~"$framework", route=~"$route", run_id=~"$run"'
#: A threshold of 0 means "more than none", and Grafana colours from a step's value on.
ABOVE_ZERO = 1e-6

UNITS = {"s": "s", "ratio": "percentunit", "bytes": "bytes", "bytes/s": "Bps"}


@dataclass(frozen=True)
class Query:
    """One PromQL query of a panel.

    `due` says when it has data: as a signal, once a cell has begun or ended, or was accepted.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    format: Format = "time_series"
    due: Due | Literal["cells", "accepted", "sometimes"] = "sometimes"


@dataclass(frozen=True)
class Panel:
    """One panel; `text` says how to read it. Sizes are in Grafana's grid of 24 columns."""

    kind: Kind
    title: str
    text: str
    queries: tuple[Query, ...] = ()
    unit: str = "short"
    width: int = 8
    height: int = 8
    decimals: int | None = None
    min: float | None = 0
    max: float | None = None
    steps: tuple[Step, ...] = ((None, GREEN),)
    stack: bool = False
    calc: str = "lastNotNull"
    #: By the name of a series or column: properties of its own, such as unit or colour.
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    transformations: tuple[tuple[str, dict[str, Any]], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    #: uid of the dashboard that shows more of it.
    more: str | None = None


@dataclass(frozen=True)
class Row:
    """A titled row of panels, placed from left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """A page; `uid` is also its file name and the last part of its address."""

    uid: str
    title: str
    text: str
    rows: tuple[Row, ...]
    since: str = "now-15m"


def scoped(expr: str) -> str:
    """Return the expression for chosen cells only; all of it while no cell is measured.

    The labels of a cell are on lab_cell_info and on no other series.
    """
    return f"({expr}) and on() (lab_cell_info{{{CHOSEN}}} or absent(lab_cell_info))"


def now(query: Query) -> Query:
    """Return the query for this moment alone: a range's last value may be that of a cell before."""
    return replace(query, instant=True)


def signal(name: str, legend: str = "", by: str | None = None) -> Query:
    """Return the query of a recorded signal; `by` names the label that tells its series apart."""
    item = BY_NAME[name]
    return Query(scoped(item.record), legend or (f"{{{{{by}}}}}" if by else name), due=item.due)


def grafana_unit(item: Signal) -> str:
    """Return Grafana's id of a signal's unit."""
    if item.unit in UNITS:
        return UNITS[item.unit]
    if item.unit == "requests/s":
        return "reqps"
    return "suffix:/s" if item.unit.endswith("/s") else "short"


def limits(name: str) -> tuple[Step, ...]:
    """Return the colours of a signal by its threshold; without one, one colour."""
    item = BY_NAME[name]
    if item.threshold is None:
        return ((None, GREEN),)
    if item.low_is_bad:
        return ((None, RED), (item.threshold, GREEN))
    return ((None, GREEN), (item.threshold or ABOVE_ZERO, RED))


def lines(title: str, text: str, *queries: Query, **more: Any) -> Panel:
    """Return a time series."""
    return Panel("timeseries", title, text, queries, **more)


def of_signal(kind: Kind, title: str, text: str, name: str, legend: str = "", **more: Any) -> Panel:
    """Return a panel of one signal, with its unit and threshold."""
    given = {"unit": grafana_unit(BY_NAME[name]), "steps": limits(name), **more}
    return Panel(kind, title, text, (signal(name, legend or title),), **given)


def heat(
    title: str,
    text: str,
    histogram: str,
    selector: str = "",
    due: Literal["load", "sometimes"] = "load",
    **more: Any,
) -> Panel:
    """Return a heat map of a histogram of seconds: time to the right, duration upwards."""
    rate = f"sum by (le) (rate({histogram}_bucket{selector}[$__rate_interval]))"
    query = Query(scoped(rate), "{{le}}", format="heatmap", due=due)
    return Panel("heatmap", title, text, (query,), unit="s", **{"width": 12, **more})


def columns(
    *names: str | None, labels: tuple[str, ...] = ()
) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Return the transformations that lay one query per column beside each other.

    `names` are the columns of the queries in their order, None for one that is not shown; one
    query alone gives `Value`. `labels` stand before them.
    """
    values = ["Value"] if len(names) == 1 else [f"Value #{chr(65 + i)}" for i in range(len(names))]
    renamed = {value: name for value, name in zip(values, names, strict=True) if name}
    hidden = [value for value, name in zip(values, names, strict=True) if not name]
    return (
        ("merge", {}),
        (
            "organize",
            {
                "excludeByName": dict.fromkeys(("Time", *hidden), True),
                "indexByName": {name: i for i, name in enumerate((*labels, *values))},
                "renameByName": renamed,
            },
        ),
    )
