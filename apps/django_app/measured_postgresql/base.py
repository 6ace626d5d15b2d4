"""The PostgreSQL backend with the connection metrics, in the place of django-prometheus's.

django-prometheus's backend counts a checkout from a pool as a new connection. Here connections
are counted where they are opened, in the connection class, whoever asks for them.
"""

from __future__ import annotations

from functools import cache
from time import perf_counter
from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql.base import ServerBindingCursor
from django_prometheus.db import connection_errors_total, connections_total, execute_total
from psycopg_pool import PoolTimeout

from apps.common import service
from apps.common.cells import adder
from apps.common.metrics import operations, pool
from apps.common.psycopg_connection import connection_class
from apps.django_app.postgresql import base

_LABELS = ("default", "postgresql")
_new_connections = connections_total.labels(*_LABELS)
_connection_errors = connection_errors_total.labels(*_LABELS)
_executed = adder(execute_total.labels(*_LABELS))
#: When each opening under way began, the earliest first.
_openings: list[float] = []


class MeasuredCursor(ServerBindingCursor):
    """Counts and times statements."""

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a statement, counted."""
        _executed(1.0)
        begin = perf_counter()
        result = super().execute(query, *args, **kwargs)
        # Health checks are none of the operations.
        if query.startswith('SELECT "'):
            operations.select(perf_counter() - begin)
        elif query.startswith("INSERT "):
            operations.insert(perf_counter() - begin)
        elif query.startswith("UPDATE "):
            operations.update(perf_counter() - begin)
        return result


@cache
def measured_connection_class() -> type[psycopg.Connection[Any]]:
    """Return the services' connection class, with its life counted."""
    plain = connection_class(settings.SERVICE)

    class MeasuredConnection(plain):  # type: ignore[misc, valid-type]
        opening: tuple[float, float]  # began, ended
        checking_s = 0.0

        @classmethod
        def connect(cls, *args: Any, **kwargs: Any) -> Any:
            begin = perf_counter()
            _openings.append(begin)
            try:
                connection = super().connect(*args, **kwargs)
            except psycopg.Error:
                _connection_errors.inc()
                raise
            finally:
                _openings.remove(begin)
            connection.opening = (begin, perf_counter())
            pool.create(connection.opening[1] - begin)
            _new_connections.inc()
            pool.opened()
            return connection

        def close(self) -> None:
            if not getattr(self, "counted_closed", False):
                self.counted_closed = True
                pool.closed()
            super().close()

    return MeasuredConnection


class DatabaseWrapper(base.DatabaseWrapper):
    """Notes checkouts and checkins.

    A connection is checked out when a request first uses it, and checked in when the request
    ends: so a persistent connection, idle between the requests of its thread, counts as idle.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._checked_out_at: float | None = None
        pool.set_max(_limit(self.settings_dict))

    def connection_class(self) -> type[psycopg.Connection[Any]]:
        """Return the counting class."""
        return measured_connection_class()

    def get_connection_params(self) -> dict[str, Any]:
        """Have psycopg make measured cursors."""
        return super().get_connection_params() | {"cursor_factory": MeasuredCursor}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Time the queueing at the pool."""
        if self.pool is None:
            return super().get_new_connection(conn_params)
        begin = perf_counter()
        try:
            connection = super().get_new_connection(conn_params)
        except PoolTimeout:
            # It was the first in the queue: the opening that began first was for it.
            until = min([perf_counter(), *_openings])
            pool.wait(max(0.0, until - begin))
            pool.timed_out()
            raise
        self._check_out(_pool_wait_s(connection, begin, perf_counter()))
        return connection

    @staticmethod
    def check_pooled(connection: Any) -> None:
        """Take the time of the check, which is not pool wait."""
        was_used = getattr(connection, "was_used", False)  # else there is nothing to check yet
        begin = perf_counter()
        try:
            base.DatabaseWrapper.check_pooled(connection)
        except psycopg.Error:
            connection.close()
            raise
        connection.checking_s = perf_counter() - begin
        if was_used:
            pool.check(connection.checking_s)

    def is_usable(self) -> bool:
        """Time the check of a persistent connection."""
        begin = perf_counter()
        usable: bool = super().is_usable()
        pool.check(perf_counter() - begin)
        return usable

    def _cursor(self, name: str | None = None) -> Any:
        if self._checked_out_at is not None:
            return super()._cursor(name)
        cursor = super()._cursor(name)
        if self._checked_out_at is None:
            self._check_out(0.0)
        return cursor

    def close_if_unusable_or_obsolete(self) -> None:
        """Check in: Django calls this when a request has ended."""
        self._check_in()
        super().close_if_unusable_or_obsolete()

    def close(self) -> None:
        """Check in and close."""
        self._check_in()
        super().close()

    def _close(self) -> None:
        # A pool drops a connection that the server has ended without closing it.
        if self.connection is not None and self.connection.closed:
            self.connection.close()
        super()._close()

    def _check_out(self, wait_s: float) -> None:
        pool.wait(wait_s)
        self._checked_out_at = pool.checked_out()

    def _check_in(self) -> None:
        if self._checked_out_at is not None:
            pool.checked_in(self._checked_out_at)
            self._checked_out_at = None


def _limit(settings_dict: dict[str, Any]) -> float:
    """Return how many connections this process may hold: its pool's size, or its threads.

    Connect per request has no limit, so 0.
    """
    if settings.SERVICE.connects_per_request:
        return 0.0
    options = settings_dict["OPTIONS"].get("pool")
    if options:
        return float(options["max_size"])
    return float(service.plan(settings.SERVICE, {}).threads)


def _pool_wait_s(connection: Any, begin: float, end: float) -> float:
    """Return the queueing of a checkout: less its check, less the opening that fell into it.

    A request that makes the pool grow queues while a thread of the pool connects.
    """
    opened, ready = connection.opening
    overlap = max(0.0, min(end, ready) - max(begin, opened))
    wait_s: float = end - begin - overlap - connection.checking_s
    connection.checking_s = 0.0
    return max(0.0, wait_s)
