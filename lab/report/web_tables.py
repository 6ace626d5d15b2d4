"""The tables of `report.html`: text for people, and the bare value for sorting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lab.report import wording
from lab.report.groups import Group, View
from lab.stats import Estimate

#: Letters from which on a column of words needs some width, and columns from which on a table is
#: too wide for a phone, where a line that breaks out of sight would only stretch its row.
LONG_TEXT, WIDE_TABLE = 24, 6
#: The class of a figure that was read in rejected cells.
DOUBTED = "doubted"


@dataclass(frozen=True)
class Cell:
    """What stands in a cell of a table; `kind` is a class of the page's style."""

    text: str
    value: float | str | None = None
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """Headings, and rows of cells; the first `words` columns and those in `texts` are text."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int
    texts: frozenset[int] = field(default_factory=frozenset)

    def is_text(self, place: int) -> bool:
        """Return whether a column holds words rather than numbers."""
        return place < self.words or place in self.texts

    @property
    def wide(self) -> bool:
        """Whether a phone shows a part of the columns only."""
        return len(self.headings) >= WIDE_TABLE

    @cached_property
    def long(self) -> frozenset[int]:
        """The columns of words that would be unreadable if they were broken after each."""
        return frozenset(
            place
            for place in range(len(self.headings))
            if self.is_text(place) and any(len(row[place].text) > LONG_TEXT for row in self.rows)
        )

    @property
    def status(self) -> int | None:
        """The column that says whether a row is trusted; a narrow screen has it in the first."""
        place = list(self.headings).index("status") if "status" in self.headings else 0
        return place or None

    @property
    def note(self) -> str:
        """What has to be said of the figures below the table."""
        return wording.DOUBT if any(c.kind == DOUBTED for row in self.rows for c in row) else ""


#: Heading, field of a measurement, how it is written.
MEASURED: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("P50 ms", "p50_ms", wording.number),
    ("P95 ms", "p95_ms", wording.number),
    ("P99 ms", "p99_ms", wording.number),
    ("errors", "error_rate", wording.percent),
    ("new conn. per request", "new_connections_per_request", wording.per_request),
    ("pool wait ms", "pool_wait_ms", wording.number),
    ("DB CPU", "db_cpu", wording.percent),
    ("app CPU", "app_cpu", wording.percent),
    ("PgBouncer CPU", "pgbouncer_cpu", wording.percent),
    ("DB throttled", "db_throttled", wording.percent),
)
#: Of a limit: from here on it is what holds a service back.
NEARLY_ALL = 0.95


def identity(view: View, group: Group, *, route: bool = True) -> list[Cell]:
    """Return the cells that tell a combination from the others."""
    names = ["FRAMEWORK", *(["ROUTE"] if route else []), "USERS"]
    cells = [Cell(wording.framework(group.axes["FRAMEWORK"]))]
    cells += [Cell(wording.value(v := group.axes[name]), v) for name in names[1:]]
    return cells + [Cell(wording.value(v), v) for _, v in view.labelled(group)]


def headings(view: View, *, route: bool = True) -> list[str]:
    """Return what stands above `identity`."""
    names = ["framework", *(["route"] if route else []), "users"]
    return [*names, *map(wording.toggle, view.varying)]


def matrix(view: View) -> Table:
    """Return the result: one row per combination, its verdict first of what was found."""
    first = headings(view)
    repeated = view.repetitions[1] > 1
    columns = [*first, *["n"] * repeated, "RPS", *(name for name, _, _ in MEASURED), "verdict",
               "status"]  # fmt: skip
    rows = [
        [
            *identity(view, group),
            *[Cell(str(len(group.accepted)), len(group.accepted))] * repeated,
            _spread(group, "rps"),
            *(_measured(group, name, text) for _, name, text in MEASURED),
            Cell(_verdict(group) or "–", _verdict(group), "verdict" if _verdict(group) else ""),
            Cell(group.status, kind="" if group.status == "accepted" else "bad"),
        ]
        for group in view.groups
    ]
    texts = frozenset({len(columns) - 2, len(columns) - 1})
    return Table("Result of every combination", columns, rows, 2, _words(view) | texts)


def changes(view: View) -> Table:
    """Return what PgBouncer changed, for each combination measured on both routes."""
    first = headings(view, route=False)
    columns = [*first, "RPS direct", "RPS through PgBouncer", "RPS ratio", "P95 ratio", "pairs"]
    rows = []
    for change in view.changes():
        rps = change.ratios["rps"]
        rows.append([
            *identity(view, change.direct, route=False),
            _measured(change.direct, "rps"),
            _measured(change.pgbouncer, "rps"),
            _estimate(rps, _times),
            _estimate(change.ratios["p95_ms"], _times),
            Cell(str(rps.n if rps else 0), rps.n if rps else 0),
        ])  # fmt: skip
    return Table("What PgBouncer changed", columns, rows, len(first))


def ceilings(view: View) -> Table:
    """Return what pgbench reached on the same limited database."""
    columns = ["route", "protocol", "clients", "transactions/s", "mean ms", "why not"]
    rows = [
        [
            Cell(c.route),
            Cell(c.protocol),
            Cell(str(c.clients), c.clients),
            _number(c.tps),
            _number(c.latency_ms),
            Cell(c.reason or ""),
        ]
        for c in view.manifest.ceilings
    ]
    return Table("What the database could give", columns, rows, 2, frozenset({5}))


def latency(view: View) -> Table:
    """Return where the time of a request goes, in milliseconds."""
    names = {
        "client mean": "mean_ms", "service mean": "server_mean_ms", "pool wait": "pool_wait_ms",
        "connecting": "connect_ms", "statement": "statement_ms",
        "in PostgreSQL": "executed_mean_ms", "PgBouncer wait": "pgbouncer_wait_ms",
    }  # fmt: skip
    return _grid(view, "Where the time of a request goes, in ms", names, wording.number)


def processors(view: View) -> Table:
    """Return where the CPU goes."""
    names = {
        "PostgreSQL": "db_cpu", "throttled": "db_throttled", "service": "app_cpu",
        "throttled ": "app_throttled", "PgBouncer": "pgbouncer_cpu",
        "throttled  ": "pgbouncer_throttled", "load generator": "generator_cpu",
        "host": "host_cpu", "steal": "steal",
    }  # fmt: skip
    return _grid(view, "Where the CPU goes", names, wording.percent)


def pairs(caption: str, headings: tuple[str, str], values: dict[str, Any]) -> Table:
    """Return names beside their values."""
    rows = [[Cell(name), Cell(wording.value(value))] for name, value in values.items()]
    return Table(caption, headings, rows, 2)


def _words(view: View) -> frozenset[int]:
    """Return the columns of the varying axes, which come after framework, route and users."""
    return frozenset(range(3, 3 + len(view.varying)))


def _grid(view: View, caption: str, names: dict[str, str], text: Callable[[float], str]) -> Table:
    first = headings(view)
    rows = [
        [*identity(view, group), *(_measured(group, name, text) for name in names.values())]
        for group in view.groups
        if group.measured
    ]
    return Table(caption, [*first, *names], rows, 2, _words(view))


def _measured(group: Group, name: str, text: Callable[[float], str] = wording.number) -> Cell:
    words = wording.figure(group, name, text)
    if words.endswith(wording.DOUBTED):
        # Without a value: it is sorted among nothing that can be trusted.
        return Cell(words, kind=DOUBTED)
    value = group.mean(name)
    full = name in ("db_cpu", "app_cpu", "pgbouncer_cpu") and (value or 0) >= NEARLY_ALL
    failing = name == "error_rate" and (value or 0) > 0
    return Cell(words, value, "full" if full else "bad" * failing)


def _spread(group: Group, name: str) -> Cell:
    """Return a mean with its interval."""
    found = group.estimate(name)
    return _measured(group, name) if found is None else _estimate(found)


def _verdict(group: Group) -> str:
    found = dict.fromkeys(r.verdict for r in (*group.accepted, *group.rejected) if r.verdict)
    return "; ".join(found)


def _estimate(found: Estimate | None, text: Callable[[float], str] = wording.number) -> Cell:
    if found is None:
        return Cell(wording.MISSING)
    if found.low is None or found.high is None:
        return Cell(text(found.value), found.value)
    return Cell(f"{text(found.value)} ({text(found.low)} to {text(found.high)})", found.value)


def _number(value: float | None) -> Cell:
    return Cell(wording.MISSING) if value is None else Cell(wording.number(value), value)


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x"
