"""What a rung is: one way of writing, behind open, write and close.

A new rung is a subclass that names itself and writes a batch; `catalog.py` lists it. `write`
returns when PostgreSQL has acknowledged the batch and raises where it has not; what an error means
for the batch, `fate` says:

    refused   certainly not written: nothing was sent, or PostgreSQL said no. Can be sent again.
    unknown   the answer was lost: written or not, only its keys in the table can tell
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from loadtest.ladder.rows import Form, Rows

Fate = Literal["refused", "unknown"]
Durability = Literal["committed to disk", "up to 600 ms at risk", "lost on a crash"]
TABLE, PARTITIONED, UNLOGGED = "ladder_rows", "ladder_rows_partitioned", "ladder_rows_unlogged"
#: SQLSTATE classes and codes after which a commit may still have happened: a lost connection, a
#: shutdown, "statement completion unknown".
_UNCERTAIN = ("08", "57P", "40003")


class NotSent(Exception):
    """No connection could be had, so nothing of the batch was sent; its cause says why."""


@dataclass(frozen=True)
class Target:
    """Where to write: PostgreSQL or the PgBouncer before it."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    #: False: no prepared statement may outlive its transaction (PgBouncer, transaction pooling).
    prepares: bool = True
    connect_timeout_s: int = 10


@dataclass
class Connecting:
    """Connections that were opened, and the seconds that took."""

    count: int = 0
    seconds: float = 0.0


class Rung(ABC):
    """One method of writing.

    `lanes` writes are under way at once, each of `batch` rows, over `pool` connections, in each of
    `processes` processes (0: one per core).
    """

    name: ClassVar[str]
    method: ClassVar[str]
    client: ClassVar[str]
    #: What the step from the rung below removes.
    removes: ClassVar[str]
    durability: ClassVar[Durability] = "committed to disk"
    table: ClassVar[str] = TABLE
    form: ClassVar[Form] = "records"
    #: The only route that makes sense, None where ROUTE decides.
    only_route: ClassVar[str | None] = None
    #: Toggles that mean something here.
    takes: ClassVar[frozenset[str]] = frozenset()
    batch: int = 1
    pool: int = 1
    lanes: int = 1
    processes: int = 1

    def __init__(self, target: Target, batch: int | None = None, pool: int | None = None) -> None:
        self.target = target
        self.connecting = Connecting()
        if batch is not None and "BATCH" in self.takes:
            self.batch = batch
        if pool is not None and "POOL" in self.takes:
            self.pool = pool
            self.lanes = pool if self.lanes > 1 else 1

    @abstractmethod
    async def open(self) -> None:
        """Get ready to write; raises whatever the client library does."""

    @abstractmethod
    async def write(self, rows: Rows) -> None:
        """Write the rows, all or none, and return when PostgreSQL has acknowledged them."""

    @abstractmethod
    async def close(self) -> None:
        """Give back every connection; does no harm where `open` failed."""

    @contextmanager
    def timed_connect(self) -> Iterator[None]:
        """Count and time the opening of a connection; what fails in it is NotSent."""
        began = time.perf_counter()
        try:
            yield
        except Exception as error:
            raise NotSent(describe(error)) from error
        self.connecting.count += 1
        self.connecting.seconds += time.perf_counter() - began


def fate(error: BaseException) -> Fate:
    """Say what became of a batch whose write raised this."""
    if isinstance(error, NotSent):
        return "refused"
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str) and not state.startswith(_UNCERTAIN):
        return "refused"
    return "unknown"


def describe(error: BaseException) -> str:
    """Return an error as one short line, without what differs each time."""
    state = getattr(error, "sqlstate", None)
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__}{f' {state}' if state else ''}: {text}"[:120]
