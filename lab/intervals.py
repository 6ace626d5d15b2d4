"""Read and merge the interval logs of the load generator: one line per process and second.

loadtest/intervals.py writes them. Seconds are those of the wall clock, so that the processes' lines
of one second belong together.

    attempts    every request that ended: answers of any status, and those without an answer
    responses   answers, of any status
    failures    attempts that gave no 200 or 201: wrong status, no answer, or a broken one
    rps         successful answers per second: (attempts - failures) / window_s
    error_rate  failures / attempts
    *_ms        client-side latency of all attempts: what a closed loop's X*R = N needs
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from lab.errors import ResultError

LOWEST_US = 1
HIGHEST_US = 3_600_000_000
DIGITS = 3
PATTERN = "intervals-*.jsonl"


@dataclass(frozen=True)
class Interval:
    """What all load-generating processes did in [start, end), seconds of the Unix epoch.

    `cpu` gives for each process (CPU seconds so far, when that was read).
    """

    start: int
    end: float
    users: int
    responses: int
    failures: int
    statuses: dict[str, int]
    errors: dict[str, int]
    sum_ms: float
    histograms: tuple[str, ...]
    cpu: dict[str, tuple[float, float]]
    abandoned: int = 0

    @property
    def late_s(self) -> float:
        """How long after its end the second was written, by the latest process."""
        return max(0.0, max(at for _, at in self.cpu.values()) - (self.start + 1))

    @property
    def whole(self) -> bool:
        """Whether it covers its second; the last one of a process does not."""
        return self.end >= self.start + 1

    @property
    def attempts(self) -> int:
        """Requests that ended."""
        return sum(self.statuses.values())

    @property
    def rps(self) -> float:
        """Successful answers per second."""
        return (self.attempts - self.failures) / (self.end - self.start or 1)

    @cached_property
    def p95_ms(self) -> float | None:
        """95th percentile of the latency; None without requests."""
        return percentiles(decode(self.histograms), (95.0,))[0]


@dataclass(frozen=True)
class LoadWindow:
    """The load of a stretch of whole seconds; see the module for what is counted.

    `window_s` counts the seconds that every process reported; the others are `missing_s`.
    `generator_cpu` is the busiest process's share of one core. Times without any request are None.
    """

    window_s: float
    responses: int
    failures: int
    statuses: dict[str, int]
    errors: dict[str, int]
    rps: float
    error_rate: float | None
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    max_ms: float | None
    users_min: int
    users_max: int
    generator_cpu: float | None
    hdr: str
    timeline: list[dict[str, float]] = field(default_factory=list)
    missing_s: tuple[int, ...] = ()
    late_ms: float | None = None

    @property
    def attempts(self) -> int:
        """Requests that ended."""
        return sum(self.statuses.values())


def read(folder: Path) -> list[Interval]:
    """Read and merge all logs of a folder by second, oldest first; [] where there are none.

    A last line without its end is left out: its writer was killed, or is still at it. Raises
    ResultError where any other line cannot be read.
    """
    lines: list[tuple[str, dict[str, Any]]] = []
    for path in sorted(folder.glob(PATTERN)):
        text = path.read_text(encoding="utf-8")
        complete = text[: text.rfind("\n") + 1]
        lines += _parse(path, complete)
    return combine(lines)


def combine(lines: Iterable[tuple[str, dict[str, Any]]]) -> list[Interval]:
    """Merge (process, line) pairs by second, oldest first."""
    by_start: dict[int, list[tuple[str, dict[str, Any]]]] = {}
    for process, line in lines:
        by_start.setdefault(line["start"], []).append((process, line))
    return [_combine_second(start, by_start[start]) for start in sorted(by_start)]


def merge(intervals: Sequence[Interval], start: float, end: float) -> LoadWindow:
    """Sum up the whole seconds within [start, end).

    A second counts as missing where it is absent or partial, or where fewer processes reported
    than in others. Raises ResultError if no second is left.
    """
    first, last = math.ceil(start), math.floor(end)
    found = {i.start: i for i in intervals if first <= i.start < last}
    processes = max((len(i.cpu) for i in found.values()), default=0)
    inside = [i for i in found.values() if i.whole and len(i.cpu) == processes]
    if not inside:
        raise ResultError(
            f"load generator reported no whole second from {first} to {last}; see locust.log"
        )
    reported = {i.start for i in inside}
    histogram = decode(text for i in inside for text in i.histograms)
    p50, p95, p99, p999, highest = percentiles(histogram, (50.0, 95.0, 99.0, 99.9, 100.0))
    statuses = _sum_counts(i.statuses for i in inside)
    attempts = sum(statuses.values())
    failures = sum(i.failures for i in inside)
    before = [i for i in intervals if i.start == first - 1]
    return LoadWindow(
        window_s=float(len(inside)),
        responses=sum(i.responses for i in inside),
        failures=failures,
        statuses=statuses,
        errors=_sum_counts(i.errors for i in inside),
        rps=(attempts - failures) / len(inside),
        error_rate=failures / attempts if attempts else None,
        mean_ms=sum(i.sum_ms for i in inside) / attempts if attempts else None,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=highest,
        users_min=min(i.users for i in inside),
        users_max=max(i.users for i in inside),
        generator_cpu=_busiest([*before, *inside]),
        late_ms=1000 * sum(i.late_s for i in inside) / len(inside),
        hdr=histogram.encode().decode("ascii"),
        timeline=[_point(i) for i in inside],
        missing_s=tuple(second for second in range(first, last) if second not in reported),
    )


def decode(histograms: Iterable[str]) -> HdrHistogram:
    """Add up base64 HDR histograms of microseconds."""
    total = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for text in histograms:
        total.decode_and_add(text)
    return total


def percentiles(histogram: HdrHistogram, wanted: Sequence[float]) -> list[float | None]:
    """Give percentiles in milliseconds, exact to 3 digits; None from an empty histogram."""
    if not histogram.total_count:
        return [None] * len(wanted)
    found = histogram.get_percentile_to_value_dict(list(wanted))
    return [found[p] / 1000 for p in wanted]


class IntervalFollower:
    """Follow logs that are being written, for a live display; reads only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._last_start: dict[str, int] = {}
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._newest: Interval | None = None

    def poll(self) -> Interval | None:
        """Return the newest second that every living process has reported; None before the first.

        A process that is 2 s behind the others is not waited for.
        """
        for path in sorted(self._folder.glob(PATTERN)):
            for process, line in self._new_lines(path):
                self._waiting.append((process, line))
                self._last_start[process] = line["start"]
        if self._waiting:
            ahead = max(self._last_start.values())
            complete = min(start for start in self._last_start.values() if start > ahead - 2)
            ready = [line for line in self._waiting if line[1]["start"] <= complete]
            if ready:
                self._newest = combine(ready)[-1]
                self._waiting = [line for line in self._waiting if line[1]["start"] > complete]
        return self._newest

    def _new_lines(self, path: Path) -> list[tuple[str, dict[str, Any]]]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(complete)
        return _parse(path, complete.decode("utf-8"))


