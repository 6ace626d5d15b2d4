"""The statements that took most of PostgreSQL's time, from pg_stat_statements.

postgres_exporter has a collector for it from 0.17 on, with a series for every statement and no
text. Here it is the first few, each with the beginning of its text.
"""

from __future__ import annotations

import psycopg
from prometheus_client.metrics_core import Metric

from monitoring.exporter.connection import Columns, fetch
from monitoring.exporter.reading import Row, counter

#: How many statements, and how much of their text: each is a series for each of three counters.
STATEMENTS = 10
TEXT_LENGTH = 120
MS = 1e-3

INSTALLED_SQL = "SELECT to_regclass('pg_stat_statements') IS NOT NULL AS installed"
#: In these the literals are parameters by now. Any other statement stands there as it was sent,
#: and may hold a password: of it only the first two words are shown.
NORMALISED = r"^\s*(select|insert|update|delete|merge|with)\M"
#: Without the exporter's own; a statement is counted once for each role that runs it.
TOP_SQL = rf"""
    SELECT queryid, CASE WHEN query ~* '{NORMALISED}'
                    THEN left(regexp_replace(btrim(query), '\s+', ' ', 'g'), {TEXT_LENGTH})
                    ELSE coalesce(substring(query FROM '^\s*\w+\s+\w+'), 'other') END
           AS query, calls, ms, rows
    FROM (SELECT queryid, min(query) AS query, sum(calls) AS calls, sum(total_exec_time) AS ms,
                 sum(rows) AS rows
          FROM pg_stat_statements
          WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND userid <> current_user::regrole AND queryid IS NOT NULL
          GROUP BY queryid ORDER BY sum(total_exec_time) DESC LIMIT {STATEMENTS}) AS top
"""
#: Column, exposed name, factor, text.
COUNTERS = (
    ("calls", "calls_total", 1, "Executions"),
    ("ms", "seconds_total", MS, "Time inside PostgreSQL"),
    ("rows", "rows_total", 1, "Rows returned or changed"),
)


def statements_families(connection: psycopg.Connection) -> list[Metric]:
    """Return the counters of the first statements; nothing where the extension is not installed."""
    if not fetch(connection, INSTALLED_SQL)[0]["installed"]:
        return []
    return top_families(fetch(connection, TOP_SQL))


def top_families(rows: list[Columns]) -> list[Metric]:
    """Return one family for each counter, with a series for each statement."""
    families = []
    for column, name, factor, text in COUNTERS:
        values: list[Row] = [
            ((str(row["queryid"]), str(row["query"])), float(row[column]) * factor) for row in rows
        ]
        labels = ["queryid", "query"]
        families.append(
            counter(f"pg_top_statement_{name}", f"{text}, by statement", labels, values)
        )
    return families
