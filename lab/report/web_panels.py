"""The charts of `report.html`, as the page's panels: bars of every combination, lines, windows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.report import lines, wording
from lab.report.groups import Group, View
from lab.report.layout import Row, by_users
from lab.results import CellRecord, Run
from monitoring.signals import BY_NAME

Panel = dict[str, Any]

ROUTE_COLORS = {"direct": "blue", "pgbouncer": "orange"}


@dataclass(frozen=True)
class Metric:
    """A measured field as bars: its title, Grafana's unit, and what one has to know to read it."""

    key: str
    field: str
    title: str
    unit: str
    text: str
    full: float | None = None
    scale: float = 1.0


OVERVIEW = (
    Metric("rps", "rps", "Requests per second", "reqps",
           "Answers per second in the window. A dashed line is what pgbench reaches on the same "
           "limited database with the same statement."),
    Metric("p95", "p95_ms", "P95 latency", "ms",
           "95 of 100 requests were at least this fast, as the client saw it."),
)  # fmt: skip
INSIDE = (
    Metric("db", "db_cpu", "PostgreSQL's CPU", "percentunit",
           "Share of its limit: at 100% the database is what holds everything back.", 1.0),
    Metric("app", "app_cpu", "The service's CPU", "percentunit",
           "Share of its limit: at 100% the service is what holds everything back.", 1.0),
    Metric("conn", "new_connections_per_request", "New connections per request", "short",
           "0 with a pool that keeps its connections, 1 when each request opens its own.", 1.0),
    Metric("wait", "pool_wait_ms", "Pool wait", "ms",
           "Mean time a request queues for a connection before it gets one."),
)  # fmt: skip

#: Title, unit, limit, and the signals of a cell's window.
WINDOW = (
    ("Requests per second", "reqps",
     ("client_requests_per_second", "server_requests_per_second")),
    ("Latency", "s", ("client_latency_p50_seconds", "client_latency_p95_seconds",
                      "client_latency_p99_seconds", "server_latency_p95_seconds")),
    ("CPU over its limit", "percentunit", ("db_cpu_ratio", "service_cpu_ratio",
                                           "pgbouncer_cpu_ratio", "generator_cpu_ratio")),
    ("Waiting for a connection", "s", ("pool_wait_mean_seconds", "connection_open_mean_seconds",
                                       "pgbouncer_client_wait_mean_seconds")),
    ("Connections", "short", ("pool_connections_used", "pool_connections_idle",
                              "postgres_active_sessions", "pgbouncer_clients_waiting")),
    ("New connections per second", "short", ("new_connections_per_second",
                                             "postgres_sessions_per_second")),
)  # fmt: skip


def bars(view: View, metrics: Sequence[Metric]) -> list[Panel]:
    """Return one panel of bars per metric and level of users."""
    found = []
    for users, rows in by_users(view):
        for metric in metrics:
            title = f"{metric.title}, {users}" if users else metric.title
            panel = _bars(view, metric, rows)
            if panel is not None:
                found.append(panel | {"title": title})
    return found


def along(view: View) -> list[Panel]:
    """Return throughput and P95 over each axis of numbers that has three levels or more."""
    found = []
    for axis in lines.axes(view):
        levels = [v for v in view.levels[axis] if isinstance(v, int | float)]
        if len(levels) < 3 or len(levels) != len(view.levels[axis]):
            continue
        for metric in OVERVIEW:
            title = f"{metric.title} over {wording.toggle(axis)}"
            series = _along(view, metric, axis, levels)
            panel = _panel("xy", title, metric.text, metric.unit, 9)
            found.append(panel | {"series": series, "x": levels, "xName": wording.toggle(axis)})
    return found


def windows(run: Run, record: CellRecord) -> list[Panel]:
    """Return the key signals of a cell's window, from the samples that were kept."""
    path = run.cell_folder(record.cell_id) / "samples.json"
    if not path.is_file() or record.window_start is None or record.window_end is None:
        return []
    samples = json.loads(path.read_text(encoding="utf-8"))
    step = float(samples["step_s"])
    points = round((record.window_end - record.window_start) / step) + 1
    found = []
    for title, unit, names in WINDOW:
        series = [
            _sampled(item, record.window_start, step, points)
            for name in names
            for item in samples["series"]
            if item["metric"]["__name__"] == f"poolscope:{name}" and _of(item["metric"], record)
        ]
        if series := [s for s in series if s["values"]]:
            text = " ".join(_meaning(name) for name in names)
            panel = _panel("timeseries", title, text, unit, 6) | {"series": series}
            found.append(
                panel | {"grid": [record.window_start, step, points], "group": record.cell_id}
            )
    return found


