"""Records to the ladder: one line per rung, with ratios to the first and to the ceiling."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from lab.ladder.records import CEILINGS, COPY_CEILING, Measured, RungRecord, Verdict
from lab.ladder.verdict import judge
from lab.results import Manifest
from lab.stats import Estimate, mean_ci

FIRST = "1"

#: Measured columns after those that every ladder begins with, and their decimals.
MORE: dict[str, int] = {
    "latency_p50_ms": 3,
    "latency_p99_ms": 3,
    "row_us": 3,
    "error_rate": 6,
    "queue_max": 0,
    "generator_cpu": 4,
    "generator_cores": 4,
    "making_us_per_row": 4,
    "db_cores": 4,
    "db_cpu": 4,
    "pgbouncer_cores": 4,
    "wal_bytes_per_row": 1,
    "wal_mb_per_s": 2,
    "statements_per_row": 4,
    "new_connections": 0,
    "connect_ms": 3,
    "connect_share": 4,
    "host_cpu": 4,
}
COLUMNS = (
    *("rung", "method", "durability", "status", "rows_per_s", "commits_per_s"),
    *("latency_mean_ms", "latency_p95_ms", "ratio_to_first", "ratio_to_ceiling", "verdict"),
    *("repetitions", "rejected", "reject_reason", "route", "batch", "pool", "processes"),
    *("target_tps", *MORE, "generator_memory_mb", "acknowledged_rows", "rows_in_table"),
)


@dataclass(frozen=True)
class Line:
    """All measurements of one rung, or of a ceiling."""

    name: str
    records: tuple[RungRecord, ...]
    removes: str | None = None
    next_removes: str | None = None

    @property
    def any(self) -> RungRecord:
        """One of them, for what they have in common."""
        return self.records[0]

    @property
    def is_ceiling(self) -> bool:
        """Whether it is none of the rungs."""
        return self.name in CEILINGS

    @cached_property
    def accepted(self) -> list[Measured]:
        """The measurements that can be trusted; the others are in no mean."""
        found = (r.measured for r in self.records if r.status == "accepted")
        return [m for m in found if m is not None]

    @property
    def status(self) -> str:
        """Accepted where any measurement was."""
        return "accepted" if self.accepted else "rejected"

    def mean(self, name: str) -> float | None:
        """Return a figure's mean over the accepted measurements that have it."""
        values = [v for m in self.accepted if (v := getattr(m, name)) is not None]
        return fmean(values) if values else None

    def reading(self, name: str) -> float | None:
        """Return what is shown, not reckoned with: of rejected ones where none was accepted."""
        if self.accepted:
            return self.mean(name)
        found = (r.measured for r in self.records if r.measured is not None)
        values = [v for m in found if (v := getattr(m, name)) is not None]
        return fmean(values) if values else None

    @property
    def measured(self) -> bool:
        """Whether there is any figure to show, be it of rejected measurements."""
        return any(r.measured is not None for r in self.records)

    @cached_property
    def estimate(self) -> Estimate | None:
        """Rows per second with their interval."""
        values = [m.rows_per_s for m in self.accepted]
        return mean_ci(values) if values else None

    @property
    def rows_per_s(self) -> float | None:
        """Mean rows per second."""
        return self.mean("rows_per_s")

    @property
    def durable(self) -> bool:
        """Whether an acknowledged row survives a crash."""
        return self.any.durability == "committed to disk"

    @cached_property
    def verdict(self) -> Verdict | None:
        """What limits it: the verdict on the accepted measurement in the middle."""
        trusted = [r for r in self.records if r.status == "accepted" and r.measured is not None]
        if not trusted or self.is_ceiling:
            return None
        ordered = sorted(trusted, key=lambda r: r.measured.rows_per_s if r.measured else 0)
        return judge(ordered[len(ordered) // 2], self.next_removes)

    @property
    def reasons(self) -> list[str]:
        """Why measurements were rejected."""
        return list(dict.fromkeys(why for r in self.records for why in r.reject_reasons))


@dataclass(frozen=True)
class Ladder:
    """A run's lines from the bottom up, the ceilings last."""

    manifest: Manifest
    lines: tuple[Line, ...]

    @property
    def rungs(self) -> list[Line]:
        """The lines without the ceilings."""
        return [line for line in self.lines if not line.is_ceiling]

    def line(self, name: str) -> Line | None:
        """Return a line by its name."""
        return next((line for line in self.lines if line.name == name), None)

    def ratio(self, line: Line, to: str) -> float | None:
        """Return a line's rows per second over another's, None where either is unknown."""
        other = self.line(to)
        own, its = line.rows_per_s, other.rows_per_s if other else None
        return own / its if own is not None and its else None

    def best(self, *, durable: bool = False) -> Line | None:
        """Return the fastest rung, or the fastest that loses nothing on a crash."""
        known = [r for r in self.rungs if r.rows_per_s is not None and (r.durable or not durable)]
        return max(known, key=lambda r: r.rows_per_s or 0, default=None)

    def headlines(self) -> list[tuple[str, float | None]]:
        """Return the ratios that are asked for first."""
        best, durable = self.best(), self.best(durable=True)

        def of(one: Line | None, other: str) -> float | None:
            return self.ratio(one, other) if one else None

        unnest = [line for line in self.rungs if line.name.startswith("3-C")]
        best_unnest = max(unnest, key=lambda r: r.rows_per_s or 0, default=None)
        name = best.name if best else "-"
        durable_name = durable.name if durable else "-"
        return [
            (f"best rung ({name}) / rung 1", of(best, FIRST)),
            (f"best durable rung ({durable_name}) / psql \\copy", of(durable, COPY_CEILING)),
            ("unnest / psql \\copy", of(best_unnest, COPY_CEILING)),
            ("2-C / 2-B", of(self.line("2-C"), "2-B")),
            ("3-A / 2-B: what waiting for the disk costs single rows", of(self.line("3-A"), "2-B")),
        ]


def ladder(manifest: Manifest, records: Sequence[RungRecord]) -> Ladder:
    """Return the lines of a run in the order of its rungs."""
    order = [*manifest.axes.get("RUNG", []), *CEILINGS]
    removes = manifest.settings.get("REMOVES", {})
    lines = []
    for name in order:
        own = tuple(r for r in records if r.rung == name)
        if own:
            upper = order[order.index(name) + 1] if name in removes else None
            lines.append(Line(name, own, removes.get(name), removes.get(upper)))
    return Ladder(manifest, tuple(lines))


def to_csv(view: Ladder) -> str:
    """Return the whole of `ladder.csv`; a value that could not be measured is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(view, line) for line in view.lines)
    return text.getvalue()


def _row(view: Ladder, line: Line) -> dict[str, str]:
    record, verdict = line.any, line.verdict
    checked = [r.verification for r in line.records if r.verification is not None]
    memory = line.mean("generator_memory_bytes")
    figures = {name: (line.mean(name), digits) for name, digits in MORE.items()}
    figures |= {
        "rows_per_s": (line.rows_per_s, 1),
        "commits_per_s": (line.mean("commits_per_s"), 2),
        "latency_mean_ms": (line.mean("latency_mean_ms"), 3),
        "latency_p95_ms": (line.mean("latency_p95_ms"), 3),
        "ratio_to_first": (view.ratio(line, FIRST), 3),
        "ratio_to_ceiling": (view.ratio(line, COPY_CEILING), 6),
        "target_tps": (record.target_tps, 1),
        "generator_memory_mb": (None if memory is None else memory / 2**20, 1),
    }
    words = {
        "rung": line.name,
        "method": record.method,
        "durability": record.durability,
        "status": line.status,
        "verdict": verdict.limit if verdict else "",
        "repetitions": str(len(line.accepted)),
        "rejected": str(sum(r.status == "rejected" for r in line.records)),
        "reject_reason": "; ".join(line.reasons),
        "route": record.route,
        "batch": str(record.batch),
        "pool": str(record.pool),
        "processes": str(record.processes),
        "acknowledged_rows": str(sum(v.acknowledged_rows for v in checked)) if checked else "",
        "rows_in_table": str(sum(v.in_table for v in checked)) if checked else "",
    }
    shown: Callable[[float | None, int], str] = lambda x, d: "" if x is None else f"{x:.{d}f}"  # noqa: E731
    return {**words, **{name: shown(*figure) for name, figure in figures.items()}}
