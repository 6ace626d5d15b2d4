"""The engines of FastAPI and Flask: dialects, pool and driver arguments from the settings."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.types.numeric import Int4BinaryDumper, Int4Dumper
from psycopg.types.string import StrBinaryDumper, StrDumper
from sqlalchemy import URL
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.pool import NullPool

from apps.common import failures
from apps.common.failures import ServiceUnavailableError
from apps.common.psycopg_connection import (
    UNANSWERED,
    connect_arguments,
    connection_class,
    deadline_s,
)
from apps.common.settings import ServiceEnvironment
from apps.common.workload import HEALTH_SQL

_STATEMENT_CACHE: Final = 100


def _give_up(connection: Any) -> None:
    """Close an asyncpg connection, given as SQLAlchemy wraps it, whose statement timed out.

    At once: asyncpg sends a cancel request and SQLAlchemy waits 2 s for its effect, both in vain
    where the server is silent; and see DeadlineConnection for what PgBouncer makes of it.
    """
    connection.driver_connection.terminate()


class ServiceDialect:
    """Sends the workload's statements and no other."""

    default_isolation_level: Any

    def initialize(self, connection: Any) -> None:
        """Ask the server nothing: four statements per worker would fall into a measurement.

        What they would find out is what the dialect assumes of a current PostgreSQL anyway.
        """
        self.default_isolation_level = "READ COMMITTED"

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Run SELECT 1 (the drivers' own pings are empty); an error says the connection is dead."""
        cursor = dbapi_connection.cursor()
        try:
            cursor.execute(HEALTH_SQL)
        finally:
            cursor.close()
        return True


class AsyncpgDialect(ServiceDialect, PGDialect_asyncpg):
    """Is SQLAlchemy's asyncpg dialect with the services' ping."""

    supports_statement_cache = True

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Run SELECT 1; see `_give_up` where that is not answered."""
        try:
            return super().do_ping(dbapi_connection)
        except TimeoutError as error:
            _give_up(dbapi_connection)
            raise ServiceUnavailableError(failures.DATABASE_UNAVAILABLE, UNANSWERED) from error

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Run a statement; see `_give_up` where it times out."""
        try:
            cursor.execute(statement, parameters)
        except TimeoutError:
            _give_up(context.root_connection.connection)
            raise


class PsycopgDialect(ServiceDialect, PGDialect_psycopg):
    """Is SQLAlchemy's psycopg dialect with the services' ping and connection class."""

    supports_statement_cache = True

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # psycopg sizes an integer by its value and leaves text untyped: int2 and int4 ids then
        # are two statements to PostgreSQL, and neither is the one the other services send.
        adapters = self._psycopg_adapters_map
        if adapters is not None:
            for dumper in (Int4BinaryDumper, Int4Dumper):
                adapters.register_dumper(int, dumper)
            for text in (StrBinaryDumper, StrDumper):
                adapters.register_dumper(str, text)

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Run SELECT 1; where that is not answered, connecting anew would only double the wait."""
        try:
            return super().do_ping(dbapi_connection)
        except psycopg.Error as error:
            if getattr(dbapi_connection, "silent", False):
                raise ServiceUnavailableError(failures.DATABASE_UNAVAILABLE, UNANSWERED) from error
            raise

    def connect(self, *positional: Any, **arguments: Any) -> Any:
        """Connect with the class that `driver_arguments` put among the arguments."""
        cls: type[psycopg.Connection[Any]] = arguments.pop("connection_class", psycopg.Connection)
        return cls.connect(*positional, **arguments)


registry.register("postgresql.plain_asyncpg", __name__, "AsyncpgDialect")
registry.register("postgresql.plain_psycopg", __name__, "PsycopgDialect")


def url(settings: ServiceEnvironment, dialect: str) -> URL:
    """Return the address of the database; `dialect` is one registered here or by the metrics."""
    return URL.create(
        f"postgresql+{dialect}",
        username=settings.db_user,
        password=settings.db_password,
        host=settings.db_host,
        port=settings.db_port,
        database=settings.db_name,
    )


def engine_arguments(settings: ServiceEnvironment, queue_pool: type, null_pool: type = NullPool):
    """Return the arguments of create_engine: autocommit, no reset statement, the pool."""
    arguments: dict[str, Any] = {
        "isolation_level": "AUTOCOMMIT",
        "skip_autocommit_rollback": True,
        "pool_reset_on_return": None,
        "pool_pre_ping": settings.db_conn_health_checks,
    }
    if settings.connects_per_request:
        return arguments | {"poolclass": null_pool, "pool_pre_ping": False}
    return arguments | {
        "poolclass": queue_pool,
        "pool_size": settings.db_pool_size,
        "max_overflow": settings.db_max_overflow,
        "pool_timeout": settings.db_pool_timeout,
        "pool_recycle": settings.db_conn_max_age,
    }


def asyncpg_arguments(settings: ServiceEnvironment) -> dict[str, Any]:
    """Return asyncpg's connect arguments; times are seconds.

    The role's statement_timeout ends a statement; asyncpg gives up a little later.
    """
    cached = _STATEMENT_CACHE if settings.db_prepared == "on" else 0
    return {
        "timeout": settings.db_connect_timeout,
        "command_timeout": deadline_s(settings),
        "ssl": False,
        "statement_cache_size": cached,
        "prepared_statement_cache_size": cached,
        # asyncpg asks for "'utf-8'" where PostgreSQL says UTF8. PgBouncer compares the two letter
        # by letter and sends SET client_encoding before every statement; the later word wins.
        "server_settings": {"client_encoding": "UTF8"},
    }


def psycopg_arguments(settings: ServiceEnvironment) -> dict[str, Any]:
    """Return psycopg's connect arguments for PsycopgDialect."""
    return connect_arguments(settings) | {"connection_class": connection_class(settings)}
