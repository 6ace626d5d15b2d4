"""All finished cells of a run side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from monitoring.dashboards.panel import (
    CHOSEN,
    GREEN,
    NOTHING,
    RED,
    Dashboard,
    Panel,
    Query,
    Row,
    columns,
)

SHOWN = ("cell_id", "status")
#: What a rejected cell was rejected for, and what limits an accepted one, after the figures.
LAST = "why"
HIDDEN = ("framework", "route", "users", "variant", "run_id")
CELL = ", ".join((*SHOWN, LAST, *HIDDEN))


@dataclass(frozen=True)
class Column:
    """A figure of a cell's record as a column; without a name it is not shown."""

    figure: str
    name: str | None
    unit: str = "short"
    width: int = 64
    decimals: int | None = None


COLUMNS = (
    Column("measured", None),  # for the row of a cell that has no other figure
    Column("rps", "RPS", width=54, decimals=0),
    Column("p95_seconds", "P95", "s"),
    Column("p99_seconds", "P99", "s"),
    Column("error_ratio", "errors", "percentunit", 58),
    Column("new_connections_per_request", "conn/rq", width=76, decimals=2),
    Column("pool_wait_seconds", "wait", "s"),
    Column("pgbouncer_wait_seconds", "pgb wait", "s", 82),
    Column("db_cpu_ratio", "DB", "percentunit", 48, 0),
    Column("app_cpu_ratio", "app", "percentunit", 48, 0),
    Column("pgbouncer_cpu_ratio", "pgb", "percentunit", 48, 0),
)
#: Those that not every cell has: the direct route has no PgBouncer.
SOME_CELLS = {"pgbouncer_wait_seconds", "pgbouncer_cpu_ratio"}


def _kept(figure: str, **labels: str) -> str:
    """Return a figure of the chosen cells that ended in the range, by further labels."""
    more = "".join(f', {name}="{value}"' for name, value in labels.items())
    chosen = f'{CHOSEN}, figure="{figure}"{more}'
    return f"last_over_time(lab_cell_result{{{chosen}}}[$__range])"


def _table() -> Panel:
    queries = tuple(
        Query(
            f"max by ({CELL}) ({_kept(column.figure)})",
            instant=True,
            format="table",
            due="sometimes" if column.figure in SOME_CELLS else "cells",
        )
        for column in COLUMNS
    )
    return Panel(
        "table",
        "Cells",
        "One row for each finished cell in this range. Empty: not measured (never 0). A rejected"
        " cell's figures are shown and not to be trusted: why says what it was rejected for, and of"
        " an accepted one what limits it. DB, app, pgb: CPU of the limit, of the database, the"
        " service and PgBouncer; the one near 100% is the bottleneck. wait: pool wait; pgb wait:"
        " for a server connection of PgBouncer.",
        queries,
        width=24,
        height=14,
        nothing="no finished cell in this range",
        transformations=columns(
            *(column.name for column in COLUMNS), labels=SHOWN, hidden=HIDDEN, last=(LAST,)
        ),
        overrides=_overrides(),
        options={"sortBy": [{"displayName": "cell", "desc": False}]},
    )


def _overrides() -> dict[str, dict[str, Any]]:
    status = {
        "accepted": {"text": "accepted", "color": GREEN, "index": 0},
        "rejected": {"text": "rejected", "color": RED, "index": 1},
    }
    found: dict[str, dict[str, Any]] = {
        "cell_id": {"displayName": "cell", "custom.width": 190},
        LAST: {"custom.minWidth": 90, "custom.cellOptions": {"type": "auto", "wrapText": True}},
        "status": {
            "custom.width": 76,
            "custom.cellOptions": {"type": "color-text"},
            "mappings": [{"type": "value", "options": status}],
        },
    }
    for column in COLUMNS:
        if column.name:
            given = {"unit": column.unit, "decimals": column.decimals, "noValue": NOTHING,
                     "custom.width": column.width}  # fmt: skip
            found[column.name] = {n: v for n, v in given.items() if v is not None}
    return found


GROUP = "framework, users, variant, status"


def _named(expr: str) -> str:
    """Return bars by a name of their own; that of rejected cells says that they are."""
    marked = f'label_replace({expr}, "mark", "rejected", "status", "rejected")'
    return f'label_join({marked}, "cell", " ", "framework", "users", "variant", "mark")'


def _bar(color: str) -> dict[str, Any]:
    # Each bar says its value: ticks, of which the last would be cut, say nothing more.
    return {
        "color": {"mode": "fixed", "fixedColor": color},
        "custom.axisPlacement": "hidden",
    }


def _bars(title: str, text: str, figure: str, unit: str) -> Panel:
    """Compare routes: one group of bars for framework, users and the other axes."""
    queries = tuple(
        Query(
            _named(f"avg by ({GROUP}) ({_kept(figure, route=route)})"),
            instant=True,
            format="table",
            due="accepted" if figure not in SOME_CELLS else "sometimes",
        )
        for route in ("direct", "pgbouncer")
    )
    merge, (_, organized) = columns("direct", "pgbouncer", labels=("cell",))
    hidden = dict.fromkeys(("Time", "mark", "framework", "users", "variant", "status"), True)
    return Panel(
        "barchart",
        title,
        f"{text} Mean of the repetitions, by framework, users and the other axes; rejected ones are"
        " bars of their own, and say so.",
        queries,
        unit=unit,
        width=12,
        height=12,
        transformations=(merge, ("organize", {**organized, "excludeByName": hidden})),
        options={"xField": "cell", "xTickLabelMaxLength": 60},
        overrides={"direct": _bar("blue"), "pgbouncer": _bar("orange")},
    )


BARS = Row(
    "Direct beside PgBouncer",
    (
        _bars("Requests per second", "Longer is better.", "rps", "short"),
        _bars("P95", "Shorter is better.", "p95_seconds", "s"),
        _bars("Pool wait", "Mean wait per request.", "pool_wait_seconds", "s"),
        _bars("Database CPU", "Share of the limit.", "db_cpu_ratio", "percentunit"),
        _bars("Service CPU", "Share of the limit.", "app_cpu_ratio", "percentunit"),
        _bars(
            "New connections per request",
            "0 with a pool, 1 where each request connects.",
            "new_connections_per_request",
            "short",
        ),
    ),
)

MATRIX = Dashboard(
    "poolscope-matrix",
    "Poolscope: matrix",
    "All finished cells of a run side by side: choose the run and a time range that holds it.",
    (Row("Cells", (_table(),)), BARS),
    since="now-3h",
)