def _parse(path: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        return [(path.stem, json.loads(line)) for line in text.splitlines()]
    except ValueError as error:
        raise ResultError(f"{path} is damaged: {error}; measure the cell again") from error


def _combine_second(start: int, lines: list[tuple[str, dict[str, Any]]]) -> Interval:
    only = [line for _, line in lines]
    return Interval(
        start=start,
        end=min(line["end"] for line in only),
        users=sum(line["users"] for line in only),
        responses=sum(line["responses"] for line in only),
        failures=sum(line["failures"] for line in only),
        statuses=_sum_counts(line["statuses"] for line in only),
        errors=_sum_counts(line["errors"] for line in only),
        sum_ms=sum(line["sum_ms"] for line in only),
        histograms=tuple(line["hdr"] for line in only if line["statuses"]),
        cpu={process: (line["cpu_s"], line["cpu_at"]) for process, line in lines},
        abandoned=sum(line.get("abandoned", 0) for line in only),
    )


def _sum_counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def _busiest(intervals: list[Interval]) -> float | None:
    """Share of one core of the busiest process, between the ends of first and last interval."""
    first, last = intervals[0].cpu, intervals[-1].cpu
    shares = [
        (last[process][0] - spent_s) / (last[process][1] - at)
        for process, (spent_s, at) in first.items()
        if process in last and last[process][1] > at
    ]
    return max(shares, default=None)


def _point(interval: Interval) -> dict[str, float]:
    """One second of the timeline; without requests it has no p95_ms."""
    point = {
        "t": float(interval.start),
        "rps": interval.rps,
        "users": float(interval.users),
        "failures": float(interval.failures),
    }
    if interval.p95_ms is not None:
        point["p95_ms"] = interval.p95_ms
    return point
