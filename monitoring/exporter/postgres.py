"""What postgres_exporter does not give in every version: sessions, waits, WAL, connects under way.

Sessions are here because postgres_exporter has none from 0.13 on. The names differ from the ones
it had before (`pg_stat_database_sessions`), so that both can be scraped at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from prometheus_client.metrics_core import Metric

from monitoring.exporter.connection import Columns, KeptConnection, fetch
from monitoring.exporter.parents import ParentGroups, postmaster
from monitoring.exporter.processes import PROC, children
from monitoring.exporter.reading import Reading, Row, counter, gauge, number
from monitoring.exporter.state import load_state
from monitoring.exporter.statements import statements_families

MS = 1e-3

#: pg_stat_database from PostgreSQL 14 on: column, exposed name, factor, text.
SESSIONS = (
    ("sessions", "sessions_total", 1, "Sessions that were opened"),
    ("session_time", "session_seconds_total", MS, "Time sessions were open"),
    ("active_time", "session_active_seconds_total", MS, "Time sessions ran statements"),
    (
        "idle_in_transaction_time",
        "session_idle_in_transaction_seconds_total",
        MS,
        "Time sessions were idle in a transaction",
    ),
    ("sessions_abandoned", "sessions_abandoned_total", 1, "Sessions whose client was lost"),
    ("sessions_fatal", "sessions_fatal_total", 1, "Sessions ended by a fatal error"),
    ("sessions_killed", "sessions_killed_total", 1, "Sessions ended by an operator"),
)
SESSIONS_SQL = f"""
    SELECT datname, {", ".join(column for column, *_ in SESSIONS)}
    FROM pg_stat_database WHERE datname IS NOT NULL
"""
#: A backend that waits for nothing is on a CPU, or would be: `none`. The exporter's own, which is
#: always found at work, is left out.
WAITS_SQL = """
    SELECT coalesce(state, 'unknown') AS state, coalesce(wait_event_type, 'none') AS type,
           coalesce(wait_event, 'none') AS event, count(*) AS backends
    FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    GROUP BY 1, 2, 3
"""
SETTINGS_SQL = """
    SELECT current_setting('max_connections') AS max_connections,
           current_setting('superuser_reserved_connections') AS superuser_reserved_connections,
           current_setting('reserved_connections', true) AS reserved_connections
"""
WAL_SQL = "SELECT wal_bytes, wal_records, wal_fpi FROM pg_stat_wal"
WAL = (
    ("wal_bytes", "bytes_total", "Bytes of WAL"),
    ("wal_records", "records_total", "WAL records"),
    ("wal_fpi", "fpi_total", "Full page images in the WAL"),
)
FIRST_WITH_SESSIONS_AND_WAL = 140_000
#: The last word of a process title, before the backend appears in any view.
PHASES = ("initializing", "authentication", "startup")


@dataclass
class PostgresSource:
    """Asks PostgreSQL itself, never through PgBouncer."""

    conninfo: str
    name: str = "postgres"

    def __post_init__(self) -> None:
        # Prepared at first use: planning the views costs the database more than running them.
        self._connection = KeptConnection(
            self.conninfo, {"prepare_threshold": 0, "options": "-c statement_timeout=5s"}
        )

    def read(self) -> Reading:
        """Return all figures that this version of PostgreSQL has."""
        return Reading(self._connection.run(_families))


def _families(connection: psycopg.Connection) -> list[Metric]:
    families = [
        *settings_families(fetch(connection, SETTINGS_SQL)),
        *waits_families(fetch(connection, WAITS_SQL)),
        *statements_families(connection),
    ]
    if connection.info.server_version >= FIRST_WITH_SESSIONS_AND_WAL:
        families += sessions_families(fetch(connection, SESSIONS_SQL))
        families += wal_families(fetch(connection, WAL_SQL))
    return families


def settings_families(rows: list[Columns]) -> list[Metric]:
    """Return the limits on connections; `reserved_connections` is new in PostgreSQL 16."""
    return [
        gauge(f"pg_settings_{name}", f"{name} of PostgreSQL", [], [((), number(rows[0], name))])
        for name in ("max_connections", "superuser_reserved_connections", "reserved_connections")
    ]


def waits_families(rows: list[Columns]) -> list[Metric]:
    """Return client backends by state and what they wait for, and those that wait for a lock."""
    labels = ["state", "wait_event_type", "wait_event"]
    values: list[Row] = [
        ((row["state"], row["type"], row["event"]), row["backends"]) for row in rows
    ]
    locked = sum(row["backends"] for row in rows if row["type"] == "Lock")
    # The exporter's own connection is kept, and takes one of those that are allowed.
    total = 1 + sum(row["backends"] for row in rows)
    return [
        gauge("pg_stat_activity_wait_events", "Client backends by wait event", labels, values),
        gauge("pg_stat_activity_lock_waits", "Backends waiting for a lock", [], [((), locked)]),
        gauge("pg_stat_activity_client_backends", "Client backends", [], [((), total)]),
    ]


def sessions_families(rows: list[Columns]) -> list[Metric]:
    """Return the session counters of each database, times in seconds."""
    families = []
    for column, name, factor, text in SESSIONS:
        values = [((row["datname"],), float(row[column]) * factor) for row in rows]
        families.append(counter(f"pg_stat_database_{name}", text, ["datname"], values))
    return families


def wal_families(rows: list[Columns]) -> list[Metric]:
    """Return what was written to the WAL since the statistics were reset."""
    return [
        counter(f"pg_stat_wal_{name}", text, [], [((), number(rows[0], column))])
        for column, name, text in WAL
    ]


@dataclass
class ConnectingSource:
    """Counts backends that are not yet in any view, by the titles of the postmaster's children."""

    state_file: Path
    proc: Path = field(default=PROC)
    name: str = "connecting"
    groups: ParentGroups | None = None

    def read(self) -> Reading:
        """Return backends by phase; nothing where PostgreSQL's first process is not known."""
        first = self._postmaster()
        if first is None:
            return Reading()
        counts = dict.fromkeys(PHASES, 0)
        for pid in children(first, self.proc):
            phase = _phase(self._title(pid))
            if phase in counts:
                counts[phase] += 1
        rows = [((phase,), count) for phase, count in counts.items()]
        text = "Backends that a client cannot use yet, by phase"
        return Reading([gauge("pg_connecting_backends", text, ["phase"], rows)])

    def _postmaster(self) -> int | None:
        if self.groups is not None:
            folders = self.groups.find().get("postgres")
            return None if folders is None else postmaster(folders, self.proc)
        postgres = load_state(self.state_file).services.get("postgres")
        return None if postgres is None else postgres.pid

    def _title(self, pid: int) -> str:
        try:
            raw = (self.proc / str(pid) / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        # A title may be followed by what is left of the argument list it was written over.
        return raw.rstrip(b"\0 ").partition(b"\0")[0].decode(errors="replace").rstrip()


def _phase(title: str) -> str:
    """Return the last word of a title; a child that has none of its own yet was just forked."""
    if title and not title.startswith("postgres: "):
        return "initializing"
    return title.rpartition(" ")[2]
