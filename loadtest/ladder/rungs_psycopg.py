"""The rungs that write with psycopg 3."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from loadtest.ladder.contract import Rung, Target
from loadtest.ladder.rows import COLUMNS, Rows

TYPES = ("int8", "int4", "numeric", "text", "timestamptz")


def options(target: Target) -> dict[str, Any]:
    """Return psycopg's connection options."""
    return {
        "host": target.host,
        "port": target.port,
        "dbname": target.database,
        "user": target.user,
        "password": target.password,
        "connect_timeout": target.connect_timeout_s,
        "application_name": "poolscope-ladder",
        "sslmode": "disable",
        "prepare_threshold": 5 if target.prepares else None,
    }


def insert(table: str) -> str:
    """Return the INSERT of one row."""
    return f"INSERT INTO {table} ({', '.join(COLUMNS)}) VALUES (%s, %s, %s, %s, %s)"


class ConnectPerInsert(Rung):
    """What a script does that opens the database where it needs it."""

    name = "1"
    method = "synchronous, a new connection and a commit per insert"
    client = "psycopg"
    removes = "nothing yet: where every ladder starts"
    only_route = "direct"

    async def open(self) -> None:
        """Open nothing: each write opens its own."""

    async def write(self, rows: Rows) -> None:
        """Connect, insert, commit, close."""
        with self.timed_connect():
            connection = psycopg.connect(**options(self.target))
        with connection:  # commits and closes
            connection.execute(insert(self.table), next(rows.records()))

    async def close(self) -> None:
        """Close nothing."""


class ConnectPerInsertThroughPgbouncer(ConnectPerInsert):
    """The same script; PgBouncer keeps the connection to PostgreSQL."""

    name = "1p"
    method = "the same through PgBouncer"
    removes = "starting a PostgreSQL process per insert; the login remains, to PgBouncer"
    only_route = "pgbouncer"


class Kept(Rung):
    """Asynchronous connections that are kept, one for each lane."""

    client = "psycopg"
    takes = frozenset({"BATCH", "POOL"})

    async def open(self) -> None:
        """Connect every lane."""
        self._idle: list[psycopg.AsyncConnection] = []
        for _ in range(self.pool):
            self._idle.append(await self._connect())

    async def close(self) -> None:
        """Close every connection."""
        for connection in getattr(self, "_idle", []):
            await connection.close()

    async def _connect(self) -> psycopg.AsyncConnection:
        with self.timed_connect():
            return await psycopg.AsyncConnection.connect(**options(self.target), autocommit=True)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """Lend a connection; one that broke is replaced at the next call."""
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            yield connection
        finally:
            if not connection.closed:
                self._idle.append(connection)


class Pipeline(Kept):
    """Single-row INSERTs sent without waiting for answers: one round trip and commit a batch."""

    name = "3-B"
    method = "psycopg's pipeline mode, 500 INSERTs per round trip"
    removes = "a round trip per row, by pipelining in the client"
    batch, pool, lanes = 500, 4, 4

    async def write(self, rows: Rows) -> None:
        """Send the batch as one implicit transaction: nothing but the end of the block syncs."""
        async with self.connection() as connection, connection.pipeline():
            statement = insert(self.table)
            for record in rows.records():
                await connection.execute(statement, record)


class Copy(Kept):
    """COPY in the binary format; psycopg encodes the rows."""

    batch, pool, lanes = 500, 4, 4
    removes = "planning and executing a statement per row"

    async def write(self, rows: Rows) -> None:
        """Copy the batch in one transaction."""
        statement = f"COPY {self.table} ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
        async with self.connection() as connection, connection.cursor() as cursor:  # noqa: SIM117
            async with cursor.copy(statement) as copy:
                copy.set_types(TYPES)
                for record in rows.records():
                    await copy.write_row(record)


class Copy500(Copy):
    """COPY of small batches."""

    name = "3-D-500"
    method = "COPY (binary), batches of 500"


class Copy5000(Copy):
    """COPY of larger batches."""

    name = "3-D-5000"
    method = "COPY (binary), batches of 5,000"
    removes = "nine in ten commits and round trips"
    batch = 5000
