"""The rungs that write with asyncpg."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import asyncpg

from loadtest.ladder.contract import PARTITIONED, UNLOGGED, NotSent, Rung, describe
from loadtest.ladder.rows import COLUMNS, HEADER, TRAILER, Rows

#: Rows that a streamed COPY sends at a time.
PART = 5000


class Pooled(Rung):
    """A pool of asyncpg connections, all opened at the start.

    Giving a connection back costs a round trip of its own: the pool resets the session.
    """

    client = "asyncpg"
    takes = frozenset({"POOL"})
    session: ClassVar[dict[str, str]] = {}
    _pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Open the whole pool."""
        t = self.target
        self._pool = await asyncpg.create_pool(
            host=t.host, port=t.port, database=t.database, user=t.user, password=t.password,
            timeout=t.connect_timeout_s, ssl=False, min_size=self.pool, max_size=self.pool,
            max_inactive_connection_lifetime=0, statement_cache_size=100 if t.prepares else 0,
            server_settings=self.session, connect=self._connect,
        )  # fmt: skip

    async def close(self) -> None:
        """Close the pool, at once where connections are stuck."""
        if self._pool is not None:
            self._pool.terminate()

    async def _connect(self, *args: Any, **kwargs: Any) -> asyncpg.Connection:
        with self.timed_connect():
            return await asyncpg.connect(*args, **kwargs)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Lend a connection; where PgBouncer may switch servers, within a transaction."""
        assert self._pool is not None
        try:
            connection = await self._pool.acquire()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise NotSent(describe(error)) from error
        try:
            if self.target.prepares:
                yield connection
            else:
                async with connection.transaction():
                    yield connection
        finally:
            # The batch's fate is known by now; a reset that fails says nothing about it.
            try:
                await self._pool.release(connection)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()


class PooledInsert(Pooled):
    """A pool, and one insert at a time."""

    name = "2"
    method = "a pool of 50, one insert at a time"
    removes = "a connection per insert"
    pool = 50

    async def write(self, rows: Rows) -> None:
        """Insert one row, which commits by itself."""
        async with self.connection() as connection:
            await connection.execute(insert(self.table), *next(rows.records()))


class ConcurrentInsert(PooledInsert):
    """The same, with every connection of the pool at work."""

    name = "2-B"
    method = "a pool of 50, 50 inserts at once"
    removes = "waiting for one commit before the next row is sent"
    lanes = 50


class RelaxedInsert(ConcurrentInsert):
    """The same, but PostgreSQL answers before the commit is on disk."""

    name = "3-A"
    method = "2-B with synchronous_commit=off"
    removes = "waiting for the disk at each commit"
    durability = "up to 600 ms at risk"
    only_route = "direct"
    session: ClassVar[dict[str, str]] = {"synchronous_commit": "off"}


class Executemany(Pooled):
    """Batches of one prepared INSERT; asyncpg sends a whole batch before it reads the answers."""

    takes = frozenset({"BATCH", "POOL"})

    async def write(self, rows: Rows) -> None:
        """Insert the batch: one implicit transaction, all or none."""
        async with self.connection() as connection:
            await connection.executemany(insert(self.table), rows.records())


class Executemany100(Executemany):
    """Small batches over many connections."""

    name = "2-C"
    method = "a pool of 100, executemany of 100"
    removes = "a round trip and a commit per row"
    batch, pool, lanes = 100, 100, 100


class Executemany500(Executemany):
    """Larger batches over still more connections."""

    name = "2-D"
    method = "a pool of 200, executemany of 500"
    removes = "four in five of the commits that were left"
    batch, pool, lanes = 500, 200, 200


class Unnest(Pooled):
    """One INSERT of whole columns, sent as arrays."""

    takes = frozenset({"BATCH", "POOL"})
    form = "columns"
    pool, lanes = 4, 4

    async def write(self, rows: Rows) -> None:
        """Insert the batch by one statement."""
        ids, *rest = rows.columns()
        async with self.connection() as connection:
            await connection.execute(unnest(self.table), list(ids), *rest)


class Unnest500(Unnest):
    """Arrays of 500."""

    name = "3-C-500"
    method = "INSERT ... SELECT FROM unnest, 500 rows"
    removes = "executing a statement per row"
    batch = 500


class Unnest5000(Unnest):
    """Arrays of 5,000."""

    name = "3-C-5000"
    method = "INSERT ... SELECT FROM unnest, 5,000 rows"
    removes = "nine in ten commits and round trips"
    batch = 5000


class StreamedCopy(Pooled):
    """COPY that is fed while it runs, with rows that were encoded as columns beforehand."""

    name = "3-D-stream"
    method = "COPY (binary), 20,000 rows streamed per commit, encoded beforehand"
    removes = "encoding rows one value at a time in the client"
    takes = frozenset({"BATCH", "POOL"})
    form = "encoded"
    batch, pool, lanes = 20_000, 2, 2

    async def write(self, rows: Rows) -> None:
        """Stream the batch into one COPY, a part at a time."""

        async def parts() -> AsyncIterator[bytes]:
            yield HEADER
            for part in rows.parts(PART):
                yield part.encoded()
            yield TRAILER

        async with self.connection() as connection:
            await connection.copy_to_table(
                self.table, source=parts(), columns=COLUMNS, format="binary"
            )


class PartitionedCopy(StreamedCopy):
    """The same into a table that is partitioned by time."""

    name = "3-E"
    method = "3-D-stream into a table partitioned by time"
    removes = "nothing now; old rows can be dropped by the partition, and indexes stay small"
    table = PARTITIONED


class UnloggedCopy(StreamedCopy):
    """The same into a table whose rows are in no WAL."""

    name = "3-F"
    method = "3-D-stream into an unlogged table (LOSES ITS DATA ON A CRASH)"
    removes = "WAL, and with it the data after a crash"
    durability = "lost on a crash"
    table = UNLOGGED


class ParallelCopy(StreamedCopy):
    """The same from several processes, each with one connection."""

    name = "3-G"
    method = "3-D-stream from one process per core"
    removes = "the one core that a Python process can use"
    takes = frozenset({"BATCH"})
    pool, lanes, processes = 1, 1, 0


def insert(table: str) -> str:
    """Return the INSERT of one row."""
    return f"INSERT INTO {table} ({', '.join(COLUMNS)}) VALUES ($1, $2, $3, $4, $5)"


def unnest(table: str) -> str:
    """Return the INSERT of a batch given as columns."""
    arrays = "$1::bigint[], $2::integer[], $3::numeric[], $4::text[], $5::timestamptz[]"
    return f"INSERT INTO {table} ({', '.join(COLUMNS)}) SELECT * FROM unnest({arrays})"
