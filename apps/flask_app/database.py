"""Flask's database adapter: SQLAlchemy on psycopg 3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, exc
from sqlalchemy.pool import QueuePool

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

    def post(self, post_id: int) -> Sequence[Any]:
        """Return rows in workload.Row's order; none where there is no such post."""
        with self._connection() as connection:
            return connection.execute(SELECT_POST, {"post_id": post_id}).all()

    def insert(self, transaction: Transaction) -> int:
        """Insert one row and return its id."""
        with self._connection() as connection:
            result = connection.execute(INSERT_TRANSACTION, transaction._asdict())
            return int(result.scalar_one())

    def read_slowly(self, user_id: int, seconds: float) -> Sequence[Any]:
        """Return the row of a user, for workload.slow_query_answer, after a sleep in it."""
        with self._connection() as connection:
            parameters = {"user_id": user_id, "seconds": seconds}
            return connection.execute(SELECT_SLOWLY, parameters).all()

    def hit(self, row_id: int) -> int:
        """Count one up in a row of `hot_rows`; return how many rows were updated."""
        with self._connection() as connection:
            return connection.execute(UPDATE_HOT_ROW, {"row_id": row_id}).rowcount

    def nearest(self, centre: Centre) -> Sequence[Any]:
        """Return the users nearest to a centre, as rows of workload.heavy_answer."""
        with self._connection() as connection:
            return connection.execute(SELECT_NEAREST, centre_parameters(centre)).all()

    def check(self) -> None:
        """Run SELECT 1."""
        with self._connection() as connection:
            connection.exec_driver_sql(HEALTH_SQL)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except exc.TimeoutError as error:
            raise ServiceUnavailableError(failures.POOL_TIMEOUT, str(error)) from error
        except exc.DBAPIError as error:
            code = failures.code_of(error.orig or error)
            if code is None:
                raise
            raise ServiceUnavailableError(code, str(error.orig)) from error


def _engine(settings: ServiceEnvironment) -> Engine:
    arguments = sqlalchemy_engine.psycopg_arguments(settings)
    if settings.metrics == "off":
        return create_engine(
            sqlalchemy_engine.url(settings, "plain_psycopg"),
            connect_args=arguments,
            use_native_hstore=False,
            **sqlalchemy_engine.engine_arguments(settings, QueuePool),
        )
    from apps.common import sqlalchemy_metrics as measured

    engine = create_engine(
        sqlalchemy_engine.url(settings, "measured_psycopg"),
        connect_args=arguments,
        use_native_hstore=False,
        **sqlalchemy_engine.engine_arguments(
            settings, measured.MeasuredQueuePool, measured.MeasuredNullPool
        ),
    )
    measured.announce_limit(settings)
    return engine
