"""The rows that every rung writes: made beforehand from a fixed seed, and stamped with their keys.

A row is (id, user_id, amount, note, created_at). The bodies repeat after `SIZE` rows; the ids never
do: they rise without gaps from a base of each process, so that a range names a batch, and whether a
batch is in the table can be asked by its ids.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from random import Random
from typing import Any, Literal

import numpy as np

Form = Literal["records", "columns", "encoded"]
COLUMNS = ("id", "user_id", "amount", "note", "created_at")
SIZE = 20_000
#: Ids of one process; sixty-four processes fit into a bigint several times over.
PROCESS_KEYS = 2**40
FIRST_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
#: The bodies lie in the order of their time, over four days: the partitions of one of the tables.
DAYS = 4
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
#: COPY's binary header: signature, flags, no extension; and its trailer.
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
#: One row in COPY's binary format, PostgreSQL 15 documentation, "COPY", Binary Format. All values
#: have the same length here; numeric is base 10,000: two digits, weight 0, plus, two decimals.
_ROW = np.dtype(
    [
        *[("fields", ">i2"), ("id_len", ">i4"), ("id", ">i8")],
        *[("user_len", ">i4"), ("user_id", ">i4"), ("amount_len", ">i4"), ("digits", ">i2")],
        *[("weight", ">i2"), ("sign", ">i2"), ("scale", ">i2"), ("whole", ">i2"), ("part", ">i2")],
        *[("note_len", ">i4"), ("note", "S32"), ("created_len", ">i4"), ("created", ">i8")],
    ]
)


class Bodies:
    """Everything of the rows but their ids, as columns."""

    def __init__(self, seed: int, size: int = SIZE) -> None:
        self.size = size
        draw = Random(seed)
        self.user_ids = [1 + int(draw.random() * 10_000) for _ in range(size)]
        self.cents = [100 + int(draw.random() * 999_900) for _ in range(size)]
        self.amounts = [Decimal(cents) / 100 for cents in self.cents]
        self.notes = [f"{int(draw.random() * 2**53):032x}" for _ in range(size)]
        step = timedelta(days=DAYS) / size
        self.moments = [FIRST_MOMENT + step * place for place in range(size)]

    @cached_property
    def block(self) -> np.ndarray:
        """All bodies in COPY's binary format, to be stamped with ids."""
        block = np.zeros(self.size, _ROW)
        block["fields"] = len(COLUMNS)
        for name, length in (("id", 8), ("user", 4), ("amount", 12), ("note", 32), ("created", 8)):
            block[f"{name}_len"] = length
        cents = np.array(self.cents)
        block["digits"], block["scale"] = 2, 2
        block["whole"], block["part"] = cents // 100, cents % 100 * 100
        block["user_id"], block["note"] = self.user_ids, self.notes
        micro = timedelta(microseconds=1)
        block["created"] = [(moment - POSTGRES_EPOCH) // micro for moment in self.moments]
        return block


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch: ids from `first` on, with the bodies from `place` on."""

    first: int
    size: int
    place: int
    bodies: Bodies

    def records(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows as tuples."""
        return zip(*self.columns(), strict=True)

    def columns(self) -> tuple[Any, ...]:
        """Return the columns, ids first."""
        b, part = self.bodies, slice(self.place, self.place + self.size)
        ids = range(self.first, self.first + self.size)
        return ids, b.user_ids[part], b.amounts[part], b.notes[part], b.moments[part]

    def encoded(self) -> bytes:
        """Return the rows in COPY's binary format, without header and trailer."""
        block = self.bodies.block[self.place : self.place + self.size].copy()
        block["id"] = np.arange(self.first, self.first + self.size)
        return block.tobytes()

    def parts(self, size: int) -> Iterator[Rows]:
        """Yield the batch in parts of at most `size` rows."""
        for done in range(0, self.size, size):
            some = min(size, self.size - done)
            yield Rows(self.first + done, some, self.place + done, self.bodies)


class Keys:
    """Hand out batches of one process, without a gap."""

    def __init__(self, bodies: Bodies, process: int = 0) -> None:
        self.base = self.next = process * PROCESS_KEYS
        self._bodies = bodies

    def take(self, size: int) -> Rows:
        """Return the next `size` rows."""
        first = self.next
        self.next += size
        return Rows(first, size, first % (self._bodies.size - size + 1), self._bodies)


def lines(seed: int, count: int) -> Iterator[str]:
    r"""Yield rows as lines of COPY's text format: what `psql \copy` reads."""
    bodies = Bodies(seed)
    whole = Rows(0, bodies.size, 0, bodies)
    texts = [
        f"{user}\t{amount}\t{note}\t{moment.isoformat()}\n"
        for _, user, amount, note, moment in whole.records()
    ]
    for first in range(0, count, bodies.size):
        some = min(bodies.size, count - first)
        yield "".join([f"{first + place}\t{texts[place]}" for place in range(some)])


def make(seed: int, form: Form, batch: int) -> tuple[Bodies, float, float]:
    """Return bodies, the seconds that making them took, and the seconds per row of stamping ids.

    The second is what remains in the measured path of a rung that takes its rows in this form.
    """
    began = time.perf_counter()
    bodies = Bodies(seed, max(SIZE, batch))
    if form == "encoded":
        bodies.block  # noqa: B018  # made now rather than in the first write
    made = time.perf_counter() - began
    keys = Keys(bodies)
    began = time.perf_counter()
    rows = 0
    while rows < SIZE:
        one = keys.take(batch)
        if form == "encoded":
            one.encoded()
        elif form == "columns":
            list(one.columns()[0])
        else:
            list(one.records())
        rows += batch
    return bodies, made, (time.perf_counter() - began) / rows
