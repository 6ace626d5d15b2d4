"""Connection metrics for SQLAlchemy: pools and dialects to use in place of the plain ones.

SQLAlchemy has no event for the wait. What is timed is the pool's own queue: so neither opening a
connection nor checking one is part of it. Methods are overridden rather than events listened to,
as the latter cost a request several times as much.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import perf_counter
from typing import Any

from sqlalchemy import exc
from sqlalchemy.dialects import registry
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, QueuePool
from sqlalchemy.util.queue import AsyncAdaptedQueue, Queue

from apps.common.metrics import operations, pool
from apps.common.settings import ServiceEnvironment
from apps.common.sqlalchemy_engine import AsyncpgDialect, PsycopgDialect

#: What the checkout under way has queued so far: a pool may ask its queue several times.
_queued_s: ContextVar[float] = ContextVar("queued_s", default=0.0)


class _MeasuredDialect:
    """Times connects, checks and statements of the dialect it is mixed into."""

    def connect(self, *positional: Any, **arguments: Any) -> Any:
        begin = perf_counter()
        connection = super().connect(*positional, **arguments)  # type: ignore[misc]
        pool.create(perf_counter() - begin)
        pool.opened()
        return connection

    def do_ping(self, dbapi_connection: Any) -> bool:
        begin = perf_counter()
        alive: bool = super().do_ping(dbapi_connection)  # type: ignore[misc]
        pool.check(perf_counter() - begin)
        return alive

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        begin = perf_counter()
        super().do_execute(cursor, statement, parameters, context)  # type: ignore[misc]
        # The health route's SELECT 1 is not compiled, and not one of the operations.
        if context.compiled is not None:
            if context.isinsert:
                observe = operations.insert
            else:
                observe = operations.update if context.isupdate else operations.select
            observe(perf_counter() - begin)


class MeasuredAsyncpgDialect(_MeasuredDialect, AsyncpgDialect):
    """Is the asyncpg dialect, timed."""

    supports_statement_cache = True


class MeasuredPsycopgDialect(_MeasuredDialect, PsycopgDialect):
    """Is the psycopg dialect, timed."""

    supports_statement_cache = True


class _MeasuredQueue:
    """Times the queueing for a pooled connection."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        begin = perf_counter()
        try:
            return super().get(block, timeout)  # type: ignore[misc]
        finally:
            _queued_s.set(_queued_s.get() + perf_counter() - begin)


class _Queue(_MeasuredQueue, Queue[Any]):
    """Is SQLAlchemy's queue for threads, timed."""


class _AsyncQueue(_MeasuredQueue, AsyncAdaptedQueue[Any]):
    """Is SQLAlchemy's queue for tasks, timed."""


class _MeasuredPool:
    """Notes the life of the connections of the pool class it is mixed into."""

    def connect(self) -> Any:
        _queued_s.set(0.0)
        try:
            connection = super().connect()  # type: ignore[misc]
        except exc.TimeoutError:
            pool.timed_out()
            raise
        finally:
            pool.wait(_queued_s.get())  # of a checkout that gave up as well
        connection._connection_record.checked_out_at = pool.checked_out()
        return connection

    def _do_return_conn(self, record: Any) -> None:
        # Absent where the checkout itself failed, as its connection proved to be dead.
        checked_out_at = record.__dict__.pop("checked_out_at", None)
        if checked_out_at is not None:
            pool.checked_in(checked_out_at)
        super()._do_return_conn(record)  # type: ignore[misc]

    def _close_connection(self, connection: Any, *, terminate: bool = False) -> None:
        pool.closed()
        super()._close_connection(connection, terminate=terminate)  # type: ignore[misc]


class MeasuredQueuePool(_MeasuredPool, QueuePool):
    """Is QueuePool, measured."""

    _queue_class = _Queue


class MeasuredAsyncQueuePool(_MeasuredPool, AsyncAdaptedQueuePool):
    """Is AsyncAdaptedQueuePool, measured."""

    _queue_class = _AsyncQueue


class MeasuredNullPool(_MeasuredPool, NullPool):
    """Is NullPool, measured."""


def announce_limit(settings: ServiceEnvironment) -> None:
    """Set the number of connections allowed; connect per request has no limit, so 0."""
    if not settings.connects_per_request:
        pool.set_max(settings.db_pool_size + settings.db_max_overflow)


registry.register("postgresql.measured_asyncpg", __name__, "MeasuredAsyncpgDialect")
registry.register("postgresql.measured_psycopg", __name__, "MeasuredPsycopgDialect")
