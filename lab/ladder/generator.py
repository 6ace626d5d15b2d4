"""The generator as a process: its command, its progress, and what it left in its folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lab.errors import ResultError
from lab.intervals import decode, percentiles
from lab.ladder.plan import Rung
from lab.ladder.settings import LadderSettings
from lab.paths import ROOT
from lab.stack.base import Endpoints
from lab.stack.process import Command
from lab.stack.servers import START_TOKEN

#: How long writes under way, and the generator's last words, may take.
STOP_S = 40


def command(
    rung: Rung, own: LadderSettings, endpoints: Endpoints, folder: Path, *,
    seed: int, prepares: bool, metrics_port: int | None, keep: bool = False,
) -> Command:  # fmt: skip
    """Return the command that writes by this rung; its settings are in the environment."""
    through = rung.route(own) == "pgbouncer"
    address = endpoints.pgbouncer if through else endpoints.postgres
    assert address is not None
    given: dict[str, Any] = {
        "RUNG": rung.name,
        "FOLDER": folder,
        "HOST": address[0],
        "PORT": address[1],
        "DATABASE": endpoints.database,
        "USER": endpoints.service_role,
        "PASSWORD": endpoints.service_password,
        "PREPARES": str(prepares or not through).lower(),
        "SEED": seed,
        "BATCH": rung.batch,
        "POOL": rung.pool,
        "TARGET_TPS": own.rate,
        "WARMUP": own.warmup,
        "DURATION": own.duration,
        "INTERVAL": own.interval,
        "METRICS_PORT": metrics_port,
        "KEEP_ACKNOWLEDGEMENTS": str(keep).lower(),
    }
    env = {f"LADDER_{name}": str(value) for name, value in given.items() if value is not None}
    env |= {
        START_TOKEN: endpoints.start_token,
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "HOME": str(folder),
    }
    env |= {"PYTHONDONTWRITEBYTECODE": "1"}
    args = [sys.executable, "-m", "loadtest.ladder"]
    return Command("ladder", args, env, ROOT, stop_timeout_s=STOP_S)


@dataclass(frozen=True)
class Started:
    """When every process wrote, and the window's edges, in Unix time."""

    at: float
    window_start: float
    window_end: float


def started(folder: Path) -> Started | None:
    """Return when the window is, None while connections are still being opened."""
    path = folder / "started.json"
    return Started(**json.loads(path.read_text())) if path.is_file() else None


@dataclass(frozen=True)
class Account:
    """What the generator says that it did, from its start to its end."""

    processes: tuple[dict[str, Any], ...]
    highest_memory_bytes: int

    @property
    def acknowledged_rows(self) -> int:
        """Rows that PostgreSQL acknowledged."""
        return sum(one["acknowledged_rows"] for one in self.processes)

    @cached_property
    def unknown(self) -> list[tuple[int, int]]:
        """Batches (first id, rows) whose answer was lost."""
        return [(first, size) for one in self.processes for first, size in one["unknown"]]

    @property
    def refused_rows(self) -> int:
        """Rows that were certainly not written, and were given up at the end."""
        return sum(size for one in self.processes for _, size in one["not_written"])

    def adds_up(self) -> bool:
        """Return whether every id that was handed out has one fate."""
        handed_out = sum(one["next"] - one["base"] for one in self.processes)
        unknown = sum(size for _, size in self.unknown)
        return handed_out == self.acknowledged_rows + unknown + self.refused_rows

    def mean(self, name: str) -> float:
        """Return a figure's mean over the processes."""
        return sum(one[name] for one in self.processes) / len(self.processes)

    def total(self, name: str) -> int:
        """Return a figure's sum over the processes."""
        return int(sum(one[name] for one in self.processes))


def account(folder: Path) -> Account:
    """Return the generator's account; raise ResultError where it did not leave one."""
    path = folder / "result.json"
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise ResultError("the ladder's generator ended without an account") from None
    return Account(tuple(data["processes"]), data["highest_memory_bytes"])


def seconds(folder: Path) -> list[dict[str, Any]]:
    """Return the seconds of all processes; a last line without its end is left out."""
    path = folder / "seconds.jsonl"
    if not path.is_file():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


@dataclass(frozen=True)
class Window:
    """The seconds of a window, added up."""

    window_s: float
    rows: int
    writes: int
    failed_rows: int
    failed_writes: int
    sum_ms: float
    errors: dict[str, int]
    latencies_ms: tuple[float | None, ...]
    queue: tuple[int, ...]
    busiest_cpu: float | None
    cores: float | None
    connects: int
    connect_s: float
    timeline: list[dict[str, float]]


def window(lines: Sequence[dict[str, Any]], start: float, end: float) -> Window:
    """Add up the seconds within [start, end); raise ResultError if one is missing."""
    inside = [line for line in lines if start <= line["start"] < end]
    processes = {line["process"] for line in lines}
    wanted = round(end - start) * len(processes)
    if not inside or len(inside) < wanted:
        raise ResultError(f"the generator told of {len(inside)} of {wanted} seconds of the window")
    histogram = decode(line["hdr"] for line in inside if line["writes"])
    errors: dict[str, int] = {}
    for line in inside:
        for message, count in line["errors"].items():
            errors[message] = errors.get(message, 0) + count
    spans = [_span(lines, process, start, end) for process in processes]
    shares = [cpu_s / length for length, cpu_s, _, _ in spans if length]
    by_second: dict[int, int] = {}
    for line in inside:
        by_second[line["start"]] = by_second.get(line["start"], 0) + line["rows"]
    return Window(
        window_s=end - start,
        rows=_sum(inside, "rows"),
        writes=_sum(inside, "writes"),
        failed_rows=_sum(inside, "failed_rows"),
        failed_writes=_sum(inside, "failed_writes"),
        sum_ms=sum(line["sum_ms"] for line in inside),
        errors=dict(sorted(errors.items())),
        latencies_ms=tuple(percentiles(histogram, (50.0, 95.0, 99.0, 100.0))),
        queue=tuple(line["queue"] for line in inside),
        busiest_cpu=max(shares, default=None),
        cores=sum(shares) if shares else None,
        connects=round(sum(connects for _, _, connects, _ in spans)),
        connect_s=sum(connect_s for _, _, _, connect_s in spans),
        timeline=[{"t": float(t), "rows": float(n)} for t, n in sorted(by_second.items())],
    )


def _sum(lines: Iterable[dict[str, Any]], name: str) -> int:
    return int(sum(line[name] for line in lines))


def _span(
    lines: Sequence[dict[str, Any]], process: int, start: float, end: float
) -> tuple[float, float, float, float]:
    """Return how far one process's counters went in a window: seconds, CPU, connects, their time.

    They were read at the end of each second: the first edge is the second before the window.
    """
    own = [line for line in lines if line["process"] == process]
    before = [line for line in own if line["start"] < start]
    first = before[-1] if before else next(line for line in own if line["start"] >= start)
    last = [line for line in own if line["start"] < end][-1]
    names = ("cpu_at", "cpu_s", "connects", "connect_s")
    length, cpu_s, connects, connect_s = (last[name] - first[name] for name in names)
    return length, cpu_s, connects, connect_s
