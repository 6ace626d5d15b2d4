"""A database connection that is kept open between scrapes and opened again when it broke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg

T = TypeVar("T")
#: A row by column name: which columns there are differs between versions.
Columns = dict[str, Any]


@dataclass
class KeptConnection:
    """One connection to PostgreSQL or to PgBouncer's console.

    Without opening one anew at each scrape the exporter would itself be among the sessions that it
    counts, and under SCRAM each would cost milliseconds of CPU on either side.
    """

    conninfo: str
    options: dict[str, Any] = field(default_factory=dict)
    _open: psycopg.Connection | None = None

    def run(self, work: Callable[[psycopg.Connection], T]) -> T:
        """Give work an open connection; if a kept one turns out to be broken, once more anew.

        Raises psycopg.Error; the connection is then closed, and the next call opens another.
        """
        kept = self._open is not None
        try:
            return self._attempt(work)
        except psycopg.OperationalError:
            if not kept:
                raise
        return self._attempt(work)

    def _attempt(self, work: Callable[[psycopg.Connection], T]) -> T:
        if self._open is None:
            self._open = psycopg.connect(
                self.conninfo,
                autocommit=True,
                application_name="poolscope_exporter",
                connect_timeout=2,
                **self.options,
            )
        try:
            return work(self._open)
        except psycopg.Error:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection if there is one."""
        if self._open is not None:
            self._open.close()
            self._open = None


def fetch(connection: psycopg.Connection, statement: str) -> list[Columns]:
    """Return all rows by column name."""
    cursor = connection.execute(statement.encode())
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]
