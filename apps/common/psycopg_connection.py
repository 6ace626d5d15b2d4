"""How the services that use psycopg connect: Flask through SQLAlchemy, Django through its backend.

One place, so that both send the same startup packet and give up on a statement in the same way.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors, waiting
from psycopg.abc import PQGen

from apps.common.settings import ServiceEnvironment

T = TypeVar("T")

_CANCEL_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.1
#: psycopg's own default: a statement is prepared on its fifth use in one connection
_PREPARE_AFTER: Final = 5


class DeadlineConnection(psycopg.Connection[Any]):
    """Give up on a statement after `deadline_s` by cancelling it from the client.

    PgBouncer takes no statement_timeout in the startup packet, and a SET would cost a round trip
    and stick to a server connection that others use. This costs nothing until the deadline.
    """

    deadline_s: float | None = None

    def wait(self, gen: PQGen[T], interval: float = _POLL_S, timeout: float | None = None) -> T:
        """Run `gen`; cancel the statement and raise QueryCanceled once the deadline has passed."""
        try:
            return super().wait(gen, interval=interval, timeout=timeout or self.deadline_s)
        except errors._WaitTimeout:
            if timeout is not None:
                raise
        return self._cancel_and_finish(gen)

    def _cancel_and_finish(self, gen: PQGen[T]) -> T:
        """Wait for the answer to a cancel request; close the connection if none comes."""
        message = f"canceling statement after {self.deadline_s} s at the client"
        try:
            self.cancel_safe(timeout=_CANCEL_TIMEOUT_S)
            return waiting.wait(gen, self.pgconn.socket, _POLL_S, timeout=_CANCEL_TIMEOUT_S)
        except errors.QueryCanceled:
            raise
        except (psycopg.Error, errors._WaitTimeout) as error:
            # PgBouncer drops a client that still queued for a server connection, and a silent
            # server never answers: either way the deadline is what the caller has to know.
            self.pgconn.finish()
            raise errors.QueryCanceled(message) from error


def connection_class(settings: ServiceEnvironment) -> type[psycopg.Connection[Any]]:
    """Return the class to connect with: PostgreSQL keeps the deadline, or the client does."""
    if settings.route == "direct" or settings.db_statement_timeout == 0:
        return psycopg.Connection

    class Connection(DeadlineConnection):
        deadline_s = settings.db_statement_timeout / 1000

    return Connection


def connect_arguments(settings: ServiceEnvironment) -> dict[str, Any]:
    """Return the keyword arguments of `connect`, without where, who and which database.

    TLS and GSSAPI negotiation are off, as in the asyncpg service: each costs a connect a round
    trip. Through PgBouncer no startup parameter is sent, as it refuses most of them.
    """
    arguments: dict[str, Any] = {
        "connect_timeout": settings.db_connect_timeout,
        "sslmode": "disable",
        "gssencmode": "disable",
        "prepare_threshold": _PREPARE_AFTER if settings.db_prepared == "on" else None,
    }
    if settings.route == "direct" and settings.db_statement_timeout:
        arguments["options"] = f"-c statement_timeout={settings.db_statement_timeout}"
    return arguments
