"""Which database errors are answered with 503, and with which code.

Whatever is not recognised here is a defect of the service (a wrong statement, say): it stays an
exception and is answered with 500.
"""

from __future__ import annotations

from typing import Final

DATABASE_UNAVAILABLE: Final = "database-unavailable"
POOL_TIMEOUT: Final = "pool-timeout"
STATEMENT_TIMEOUT: Final = "statement-timeout"

_QUERY_CANCELED: Final = "57014"
#: connection exceptions, wrong password or role, unknown database, too many connections or out
#: of memory, shutting down or starting up
_UNAVAILABLE: Final = ("08", "28", "3D", "53", "57P")
_NO_STATE: Final = ("OperationalError", "InterfaceError")


class ServiceUnavailableError(Exception):
    """Say that a request cannot be answered now: 503 with a short code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def code_of(error: BaseException) -> str | None:
    """Return the 503 code for a driver's error, None where it is not one of these.

    PostgreSQL's state decides; an error without one (connection refused, connection lost) is
    told by the DB-API class it derives from.
    """
    state = getattr(error, "sqlstate", None)
    if state is not None:
        if state == _QUERY_CANCELED:
            return STATEMENT_TIMEOUT
        return DATABASE_UNAVAILABLE if state.startswith(_UNAVAILABLE) else None
    if isinstance(error, OSError):
        return DATABASE_UNAVAILABLE
    names = {cls.__name__ for cls in type(error).__mro__}
    return DATABASE_UNAVAILABLE if names.intersection(_NO_STATE) else None
