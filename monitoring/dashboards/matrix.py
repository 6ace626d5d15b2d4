"""All finished cells of a run side by side."""

from __future__ import annotations

from typing import Any

from monitoring.dashboards.panel import CHOSEN, Dashboard, Panel, Query, Row, columns

LABELS = ("framework", "route", "users", "variant", "status", "cell_id", "run_id")
CELL = ", ".join(LABELS)
#: Figure of a cell's record, its column, and the column's unit.
FIGURES: tuple[tuple[str, str | None, str], ...] = (
    ("measured", None, "short"),  # for the row of a cell that has no other figure
    ("rps", "RPS", "reqps"),
    ("p50_seconds", "P50", "s"),
    ("p95_seconds", "P95", "s"),
    ("p99_seconds", "P99", "s"),
    ("error_ratio", "errors", "percentunit"),
    ("new_connections_per_request", "conn/rq", "short"),
    ("pool_wait_seconds", "pool wait", "s"),
    ("pgbouncer_wait_seconds", "pgb wait", "s"),
    ("db_cpu_ratio", "DB CPU", "percentunit"),
    ("app_cpu_ratio", "app CPU", "percentunit"),
    ("pgbouncer_cpu_ratio", "pgb CPU", "percentunit"),
    ("generator_cpu_ratio", "generator", "percentunit"),
    ("db_throttled_ratio", "DB throttled", "percentunit"),
)
#: Those that not every cell has: the direct route has no PgBouncer, and not every host limits.
SOME_CELLS = {"pgbouncer_wait_seconds", "pgbouncer_cpu_ratio", "db_throttled_ratio"}


def _kept(figure: str, **labels: str) -> str:
    """Return a figure of the chosen cells that ended in the range, by further labels."""
    more = "".join(f', {name}="{value}"' for name, value in labels.items())
    chosen = f'{CHOSEN}, figure="{figure}"{more}'
    return f"last_over_time(lab_cell_result{{{chosen}}}[$__range])"


def _table() -> Panel:
    queries = tuple(
        Query(
            f"max by ({CELL}) ({_kept(figure)})",
            instant=True,
            format="table",
            due="sometimes" if figure in SOME_CELLS else "cells",
        )
        for figure, _, _ in FIGURES
    )
    overrides: dict[str, dict[str, Any]] = {
        column: {"unit": unit} for _, column, unit in FIGURES if column and unit != "short"
    }
    return Panel(
        "table",
        "Cells",
        "One row for each finished cell in this range. Empty: not measured (never 0). A rejected"
        " cell's figures are shown and not to be trusted: its record says why. Ratios of CPU are"
        " of the limit; the one near 100% is the bottleneck.",
        queries,
        width=24,
        height=14,
        transformations=columns(*(column for _, column, _ in FIGURES), labels=LABELS),
        overrides=overrides,
        options={"sortBy": [{"displayName": "cell_id", "desc": False}]},
    )


def _bars(title: str, text: str, figure: str, unit: str) -> Panel:
    """Compare routes: one group of bars for framework, users and the other axes."""
    queries = tuple(
        Query(
            "label_join(avg by (framework, users, variant)"
            f" ({_kept(figure, route=route, status='accepted')}),"
            ' "cell", " ", "framework", "users", "variant")',
            instant=True,
            format="table",
            due="accepted" if figure not in SOME_CELLS else "sometimes",
        )
        for route in ("direct", "pgbouncer")
    )
    merge, (_, organized) = columns("direct", "pgbouncer", labels=("cell",))
    hidden = dict.fromkeys(("Time", "framework", "users", "variant"), True)
    return Panel(
        "barchart",
        title,
        f"{text} Mean of accepted repetitions, by framework, users and the other axes. Choose one"
        " run above: cells alike of several runs are averaged.",
        queries,
        unit=unit,
        width=12,
        height=12,
        transformations=(merge, ("organize", {**organized, "excludeByName": hidden})),
        options={"xField": "cell"},
        overrides={
            "direct": {"color": {"mode": "fixed", "fixedColor": "blue"}},
            "pgbouncer": {"color": {"mode": "fixed", "fixedColor": "orange"}},
        },
    )


BARS = Row(
    "Direct beside PgBouncer",
    (
        _bars("Requests per second", "Longer is better.", "rps", "reqps"),
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
