"""What a dashboard is made of, as data: queries, panels, rows; `build.py` makes Grafana's JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from monitoring.promql import present
from monitoring.signals import BY_NAME, Due, Signal

Kind = Literal["text", "timeseries", "stat", "bargauge", "barchart", "table", "heatmap"]
Format = Literal["time_series", "table", "heatmap"]
#: A colour from the value on; None is the value of everything below the first.
Step = tuple[float | None, str]

GREEN, AMBER, RED, BLUE = "green", "orange", "red", "blue"
COLUMNS = 24
#: Labels of the cell that is measured, chosen by the dashboard's variables.
CHOSEN = 'framework=~"$framework", route=~"$route", run_id=~"$run"'
#: A rung of the ladder has neither framework nor route.
CHOSEN_RUN = 'run_id=~"$run"'
#: A threshold of 0 means "more than none", and Grafana colours from a step's value on.
ABOVE_ZERO = 1e-6

UNITS = {"s": "s", "ratio": "percentunit", "bytes": "bytes", "bytes/s": "Bps"}
#: What an axis reaches at least, by unit: a flat 0 is no axis to 10000% or to 100.
LEAST_TOP = {"percentunit": 0.05, "s": 0.001, "bytes": 2.0**20, "Bps": 1000.0}
#: What a stat says where nothing runs.
NOTHING = "-"


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
    #: Said where there is nothing to show.
    nothing: str = NOTHING
    #: Values that are words, as {value: (word, colour)}.
    words: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: By the name of a series or column: properties of its own, such as unit or colour.
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    transformations: tuple[tuple[str, dict[str, Any]], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    #: uid of the dashboard that shows more of it.
    more: str | None = None
    #: An id that links may name; others have theirs by their place.
    number: int | None = None


@dataclass(frozen=True)
class Row:
    """A titled row of panels, placed from left to right; a folded one is opened by a click."""

    title: str
    panels: tuple[Panel, ...]
    folded: bool = False


@dataclass(frozen=True)
class Dashboard:
    """A page; `uid` is also its file name and the last part of its address."""

    uid: str
    title: str
    text: str
    rows: tuple[Row, ...]
    since: str = "now-5m"
    chosen: str = CHOSEN


def scoped(expr: str, chosen: str = CHOSEN) -> str:
    """Return the expression for the chosen cells: while one of them is measured, and else nothing.

    The labels of a cell are on lab_cell_info and on no other series. `up` is always there and has
    none of them: it lets everything through where every variable is at "all", and only there.
    """
    return f'({expr}) and on() {{__name__=~"lab_cell_info|up", {chosen}}}'


def now(query: Query) -> Query:
    """Return the query for this moment alone: a range's last value may be that of a cell before."""
    return replace(query, instant=True)


def signal(name: str, legend: str = "", by: str | None = None, chosen: str = CHOSEN) -> Query:
    """Return the query of a recorded signal; `by` names the label that tells its series apart."""
    item = BY_NAME[name]
    shown = legend or (f"{{{{{by}}}}}" if by else name)
    return Query(scoped(item.record, chosen), shown, due=item.due)


def grafana_unit(item: Signal) -> str:
    """Return Grafana's id of a signal's unit."""
    if item.unit in UNITS:
        return UNITS[item.unit]
    if item.unit in ("requests/s", "rows/s"):
        return "reqps" if item.unit == "requests/s" else "rowsps"
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


def of_signal(
    kind: Kind,
    title: str,
    text: str,
    name: str,
    legend: str = "",
    chosen: str = CHOSEN,
    **more: Any,
) -> Panel:
    """Return a panel of one signal, with its unit and threshold; a stat is of this moment."""
    given = {"unit": grafana_unit(BY_NAME[name]), "steps": limits(name), **more}
    if kind == "stat" and "steps" not in more:  # what has no value is in no colour
        first, *rest = given["steps"]
        given["steps"] = ((None, "text"), (0, first[1]), *rest)
    query = signal(name, legend or title, chosen=chosen)
    return Panel(kind, title, text, (now(query) if kind == "stat" else query,), **given)


def growing(counter: str, selector: str = "") -> str:
    """Return the increase per second of a counter's series, of those that are still there.

    The window is the panel's own; see promql.grown.
    """
    series = f"{counter}{selector}"
    return f"(rate({series}[$__rate_interval]) and {present(series)})"


def heat(
    title: str,
    text: str,
    histogram: str,
    selector: str = "",
    due: Literal["load", "sometimes"] = "load",
    chosen: str = CHOSEN,
    **more: Any,
) -> Panel:
    """Return a heat map of a histogram of seconds: time to the right, duration upwards."""
    rate = f"sum by (le) {growing(f'{histogram}_bucket', selector)}"
    query = Query(scoped(rate, chosen), "{{le}}", format="heatmap", due=due)
    return Panel("heatmap", title, text, (query,), unit="s", **{"width": 12, **more})


def columns(
    *names: str | None,
    labels: tuple[str, ...] = (),
    hidden: tuple[str, ...] = (),
    last: tuple[str, ...] = (),
) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Return the transformations that lay one query per column beside each other.

    `names` are the columns of the queries in their order, None for one that is not shown; one
    query alone gives `Value`. `labels` stand before them, those in `last` after them; `hidden`
    ones are not shown.
    """
    values = ["Value"] if len(names) == 1 else [f"Value #{chr(65 + i)}" for i in range(len(names))]
    renamed = {value: name for value, name in zip(values, names, strict=True) if name}
    unnamed = [value for value, name in zip(values, names, strict=True) if not name]
    return (
        ("merge", {}),
        (
            "organize",
            {
                "excludeByName": dict.fromkeys(("Time", *unnamed, *hidden), True),
                "indexByName": {name: i for i, name in enumerate((*labels, *values, *last))},
                "renameByName": renamed,
            },
        ),
    )
