"""FastAPI's database adapter: SQLAlchemy async on asyncpg."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from apps.common import failures, sqlalchemy_engine
from apps.common.failures import ServiceUnavailableError
from apps.common.settings import ServiceEnvironment
from apps.common.tables import (
    INSERT_TRANSACTION,
    SELECT_NEAREST,
    SELECT_POST,
    SELECT_SLOWLY,
    UPDATE_HOT_ROW,
    centre_parameters,
)
from apps.common.workload import HEALTH_SQL, Centre, Transaction


class Database:
    """Runs the workload's statements, each on a connection checked out for it alone.

    Every method raises ServiceUnavailableError where the database cannot answer.
    """

    def __init__(self, settings: ServiceEnvironment) -> None:
        self._engine = _engine(settings)

    async def post(self, post_id: int) -> Sequence[Any]:
        """Return rows in workload.Row's order; none where there is no such post."""
        async with self._connection() as connection:
            return (await connection.execute(SELECT_POST, {"post_id": post_id})).all()

    async def insert(self, transaction: Transaction) -> int:
        """Insert one row and return its id."""
        async with self._connection() as connection:
            result = await connection.execute(INSERT_TRANSACTION, transaction._asdict())
            return int(result.scalar_one())

    async def read_slowly(self, user_id: int, seconds: float) -> Sequence[Any]:
        """Return the row of a user, for workload.slow_query_answer, after a sleep in it."""
        async with self._connection() as connection:
            parameters = {"user_id": user_id, "seconds": seconds}
            return (await connection.execute(SELECT_SLOWLY, parameters)).all()

    async def hit(self, row_id: int) -> int:
        """Count one up in a row of `hot_rows`; return how many rows were updated."""
        async with self._connection() as connection:
            return (await connection.execute(UPDATE_HOT_ROW, {"row_id": row_id})).rowcount

    async def nearest(self, centre: Centre) -> Sequence[Any]:
        """Return the users nearest to a centre, as rows of workload.heavy_answer."""
        async with self._connection() as connection:
            return (await connection.execute(SELECT_NEAREST, centre_parameters(centre))).all()

    async def check(self) -> None:
        """Run SELECT 1."""
        async with self._connection() as connection:
            await connection.exec_driver_sql(HEALTH_SQL)

    async def close(self) -> None:
        """Close all pooled connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        connected = False
        try:
            async with self._engine.connect() as connection:
                connected = True
                yield connection
        except exc.TimeoutError as error:
            raise ServiceUnavailableError(failures.POOL_TIMEOUT, str(error)) from error
        except exc.DBAPIError as error:
            code = failures.code_of(error.orig or error)
            if code is None and error.connection_invalidated:
                code = failures.DATABASE_UNAVAILABLE
            if code is None:
                raise
            raise ServiceUnavailableError(code, str(error.orig)) from error
        except TimeoutError as error:
            # asyncpg's two limits, neither of which is a DB-API error: its command_timeout, or
            # the time to connect.
            if connected:
                raise ServiceUnavailableError(
                    failures.STATEMENT_TIMEOUT, "canceling statement after the client's deadline"
                ) from error
            raise ServiceUnavailableError(
                failures.DATABASE_UNAVAILABLE, "connection timeout expired"
            ) from error
        except OSError as error:
            raise ServiceUnavailableError(failures.DATABASE_UNAVAILABLE, str(error)) from error


def _engine(settings: ServiceEnvironment) -> AsyncEngine:
    arguments = sqlalchemy_engine.asyncpg_arguments(settings)
    if settings.metrics == "off":
        return create_async_engine(
            sqlalchemy_engine.url(settings, "plain_asyncpg"),
            connect_args=arguments,
            **sqlalchemy_engine.engine_arguments(settings, AsyncAdaptedQueuePool),
        )
    from apps.common import sqlalchemy_metrics as measured

    engine = create_async_engine(
        sqlalchemy_engine.url(settings, "measured_asyncpg"),
        connect_args=arguments,
        **sqlalchemy_engine.engine_arguments(
            settings, measured.MeasuredAsyncQueuePool, measured.MeasuredNullPool
        ),
    )
    measured.announce_limit(settings)
    return engine
