"""Load the data, once: the same sizes and seed always give the same rows.

The tables are made, loaded by COPY, verified and marked in one transaction, so a load that was
interrupted leaves nothing behind. The mark holds a fingerprint of everything that decides the data;
another fingerprint, or counts that differ, and the load is done again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import Connection, sql
from psycopg.pq import TransactionStatus

if TYPE_CHECKING:
    from database.fakedata import FakeData
    from database.settings import SeedSettings

FOLDER = Path(__file__).resolve().parent
SCHEMA = FOLDER / "schema.sql"
TABLES = ("comments", "posts", "users", "transactions", "hot_rows", "seed_state")
LOADED = ("users", "posts", "comments")
#: Rows that the hot-row scenario can update; the toggle HOT_ROWS says how many of them it does.
HOT_ROWS = 1_000
#: Another process may be loading, or a service may be reading a table that is to be replaced.
LOCK_TIMEOUT = "10s"

Say = Callable[[str], None]


class SeedError(Exception):
    """The database cannot be loaded, with the reason in one line."""


def fingerprint(settings: SeedSettings) -> str:
    """Return a hash of what decides the data: sizes, seed, tables, generator and Faker."""
    parts = [settings.seed_users, settings.seed_posts, settings.seed_comments, settings.seed]
    code = [SCHEMA.read_bytes(), (FOLDER / "fakedata.py").read_bytes()]
    text = json.dumps([parts, HOT_ROWS, version("faker")]).encode()
    return hashlib.sha256(b"\0".join([text, *code])).hexdigest()


def reason_to_load(conn: Connection[Any], settings: SeedSettings) -> str | None:
    """Say why the data has to be loaded, or return None where it is there and complete.

    Raises SeedError where tables of the same names are not Poolscope's.
    """
    found = _existing_tables(conn)
    if not found:
        return "no data yet"
    if "seed_state" not in found:
        raise SeedError(
            f"database {conn.info.dbname} holds a table {sorted(found)[0]!r} that Poolscope did "
            "not make; use a server of its own"
        )
    if missing := set(TABLES) - found:
        return f"table {sorted(missing)[0]} is missing"
    state = conn.execute("SELECT fingerprint FROM seed_state").fetchall()
    if state != [(fingerprint(settings),)]:
        return "loaded with another size, seed or version" if state else "not marked as complete"
    wrong = _wrong_count(conn, settings)
    return f"partial data: {wrong}" if wrong else None


def load(conn: Connection[Any], settings: SeedSettings, data: FakeData) -> None:
    """Replace the tables and load the data, all of it or nothing.

    Raises SeedError where the counts are not right afterwards, psycopg.Error otherwise.
    """
    if conn.info.transaction_status != TransactionStatus.IDLE:
        raise SeedError("the load needs a connection without an open transaction")
    with conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        # The rows refer to each other by construction; checking each one would take longer than
        # all the rest. The counts and highest ids are verified below.
        conn.execute("SET LOCAL session_replication_role = replica")
        conn.execute("SET LOCAL maintenance_work_mem = '128MB'")
        for table in TABLES:
            conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table)))
        conn.execute(SCHEMA.read_bytes())
        for table, _rows, chunks in data.tables():
            # Frozen rows need no later vacuum to become so.
            statement = sql.SQL("COPY {} FROM STDIN (FREEZE)").format(sql.Identifier(table))
            with conn.cursor() as cursor, cursor.copy(statement) as copy:
                for chunk in chunks:
                    copy.write(chunk)
        conn.execute(
            "INSERT INTO hot_rows (id, hits) SELECT n, 0 FROM generate_series(1, %s::integer) n",
            (HOT_ROWS,),
        )
        if wrong := _wrong_count(conn, settings):
            raise SeedError(f"the load did not give what it should: {wrong}")
        conn.execute(
            "INSERT INTO seed_state (fingerprint, users, posts, comments, seed) "
            "VALUES (%s, %s, %s, %s, %s)",
            (
                fingerprint(settings),
                settings.seed_users,
                settings.seed_posts,
                settings.seed_comments,
                settings.seed,
            ),
        )


def settle(conn: Connection[Any]) -> None:
    """Do now what autovacuum and the checkpointer would do in the first cell.

    The connection must be in autocommit, and another one than the load's: a session may report its
    row counts up to a second late, and would make the tables look unvacuumed again.
    """
    conn.execute("VACUUM (ANALYZE) users, posts, comments, hot_rows")
    conn.execute("CHECKPOINT")


def reset_transactions(conn: Connection[Any]) -> None:
    """Empty the table that the insert scenario writes to; ids start from 1 again."""
    conn.execute("TRUNCATE transactions RESTART IDENTITY")


def _existing_tables(conn: Connection[Any]) -> set[str]:
    rows = conn.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename = ANY(%s)",
        (list(TABLES),),
    )
    return {row[0] for row in rows}


def _wrong_count(conn: Connection[Any], settings: SeedSettings) -> str | None:
    """Say of the first table whose ids are not exactly 1 to N what is wrong with it."""
    sizes = {table: getattr(settings, f"seed_{table}") for table in LOADED}
    for table, wanted in (sizes | {"hot_rows": HOT_ROWS}).items():
        query = sql.SQL("SELECT count(*), coalesce(min(id), 1), coalesce(max(id), 0) FROM {}")
        row = conn.execute(query.format(sql.Identifier(table))).fetchone()
        count, least, most = row or (0, 1, 0)
        if count != wanted:
            return f"table {table} has {count} rows, wanted {wanted}"
        if (least, most) != (1, wanted):
            return f"table {table} has ids from {least} to {most}, wanted 1 to {wanted}"
    return None


def one_line(error: psycopg.Error) -> str:
    """Return PostgreSQL's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__
