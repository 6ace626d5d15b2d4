"""The account of all writing processes: seconds, `ladder_metrics.csv`, totals for Prometheus."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from hdrh.histogram import HdrHistogram

from loadtest.intervals import DIGITS, HIGHEST_US, LOWEST_US

COLUMNS = (
    *("timestamp", "tps", "success_count", "error_count", "error_rate"),
    *("latency_avg_ms", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms"),
    *("cpu_percent", "memory_percent", "queue_length"),
)


@dataclass
class Stretch:
    """What happened since the last line: counts are of rows, latencies of write calls."""

    began: float
    cpu_s: float
    rows: int = 0
    failed_rows: int = 0
    writes: int = 0
    sum_ms: float = 0.0
    latencies: HdrHistogram = field(
        default_factory=lambda: HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    )


class Account:
    """Add up the seconds that the writing processes tell of."""

    def __init__(self, folder: Path, interval_s: float, now: float) -> None:
        self._folder = folder
        self._interval_s = interval_s
        self._file = (folder / "ladder_metrics.csv").open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(COLUMNS)
        self._seconds = (folder / "seconds.jsonl").open("w", encoding="utf-8")
        self._stretch = Stretch(now, 0.0)
        self._told = now
        self._latest: dict[int, dict[str, Any]] = {}
        self.rows = self.failed_rows = self.writes = self.failed_writes = 0
        self.sum_ms = 0.0
        self.latencies = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        self.memory_bytes = 0
        self.highest_memory_bytes = 0

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all writing processes so far."""
        return sum(state["cpu_s"] for state in self._latest.values())

    @property
    def connects(self) -> int:
        """Connections opened so far."""
        return sum(state["connects"] for state in self._latest.values())

    @property
    def connect_s(self) -> float:
        """Seconds that opening them took."""
        return sum(state["connect_s"] for state in self._latest.values())

    @property
    def queue_length(self) -> int:
        """Writes that are due and not begun."""
        return sum(state["queue"] for state in self._latest.values())

    def begin(self, now: float) -> None:
        """Let the first line begin here: opening connections is no writing."""
        self._stretch.began = self._told = now

    def add(self, second: dict[str, Any]) -> None:
        """Take one second of one process."""
        self._latest[second["process"]] = second
        self._told = max(self._told, second["cpu_at"])
        if second["writes"]:
            self.latencies.decode_and_add(second["hdr"])
            self._stretch.latencies.decode_and_add(second["hdr"])
        for one in (self, self._stretch):
            one.rows += second["rows"]
            one.failed_rows += second["failed_rows"]
            one.writes += second["writes"]
            one.sum_ms += second["sum_ms"]
        self.failed_writes += second["failed_writes"]
        self._seconds.write(json.dumps(second, separators=(",", ":")) + "\n")
        self._seconds.flush()

    def weigh(self, processes: Iterable[psutil.Process]) -> None:
        """Read the memory of all processes; pages that they share count once."""
        total = 0
        for process in processes:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue  # it has just ended
        self.memory_bytes = total
        self.highest_memory_bytes = max(total, self.highest_memory_bytes)

    def due(self) -> bool:
        """Return whether a line is due."""
        return self._told - self._stretch.began >= self._interval_s

    def line(self) -> None:
        """Write a line on what was told of since the last one; without writes, no latencies."""
        s, now = self._stretch, self._told
        length = now - s.began
        if length <= 0:
            return
        cpu_s = self.cpu_s
        wanted = (50.0, 95.0, 99.0)
        shown: list[str] = [""] * 4
        if s.writes:
            found = s.latencies.get_percentile_to_value_dict(list(wanted))
            shown = [f"{s.sum_ms / s.writes:.3f}", *(f"{found[p] / 1000:.3f}" for p in wanted)]
        attempts = s.rows + s.failed_rows
        self._csv.writerow(
            [
                datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
                f"{s.rows / length:.1f}",
                s.rows,
                s.failed_rows,
                f"{s.failed_rows / attempts:.6f}" if attempts else "",
                *shown,
                f"{(cpu_s - s.cpu_s) / length * 100:.1f}",
                f"{self.memory_bytes / psutil.virtual_memory().total * 100:.2f}",
                self.queue_length,
            ]
        )
        self._file.flush()
        self._stretch = Stretch(now, cpu_s)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._seconds.close()
