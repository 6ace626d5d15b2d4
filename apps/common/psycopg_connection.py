"""How the services that use psycopg connect: Flask through SQLAlchemy, Django through its backend.

One place, so that both send the same startup packet and give up on a statement in the same way.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen

from apps.common.settings import ServiceEnvironment

T = TypeVar("T")

#: How much later than PostgreSQL the client gives up: only where PostgreSQL says nothing.
GRACE_S: Final = 0.5
_POLL_S: Final = 0.1
UNANSWERED: Final = "no answer while checking a kept connection"
#: psycopg's own default: a statement is prepared on its fifth use in one connection
_PREPARE_AFTER: Final = 5


class DeadlineConnection(psycopg.Connection[Any]):
    """Give up on a statement, and close the connection, where no answer comes in `deadline_s`.

    The role's statement_timeout ends a statement that runs too long. It says nothing of one that
    queues in PgBouncer, nor where PostgreSQL does not answer at all: a kept connection would then
    block for ever, its check included. It costs a statement a few microseconds.
    """

    deadline_s: float | None = None
    #: whether it was closed for that
    silent = False

    def wait(self, gen: PQGen[T], interval: float = _POLL_S, timeout: float | None = None) -> T:
        """Run `gen`; close and raise QueryCanceled once the deadline has passed."""
        try:
            return super().wait(gen, interval=interval, timeout=timeout or self.deadline_s)
        except errors._WaitTimeout as error:
            if timeout is not None:
                raise
            # No cancel request: PostgreSQL would have ended the statement if it could, and
            # PgBouncer 1.18 dies where a client does not wait for the end of one (its issue 801).
            self.silent = True
            self.pgconn.finish()
            raise errors.QueryCanceled(f"no answer within {self.deadline_s} s") from error


def connection_class(settings: ServiceEnvironment) -> type[psycopg.Connection[Any]]:
    """Return the class to connect with."""
    limit_s = deadline_s(settings)
    if limit_s is None:
        return psycopg.Connection

    class Connection(DeadlineConnection):
        deadline_s = limit_s

    return Connection


def deadline_s(settings: ServiceEnvironment) -> float | None:
    """Return when a client gives up on a statement; None where DB_STATEMENT_TIMEOUT is 0."""
    if settings.db_statement_timeout == 0:
        return None
    return settings.db_statement_timeout / 1000 + GRACE_S


def connect_arguments(settings: ServiceEnvironment) -> dict[str, Any]:
    """Return the keyword arguments of `connect`, without where, who and which database.

    TLS and GSSAPI negotiation are off, as in the asyncpg service: each costs a connect a round
    trip. No startup parameter is sent, as PgBouncer refuses most of them: the statement timeout
    is the role's (database/provision.py).
    """
    return {
        "connect_timeout": settings.db_connect_timeout,
        "sslmode": "disable",
        "gssencmode": "disable",
        "prepare_threshold": _PREPARE_AFTER if settings.db_prepared == "on" else None,
    }
