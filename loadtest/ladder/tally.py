"""What one writing process did, by the second, and which ids became of what."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.intervals import encode_histogram, histogram_index
from loadtest.ladder.contract import Fate
from loadtest.ladder.rows import Rows

MAX_ERROR_KINDS = 20
OTHER_ERRORS = "other errors"
#: One acknowledgement of `acknowledged-<process>.bin`: unix seconds, first id, rows.
ACKNOWLEDGEMENT = struct.Struct("<dqq")


@dataclass(slots=True)
class Second:
    """The writes that ended in one second; times in milliseconds, `hdr` counts by HDR index.

    `failed_rows` are those of failed attempts: the same row can fail several times.
    """

    start: int
    writes: int = 0
    rows: int = 0
    failed_writes: int = 0
    failed_rows: int = 0
    sum_ms: float = 0.0
    counts: dict[int, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)

    def message(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "start": self.start,
            "writes": self.writes,
            "rows": self.rows,
            "failed_writes": self.failed_writes,
            "failed_rows": self.failed_rows,
            "sum_ms": round(self.sum_ms, 6),
            "hdr": encode_histogram(self.counts),
            "errors": self.errors,
        }


class Tally:
    """Count the writes of one process; nothing but the event loop's thread may call it."""

    def __init__(self, keep: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._current = Second(int(clock()))
        self._closed: list[Second] = []
        self._acknowledgements = bytearray() if keep else None
        self._keep = keep
        self.acknowledged_rows = 0
        self.unknown: list[tuple[int, int]] = []
        self.not_written: list[tuple[int, int]] = []

    def acknowledged(self, rows: Rows, latency_s: float) -> None:
        """Count a write that PostgreSQL acknowledged."""
        now = self._clock()
        second = self._at(now)
        second.writes += 1
        second.rows += rows.size
        self.acknowledged_rows += rows.size
        index = histogram_index(int(latency_s * 1e6 + 0.5))
        second.counts[index] = second.counts.get(index, 0) + 1
        second.sum_ms += latency_s * 1000
        if self._acknowledgements is not None:
            self._acknowledgements += ACKNOWLEDGEMENT.pack(now, rows.first, rows.size)

    def failed(self, rows: Rows, message: str, fate: Fate) -> None:
        """Count a write that failed; one of unknown fate is not tried again."""
        second = self._at(self._clock())
        second.failed_writes += 1
        second.failed_rows += rows.size
        if message not in second.errors and len(second.errors) >= MAX_ERROR_KINDS:
            message = OTHER_ERRORS
        second.errors[message] = second.errors.get(message, 0) + 1
        if fate == "unknown":
            self.unknown.append((rows.first, rows.size))

    def given_up(self, rows: Rows) -> None:
        """Note a batch that was certainly not written and will not be."""
        self.not_written.append((rows.first, rows.size))

    def close_until(self, now: int) -> list[Second]:
        """Take the seconds that ended by `now`; one without writes is empty, never absent."""
        self._at(now)
        closed, self._closed = self._closed, []
        return closed

    def finish(self) -> list[Second]:
        """Take every second, the current one included, and write what was to be kept."""
        if self._keep is not None and self._acknowledgements is not None:
            self._keep.write_bytes(self._acknowledgements)
        return [*self.close_until(int(self._clock())), self._current]

    def _at(self, now: float) -> Second:
        whole = int(now)
        # A clock that was set back keeps counting into the current second.
        if whole > self._current.start:
            self._closed.append(self._current)
            self._closed += [Second(start) for start in range(self._current.start + 1, whole)]
            self._current = Second(whole)
        return self._current
