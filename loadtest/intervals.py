"""Record what each load-generating process did in each whole second of the wall clock.

One JSON line per second goes to `intervals-<host>-<pid>.jsonl`, for lab/intervals.py. The request
path only counts into a dict by the index that an HDR histogram would use; the histogram itself is
made when the second is over. Measured: 0.9 us for record(), of some 90 us of CPU per request;
HdrHistogram.record_value() alone would add 0.6 us.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

LOWEST_US = 1
HIGHEST_US = 3_600_000_000
DIGITS = 3
# A value of more than SUB_BUCKET_BITS bits is kept with that many leading bits.
SUB_BUCKET_BITS = 11
# More kinds of error than this in one second are counted together.
MAX_ERROR_KINDS = 20
OTHER_ERRORS = "other errors"


def histogram_index(latency_us: int) -> int:
    """Give the place of a latency in the counts of the HDR histogram above."""
    shift = latency_us.bit_length() - SUB_BUCKET_BITS
    if shift <= 0:
        return latency_us
    return (latency_us >> shift) + (shift << (SUB_BUCKET_BITS - 1))


def index_floor_us(index: int) -> int:
    """Give the lowest latency that is counted at a place: the reverse of histogram_index."""
    shift = (index >> (SUB_BUCKET_BITS - 1)) - 1
    if shift <= 0:
        return index
    return (index - (shift << (SUB_BUCKET_BITS - 1))) << shift


HIGHEST_INDEX = histogram_index(HIGHEST_US)


def encode_histogram(counts: dict[int, int]) -> str:
    """Make a base64 HDR histogram (V2) of counts by index."""
    histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for index, count in counts.items():
        histogram.counts[min(index, HIGHEST_INDEX)] += count
    if counts:
        histogram.set_internal_tacking_values(
            min(counts), min(max(counts), HIGHEST_INDEX), sum(counts.values())
        )
    return histogram.encode().decode("ascii")


@dataclass(slots=True)
class Second:
    """The requests that ended in one second; status 0 is no answer, `counts` go by HDR index."""

    start: int
    counts: dict[int, int] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    sum_ms: float = 0.0


class Recorder:
    """Count requests by the second in which they end; single-threaded, as all of Locust is."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.abandoned = 0
        self.begin()

    def begin(self) -> None:
        """Forget everything and start with the current second (after a fork, for instance)."""
        self.current = Second(int(self._clock()))
        self._closed: list[Second] = []
        self.abandoned = 0

    def record(
        self, response_time: float, response: Any, exception: BaseException | None, **_event: Any
    ) -> None:
        """Count one request: a listener of Locust's request event; response_time in ms."""
        now = int(self._clock())
        second = self.current
        # A clock that was set back keeps counting into the current second.
        if now > second.start:
            second = self._advance(now)
        latency_us = int(response_time * 1000 + 0.5)
        shift = latency_us.bit_length() - SUB_BUCKET_BITS  # histogram_index, inlined
        index = (latency_us >> shift) + (shift << 10) if shift > 0 else latency_us
        counts = second.counts
        counts[index] = counts.get(index, 0) + 1
        second.sum_ms += response_time
        status = response.status_code
        second.statuses[status] = second.statuses.get(status, 0) + 1
        if exception is not None:
            self._record_failure(second, status, response, exception)

    def close_until(self, now: int) -> list[Second]:
        """Take the seconds that ended by `now`; one without requests is empty, never absent."""
        if now > self.current.start:
            self._advance(now)
        closed, self._closed = self._closed, []
        return closed

    def pending(self) -> list[Second]:
        """Give the seconds not yet taken by close_until, the current one included."""
        return [*self._closed, self.current]

    def _advance(self, now: int) -> Second:
        self._closed.append(self.current)
        self._closed.extend(Second(start) for start in range(self.current.start + 1, now))
        self.current = Second(now)
        return self.current

    @staticmethod
    def _record_failure(second: Second, status: int, response: Any, error: BaseException) -> None:
        second.failures += 1
        message = describe_failure(status, response, error)
        if message not in second.errors and len(second.errors) >= MAX_ERROR_KINDS:
            message = OTHER_ERRORS
        second.errors[message] = second.errors.get(message, 0) + 1


def describe_failure(status: int, response: Any, error: BaseException) -> str:
    """Say in at most 80 characters why a request failed, without what differs each time.

    A service's own JSON code comes with the status: `HTTP 503 pool-timeout`.
    """
    if status in (0, 200, 201):
        reason = getattr(error, "strerror", None) or str(error)
        return f"{type(error).__name__}: {reason}".splitlines()[0][:80]
    try:
        code = json.loads(response.content or b"{}").get("error", "")
    except (ValueError, AttributeError, TypeError):
        code = ""
    return f"HTTP {status} {code}".strip()[:80]


class IntervalLog:
    """Append one JSON line per second to `intervals-<host>-<pid>.jsonl` in a folder.

    Each container is a host of its own, where every generator may have the same process id.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"intervals-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, second: Second, users: int, now: float, **last: Any) -> None:
        """Write a second that is over, or the last, partial one; flushed, so that it can be read.

        `cpu_at` is when `cpu_s` was read, since the writer can be late; `last` adds fields.
        """
        unanswered = second.statuses.get(0, 0)
        line = {
            "start": second.start,
            "end": min(second.start + 1, now),
            "users": users,
            "responses": sum(second.statuses.values()) - unanswered,
            "failures": second.failures,
            "statuses": {str(status): n for status, n in sorted(second.statuses.items())},
            "errors": second.errors,
            "sum_ms": round(second.sum_ms, 6),
            "hdr": encode_histogram(second.counts),
            "cpu_s": time.process_time(),
            "cpu_at": now,
            **last,
        }
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._file.flush()
