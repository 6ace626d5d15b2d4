"""Django's PostgreSQL backend with what equal work needs: no statement beyond the workload's."""

from __future__ import annotations

from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from psycopg_pool import ConnectionPool

from apps.common import failures
from apps.common.failures import ServiceUnavailableError
from apps.common.psycopg_connection import UNANSWERED, connection_class
from apps.common.workload import HEALTH_SQL


class DatabaseWrapper(base.DatabaseWrapper):
    """Connects with the services' connection class; a pool checks with SELECT 1."""

    #: by alias, one per process
    _pools: dict[str, ConnectionPool[Any]] = {}

    @property
    def pool(self) -> ConnectionPool[Any] | None:
        """Return the pool of this process, None where connections are not pooled."""
        options = self.settings_dict["OPTIONS"].get("pool")
        if not options:
            return None
        pool = self._pools.get(self.alias)
        if pool is None:
            # setdefault: of pools made by several threads at once the first wins; an unopened
            # pool has no threads and no connections.
            pool = self._pools.setdefault(self.alias, self._new_pool(options))
        return pool

    def _new_pool(self, options: dict[str, Any]) -> ConnectionPool[Any]:
        pool = ServicePool(
            kwargs=self.get_connection_params() | {"autocommit": True},
            connection_class=self.connection_class(),
            open=False,
            check=self.check_pooled if self.settings_dict["CONN_HEALTH_CHECKS"] else None,
            **options,
        )
        return pool

    def connection_class(self) -> type[psycopg.Connection[Any]]:
        """Return the class to connect with."""
        return connection_class(settings.SERVICE)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Check a connection out of the pool, or open one."""
        self.isolation_level = IsolationLevel.READ_COMMITTED
        pool = self.pool
        if pool is None:
            return self.connection_class().connect(**conn_params)
        pool.open()
        return pool.getconn()

    def close_if_health_check_failed(self) -> None:
        """Check a kept connection; where it does not answer, connecting would double the wait."""
        kept = self.connection
        super().close_if_health_check_failed()
        if self.connection is None and getattr(kept, "silent", False):
            raise ServiceUnavailableError(failures.DATABASE_UNAVAILABLE, UNANSWERED)

    @staticmethod
    def check_pooled(connection: psycopg.Connection[Any]) -> None:
        """Run SELECT 1 on a connection that was used before; psycopg's own check is empty."""
        if getattr(connection, "was_used", False):
            connection.execute(HEALTH_SQL)
        else:
            connection.was_used = True  # type: ignore[attr-defined]

    def _configure_timezone(self, connection: Any) -> bool:
        # Django would set the session's time zone on every new connection where the server's is
        # spelt otherwise ("Etc/UTC"): a statement the other services do not send. Times are
        # read and written as timestamptz, which no session's time zone changes.
        return False


class ServicePool(ConnectionPool[Any]):
    """Is psycopg's pool, which tells waiting requests at once when connecting fails.

    psycopg retries in the background and lets requests wait for their timeout; the other
    services' pools answer with the error.
    """

    _failure: psycopg.Error | None = None

    def _connect(self, timeout: float | None = None) -> Any:
        try:
            return super()._connect(timeout)
        except psycopg.Error as error:
            self._failure = error
            self._fail_waiting(error)
            raise

    def reconnect_failed(self) -> None:
        """Tell those too that began to wait after the last attempt had failed.

        They found the pool growing, so they asked for no connection; the pool has now given up,
        and nobody connects for them.
        """
        super().reconnect_failed()
        if self._failure is not None:
            self._fail_waiting(self._failure)

    def _fail_waiting(self, error: psycopg.Error) -> None:
        with self._lock:
            while self._waiting:
                self._waiting.popleft().fail(error)
