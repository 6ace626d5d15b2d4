"""Where bars go: groups to panels and rows, and the value axis that panels share."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from lab.report import wording
from lab.report.groups import Group, View

#: Inches: one bar, and the gap between rows.
BAR, GAP = 0.185, 0.13
#: A latency axis is logarithmic from this ratio of largest to smallest on.
LOG_SPREAD = 20
#: A ceiling farther away than this, in units of the longest bar, would make all bars short.
CEILING_REACH = 1.8
#: Share of the axis that lies beyond its break, for ceilings that are farther away.
BREAK = 0.1
#: Inches that a letter takes beside a bar and beside an axis.
LETTER = 0.064


@dataclass(frozen=True)
class Metric:
    """A measured field as bars; `whole` is where a full axis ends, `mark` a second field.

    `brief` leaves out what another picture of the run says with more room.
    """

    name: str
    axis: str
    text: Callable[[float], str] = wording.number
    whole: float | None = None
    mark: str | None = None
    may_log: bool = False
    brief: bool = False

    def words(self, group: Group) -> str:
        """Return what stands at the end of a bar."""
        found = self.text_of(group)
        if not group.accepted:
            return f"rejected ({found})" if found and not self.brief else "rejected"
        some = f" ({group.status})" if group.rejected and not self.brief else ""
        if not found and self.name.startswith("pgbouncer") and group.axes["ROUTE"] == "direct":
            return "not in the path"
        return (found or wording.MISSING) + some

    def text_of(self, group: Group) -> str:
        """Return the bar's value as text, "" where there is none."""
        value = self.value(group)
        return "" if value is None else self.text(value)

    def value(self, group: Group) -> float | None:
        """Return the length of the group's bar; that of a rejected one is what it read."""
        return group.reading(self.name)

    def end(self, group: Group) -> float | None:
        """Return where the bar or its whisker ends."""
        estimate = group.estimate(self.name)
        if estimate and estimate.high is not None:
            return max(estimate.value, estimate.high)
        return self.value(group)


@dataclass(frozen=True)
class Row:
    """One row of bars by route; `labels` stand left of it in columns."""

    labels: tuple[str, ...]
    groups: dict[str, Group] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """Rows on axes of their own, for one metric."""

    title: str
    metric: Metric
    rows: Sequence[Row]

    def groups(self) -> Iterable[Group]:
        """Return every group that has a bar here."""
        return (group for row in self.rows for group in row.groups.values())


@dataclass(frozen=True)
class Scale:
    """The value axis that the panels of a sheet share; beyond `whole` it is broken."""

    low: float
    high: float
    log: bool = False
    whole: float = math.inf


@dataclass(frozen=True)
class Columns:
    """The labels left of the bars: a heading, words and the right edge (inches) of each column."""

    headings: tuple[str, ...]
    rights: tuple[float, ...]

    @property
    def width(self) -> float:
        """Return the inches that all columns take."""
        return self.rights[-1] + 0.1


def by_users(view: View) -> list[tuple[str, list[Row]]]:
    """Return for each level of users its title and rows; every level has the same rows."""
    levels = view.levels["USERS"]
    titles = {u: f"{u:,} users" if len(levels) > 1 else "" for u in levels}
    return [(titles[users], _rows(view, users)) for users in levels]


def _rows(view: View, users: int) -> list[Row]:
    named = shows_framework(view)
    rows: dict[tuple[str, ...], Row] = {}
    for framework in view.levels["FRAMEWORK"]:
        for group in (g for g in view.groups if g.axes["FRAMEWORK"] == framework):
            values = tuple(wording.value(value) for _, value in view.labelled(group))
            labels = (wording.framework(framework), *values) if named else values
            row = rows.setdefault(labels, Row(labels))
            if group.axes["USERS"] == users:
                row.groups[group.axes["ROUTE"]] = group
    return list(rows.values())


def shows_framework(view: View) -> bool:
    """Return whether rows are told apart by framework."""
    return len(view.levels["FRAMEWORK"]) > 1 or not view.varying


def columns(view: View, rows: Sequence[Row]) -> Columns:
    """Return the label columns of rows; a single column needs no heading."""
    names = [""] * shows_framework(view) + [wording.toggle(name) for name in view.varying]
    headings = [textwrap.fill(name, 10, break_long_words=False) for name in names]
    right, rights = 0.16, []
    for place, heading in enumerate(headings):
        words = [row.labels[place] for row in rows] + heading.splitlines()
        right += max(map(len, words)) * LETTER + 0.14
        rights.append(right)
    return Columns(tuple(headings), tuple(rights))


def shown_labels(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return each row's labels without those that only repeat the row above."""
    shown: list[tuple[str, ...]] = []
    above: tuple[str, ...] = ()
    for row in rows:
        pairs = zip(row.labels, above, strict=False)
        same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
        shown.append(("",) * same + row.labels[same:])
        above = row.labels
    return shown


def rows_height(rows: Sequence[Row], routes: int) -> float:
    """Return the inches that rows take."""
    return len(rows) * (routes * BAR + GAP)


def scale(panels: Sequence[Panel], wide: float, ceilings: Sequence[float] = ()) -> Scale:
    """Return an axis `wide` inches long on which every bar has room for its words.

    It is logarithmic where the metric allows it and its values spread far, and broken where a
    ceiling is too far away.
    """
    metric = panels[0].metric
    groups = [(panel.metric, group) for panel in panels for group in panel.groups()]
    ends = [(metric.end(group), metric.words(group)) for metric, group in groups]
    bars = [(end, min(len(words) * LETTER + 0.15, 0.62 * wide)) for end, words in ends if end]
    values = [v for metric, group in groups if (v := metric.value(group))]
    if not bars:
        return Scale(0, (metric.whole or 1) * 1.04)
    if metric.may_log and max(values) > LOG_SPREAD * min(values):
        low = min(values) / 1.6
        decades = max(math.log10(end / low) * wide / (wide - room) for end, room in bars)
        return Scale(low, low * 10**decades, log=True)
    longest = max(end for end, _ in bars)
    near = [c * 1.03 for c in ceilings if c <= CEILING_REACH * longest]
    needed = [end * wide / (wide - room) for end, room in bars]
    high = max(*needed, *near, (metric.whole or 0) * 1.04)
    if len(near) == len(ceilings):
        return Scale(0, high)
    return Scale(0, high / (1 - BREAK), whole=high)
