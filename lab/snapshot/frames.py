"""What a query gave: series on one grid of time, or a table; and their compact form as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

#: Digits that are kept; more than any reading of a panel needs.
DIGITS = 5

Cell = float | str | None


@dataclass(frozen=True)
class Span:
    """A stretch of time and the grid its samples lie on, in Unix seconds."""

    start: float
    end: float
    step: float

    @property
    def points(self) -> int:
        """How many moments the grid has."""
        return int((self.end - self.start) / self.step + 1e-6) + 1

    def place(self, moment: float) -> int:
        """Return the number of the grid's moment nearest to one."""
        return round((moment - self.start) / self.step)


@dataclass(frozen=True)
class Series:
    """Values of one series at the grid's moments; an instant one has a single value."""

    ref_id: str
    name: str
    labels: Mapping[str, str]
    values: tuple[float | None, ...]

    def cut(self, first: int, last: int) -> Series:
        """Return the series between two moments of the grid, both included."""
        return replace(self, values=self.values[max(first, 0) : last + 1])

    def to_json(self) -> dict[str, Any]:
        """Return it without what is missing at its ends."""
        there = [place for place, value in enumerate(self.values) if value is not None]
        at, end = (there[0], there[-1] + 1) if there else (0, 0)
        return {
            "ref": self.ref_id,
            "name": self.name,
            "labels": dict(self.labels),
            "at": at,
            "values": list(self.values[at:end]),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], points: int) -> Series:
        """Return a series of `points` values again."""
        before: list[float | None] = [None] * int(data["at"])
        values = before + list(data["values"])
        values += [None] * (points - len(values))
        return cls(data["ref"], data["name"], data["labels"], tuple(values))


@dataclass(frozen=True)
class Column:
    """One column of a table; `kind` is time, number or string."""

    name: str
    kind: str
    values: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Rows by columns."""

    ref_id: str
    columns: tuple[Column, ...]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(self.columns[0].values) if self.columns else 0

    def column(self, name: str) -> Column | None:
        """Return a column by its name."""
        return next((c for c in self.columns if c.name == name), None)

    def where(self, name: str, value: Cell) -> Table:
        """Return the rows that have a value in a column; none where there is no such column."""
        column = self.column(name)
        kept = [n for n, v in enumerate(column.values) if v == value] if column else []
        columns = (Column(c.name, c.kind, tuple(c.values[n] for n in kept)) for c in self.columns)
        return Table(self.ref_id, tuple(columns))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain lists."""
        columns = [{"name": c.name, "kind": c.kind, "values": list(c.values)} for c in self.columns]
        return {"ref": self.ref_id, "columns": columns}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Table:
        """Return a table again."""
        columns = (Column(c["name"], c["kind"], tuple(c["values"])) for c in data["columns"])
        return cls(data["ref"], tuple(columns))


@dataclass(frozen=True)
class PanelData:
    """All that a panel draws; `instant` tells one value per series from values on the grid."""

    series: tuple[Series, ...] = ()
    tables: tuple[Table, ...] = ()
    instant: bool = False
    error: str | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        drawn = any(v is not None for s in self.series for v in s.values)
        return not drawn and not any(t.rows for t in self.tables)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        found: dict[str, Any] = {"series": [s.to_json() for s in self.series]}
        found["tables"] = [t.to_json() for t in self.tables]
        return found | {"instant": self.instant, "error": self.error}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], points: int) -> PanelData:
        """Return it again; `points` is the length of the grid."""
        size = 1 if data["instant"] else points
        return cls(
            tuple(Series.from_json(s, size) for s in data["series"]),
            tuple(Table.from_json(t) for t in data["tables"]),
            data["instant"],
            data["error"],
        )


@dataclass(frozen=True)
class Mark:
    """A moment of a dashboard's annotation, or with an `end` a region."""

    time: float
    text: str
    end: float | None = None

    def within(self, span: Span) -> Mark | None:
        """Return what of it lies in a span, None where nothing does.

        A region that only touches the span belongs to its neighbour.
        """
        if self.end is None:
            return self if span.start <= self.time <= span.end else None
        start, end = max(self.time, span.start), min(self.end, span.end)
        return replace(self, time=start, end=end) if start < end else None

    def to_json(self) -> list[float | str | None]:
        """Return it as a short list."""
        return [self.time, self.text, self.end]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Mark:
        """Return it again; up to schema 1 of the archive there was no end."""
        time, text, *more = data
        return cls(float(time), str(text), float(more[0]) if more and more[0] is not None else None)


@dataclass(frozen=True)
class DashboardData:
    """What every panel and annotation of one dashboard showed, by panel id and by name."""

    panels: Mapping[int, PanelData]
    marks: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)


def number(text: str) -> float | None:
    """Return Prometheus's number in DIGITS digits; what is none, or infinite, is None."""
    value = float(text)
    if not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}") if abs(value) < 1e15 else value


def on_grid(samples: Sequence[Sequence[Any]], span: Span) -> tuple[float | None, ...]:
    """Return one value per moment of the grid from [unix_s, text] pairs."""
    values: list[float | None] = [None] * span.points
    for moment, text in samples:
        place = span.place(float(moment))
        if 0 <= place < len(values):
            values[place] = number(text)
    return tuple(values)
