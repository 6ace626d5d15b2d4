"""Proof that a service does the work that is asked: the same JSON, by the same statements.

The expected JSON is computed by the instrument's own SQL, and the statements are PostgreSQL's own
count of what the service sent. Both are held against the other services of the run.
"""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import psycopg

from lab import samples
from lab.errors import VerificationError
from lab.samples import SAMPLES
from lab.settings import Settings

TIMEOUT_S = 30
#: By these names of tables the work is told from a pool's checks.
TABLES = ("posts", "transactions", "users", "hot_rows")

STATEMENTS = """
SELECT s.queryid, s.query, s.calls, s.rows
FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
WHERE r.rolname = 'poolscope_service' ORDER BY s.queryid
"""


@dataclass(frozen=True)
class Work:
    """What one request of a service is: (statement id, calls, rows) per sample, and its texts."""

    statements: tuple[tuple[int, float, float], ...]
    texts: dict[int, str]

    def difference(self, other: Work) -> str | None:
        """Say how this work differs from another service's, None where it is the same."""
        if [s[1:] for s in self.statements] == [s[1:] for s in other.statements]:
            return None
        return f"{self._said()} against {other._said()}"

    def _said(self) -> str:
        return " + ".join(
            f"{calls:g}x {self.texts[i][:40]!r} ({rows:g} rows)"
            for i, calls, rows in self.statements
        )


def prove(url: str, s: Settings, connection: psycopg.Connection) -> Work:
    """Send sample requests, check each answer and count the statements.

    Raises VerificationError with what differs.
    """
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
        _warm(client, s)
        connection.execute("SELECT pg_stat_statements_reset()")
        rows = samples.OF[s.scenario](client, s, connection)
    return _judge(connection, rows)


def _warm(client: httpx.Client, s: Settings) -> None:
    """Let every worker do its once-only work (type look-ups, first connection) before counting."""
    for _ in range(2 * s.workers_effective):
        samples.ask(client, "GET", "/benchmark/db-test?post_id=1")


def _judge(connection: psycopg.Connection, rows: int) -> Work:
    """Return the service's statements per request; the work statement must be one."""
    statements = connection.execute(STATEMENTS).fetchall()
    texts = {queryid: query for queryid, query, _, _ in statements}
    work = [s for s in statements if any(t in s[1] for t in TABLES)]
    calls = sum(s[2] for s in work)
    if calls != SAMPLES:
        raise VerificationError(
            f"{calls} statements for {SAMPLES} requests: {list(texts.values())}"
        )
    if (got := sum(s[3] for s in work)) != rows:
        raise VerificationError(f"{got} rows for {SAMPLES} requests, expected {rows}")
    per_request = tuple((s[0], s[2] / SAMPLES, s[3] / SAMPLES) for s in work)
    pings = [s for s in statements if s[1].strip().upper() in ("SELECT $1", "SELECT 1")]
    known = {s[0] for s in (*work, *pings)}
    if others := [s for s in statements if s[0] not in known]:
        raise VerificationError(f"statements beside the work: {[s[1][:60] for s in others]}")
    return Work(per_request, texts)
