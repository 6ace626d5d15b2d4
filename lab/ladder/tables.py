"""The ladder's tables, by the lab's own connection: made, emptied, counted, removed by name."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import numpy as np
import psycopg
from psycopg import sql

from lab.errors import ServiceError
from lab.paths import ROOT

SCRIPT = ROOT / "database" / "ladder.sql"
#: How long backends may still write after the generator has ended.
SETTLED_S = 30.0
POLL_S = 0.05
WRITING = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state <> 'idle'"
TABLES = ("ladder_rows", "ladder_rows_partitioned", "ladder_rows_unlogged")


def left_over(connection: psycopg.Connection) -> list[str]:
    """Return the tables of these names that are there: an interrupted run left them."""
    rows = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename = ANY(%s)",
        (list(TABLES),),
    )
    return sorted(name for (name,) in rows)


def make(connection: psycopg.Connection) -> None:
    """Make the tables anew; nothing but tables of these names is touched."""
    connection.execute(SCRIPT.read_bytes())


def drop(connection: psycopg.Connection) -> None:
    """Remove the tables by name."""
    for name in TABLES:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))


def empty(connection: psycopg.Connection) -> None:
    """Bring every rung to the same start: empty tables, nothing left to write back."""
    names = sql.SQL(", ").join(map(sql.Identifier, TABLES))
    connection.execute(sql.SQL("TRUNCATE {}").format(names))
    connection.execute("CHECKPOINT")


@contextmanager
def settled(superuser: str, role: str, within_s: float = SETTLED_S) -> Iterator[psycopg.Connection]:
    """Lend a connection whose queries all see one moment, after the role's last write.

    A commit whose answer was lost may still be under way when the writer has ended; one between
    two counts would be in one of them only. Raises ServiceError where backends go on writing.
    """
    deadline = time.monotonic() + within_s
    with psycopg.connect(superuser, autocommit=True) as connection:
        while writing := _scalar(connection, WRITING, role):
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{writing} backends of {role} still write {within_s:g} s after the generator"
                )
            time.sleep(POLL_S)
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            yield connection


def count(connection: psycopg.Connection, table: str) -> int:
    """Return the rows of a table."""
    return _scalar(connection, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))


def present(connection: psycopg.Connection, table: str, first: int, size: int) -> int:
    """Return how many rows of a batch are in the table, by their ids."""
    query = sql.SQL("SELECT count(*) FROM {} WHERE id >= %s AND id < %s")
    return _scalar(connection, query.format(sql.Identifier(table)), first, first + size)


def ids(connection: psycopg.Connection, table: str) -> np.ndarray:
    """Return every id in the table, in order."""
    statement = sql.SQL("COPY (SELECT id FROM {}) TO STDOUT").format(sql.Identifier(table))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        text = b"".join(map(bytes, copy))
    return np.sort(np.array(text.split(), dtype=np.int64))


def settle(
    connection: psycopg.Connection, table: str, unknown: Iterable[tuple[int, int]]
) -> tuple[int, int]:
    """Settle writes whose answer was lost: return rows that are there, and batches torn apart.

    A write is all or none; one of which a part is there would be PostgreSQL's fault or ours.
    """
    there = torn = 0
    for first, size in unknown:
        found = present(connection, table, first, size)
        there += found
        torn += found not in (0, size)
    return there, torn


def wal_position(connection: psycopg.Connection) -> int:
    """Return how many bytes of WAL were ever written."""
    return _scalar(connection, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")


def _scalar(
    connection: psycopg.Connection, query: sql.Composed | LiteralString, *given: Any
) -> int:
    """Return the one number of a query's one row."""
    row = connection.execute(query, given).fetchone()
    assert row is not None
    return int(row[0])