def _bars(view: View, metric: Metric, rows: Sequence[Row]) -> Panel | None:
    routes = [r for r in view.levels["ROUTE"] if any(r in row.groups for row in rows)]
    columns: list[dict[str, Any]] = [
        {"name": "name", "kind": "string", "values": [" · ".join(row.labels) for row in rows]}
    ]
    for route in routes:
        groups = [row.groups.get(route) for row in rows]
        estimates = [g.estimate(metric.field) if g else None for g in groups]
        values = [g.reading(metric.field) if g else None for g in groups]
        if all(v is None for v in values):
            continue
        color = {"mode": "fixed", "fixedColor": ROUTE_COLORS.get(route, "slate")}
        columns.append({
            "name": wording.ROUTE_NAMES.get(route, str(route)), "kind": "number",
            "values": values,
            "rejected": [g is not None and not g.accepted for g in groups],
            "low": [None if e is None else e.low for e in estimates],
            "high": [None if e is None else e.high for e in estimates],
            "config": {"color": color},
        })  # fmt: skip
    if len(columns) == 1:
        return None
    panel = _panel("barchart", metric.title, metric.text, metric.unit, 0)
    if metric.full is not None:
        panel["config"]["max"] = metric.full
    panel["options"]["notes"] = [_note(row.groups.values()) for row in rows]
    if metric.field == "rps":
        panel["options"]["marks"] = [
            {"name": f"pgbench {c.route} {c.protocol}", "value": c.tps} for c in view.ceilings()
        ]
    return panel | {"tables": [columns]}


def _note(groups: Any) -> str:
    """Say which routes of a row have no accepted cell."""
    lost = [
        f"{g.axes['ROUTE']} rejected" for g in groups if isinstance(g, Group) and not g.accepted
    ]
    return ", ".join(lost)


def _along(view: View, metric: Metric, axis: str, levels: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": wording.axes(line.context, wording.framework(line.framework), line.route),
            "at": 0,
            "values": [
                None if (g := line.points.get(level)) is None else g.mean(metric.field)
                for level in levels
            ],
        }
        for line in lines.lines_along(view, axis)
    ]


def _panel(kind: str, title: str, text: str, unit: str, tall: int) -> Panel:
    return {
        "type": kind, "title": title, "text": text, "at": [0, 0, 12, tall],
        "config": {"unit": unit, "min": 0, "custom": {"fill": 4}}, "series": [], "tables": [],
        "options": {"calc": "mean"},
    }  # fmt: skip


def _of(labels: dict[str, str], record: CellRecord) -> bool:
    """Return whether a series is of this cell: another service's may end in its window."""
    name = labels.get("name")
    return name is None or name in (record.framework, "postgres", "pgbouncer")


def _sampled(item: dict[str, Any], start: float, step: float, points: int) -> dict[str, Any]:
    values: list[float | None] = [None] * points
    for moment, text in item["values"]:
        place = round((float(moment) - start) / step)
        value = float(text)
        if 0 <= place < points and value == value and abs(value) != float("inf"):
            values[place] = float(f"{value:.5g}")
    there = [n for n, value in enumerate(values) if value is not None]
    at, end = (there[0], there[-1] + 1) if there else (0, 0)
    name = item["metric"]["__name__"].removeprefix("poolscope:")
    return {"name": _short(name), "at": at, "values": values[at:end]}


def _short(name: str) -> str:
    """Return a signal's name in words: client_latency_p95_seconds is "client latency p95"."""
    for ending in ("_seconds", "_ratio", "_per_second"):
        name = name.removesuffix(ending)
    words = {"_": " ", "latency ": "", " mean": "", "db cpu": "PostgreSQL", " cpu": "",
             "postgres ": "PostgreSQL ", "pgbouncer": "PgBouncer"}  # fmt: skip
    for old, new in words.items():
        name = name.replace(old, new)
    return name


def _meaning(name: str) -> str:
    return f"{_short(name).capitalize()}: {BY_NAME[name].meaning}." if name in BY_NAME else ""
