"""The ladder's tables, by the lab's own connection: made, emptied, counted, removed by name."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import psycopg
from psycopg import sql

from lab.paths import ROOT

SCRIPT = ROOT / "database" / "ladder.sql"
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


def count(connection: psycopg.Connection, table: str) -> int:
    """Return the rows of a table."""
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def present(connection: psycopg.Connection, table: str, first: int, size: int) -> int:
    """Return how many rows of a batch are in the table, by their ids."""
    query = sql.SQL("SELECT count(*) FROM {} WHERE id >= %s AND id < %s")
    row = connection.execute(query.format(sql.Identifier(table)), (first, first + size)).fetchone()
    assert row is not None
    return int(row[0])


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
    row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return int(row[0])
