"""Repetitions of a combination brought together; rejected cells are counted, never averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lab.report.summary import axis_value
from lab.results import CeilingRecord, CellRecord, Manifest
from lab.stats import Estimate, mean_ci, paired_ratio

MAIN_AXES = ("FRAMEWORK", "ROUTE", "USERS")
USUAL_ORDER: dict[str, tuple[Any, ...]] = {
    "FRAMEWORK": ("fastapi", "django", "flask"),
    "ROUTE": ("direct", "pgbouncer"),
}


@dataclass(frozen=True)
class Group:
    """All cells of one combination of axis values."""

    axes: dict[str, Any]
    accepted: tuple[CellRecord, ...]
    rejected: tuple[CellRecord, ...]
    seed: int = 0
    _known: dict[str, Estimate | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def status(self) -> str:
        """Accepted, rejected, or how many of the repetitions were rejected."""
        if not self.rejected:
            return "accepted"
        if not self.accepted:
            return "rejected"
        return f"{len(self.rejected)} of {len(self.accepted) + len(self.rejected)} rejected"

    def estimate(self, name: str) -> Estimate | None:
        """Return a measured field's mean over the accepted cells; None where none has it."""
        if name not in self._known:
            values = list(values_of(self.accepted, name).values())
            self._known[name] = mean_ci(values, seed=self.seed) if values else None
        return self._known[name]

    def mean(self, name: str) -> float | None:
        """Return the mean over the accepted cells alone, which costs no bootstrap."""
        return _mean(values_of(self.accepted, name))

    def rejected_mean(self, name: str) -> float | None:
        """Return what the rejected cells read, to be shown as such; None where nothing."""
        return _mean(values_of(self.rejected, name))

    def reading(self, name: str) -> float | None:
        """Return what is shown, not reckoned with: of rejected cells where none was accepted."""
        return self.mean(name) if self.accepted else self.rejected_mean(name)

    @property
    def measured(self) -> bool:
        """Whether there is any figure to show, be it of rejected cells."""
        return any(r.measurement is not None for r in (*self.accepted, *self.rejected))


@dataclass(frozen=True)
class Change:
    """What PgBouncer changed for one combination: pgbouncer over direct."""

    direct: Group
    pgbouncer: Group
    ratios: dict[str, Estimate | None]


@dataclass(frozen=True)
class View:
    """A run as the report sees it: manifest, records in order of their axes, and groups."""

    manifest: Manifest
    records: tuple[CellRecord, ...]
    other_axes: tuple[str, ...]
    levels: dict[str, tuple[Any, ...]]
    groups: tuple[Group, ...]

    @property
    def varying(self) -> tuple[str, ...]:
        """Axes beside framework, route and users that have more than one level."""
        return tuple(name for name in self.other_axes if len(self.levels[name]) > 1)

    @property
    def limits_enforced(self) -> bool:
        """Whether every cell ran under its limits."""
        return self.manifest.limits is not None and all(r.limits_enforced for r in self.records)

    @property
    def rejected(self) -> tuple[CellRecord, ...]:
        """The rejected cells."""
        return tuple(r for r in self.records if r.status == "rejected")

    @property
    def not_measured(self) -> tuple[str, ...]:
        """Planned cells without a record."""
        there = {record.cell_id for record in self.records}
        return tuple(cell for cell in self.manifest.cells if cell not in there)

    @cached_property
    def repetitions(self) -> tuple[int, int]:
        """Fewest and most accepted repetitions of a combination that has any."""
        counts = [len(g.accepted) for g in self.groups if g.accepted]
        return (min(counts), max(counts)) if counts else (0, 0)

    def labelled(self, group: Group) -> tuple[tuple[str, Any], ...]:
        """Return the group's values on the varying axes."""
        return tuple((name, group.axes[name]) for name in self.varying)

    def scenario(self, group: Group) -> str:
        """Return what the requests of a group did."""
        known = self.manifest.settings.get("SCENARIO", "db-test")
        return str(group.axes.get("SCENARIO", known))

    def ceilings(self) -> list[CeilingRecord]:
        """Return the best known ceiling of each scenario, route and protocol."""
        best: dict[tuple[str, str, str], CeilingRecord] = {}
        for ceiling in self.manifest.ceilings:
            key = ceiling.scenario, ceiling.route, ceiling.protocol
            kept = best.get(key)
            if ceiling.tps and (kept is None or ceiling.tps > (kept.tps or 0)):
                best[key] = ceiling
        return [best[key] for key in sorted(best)]

    def changes(self) -> list[Change]:
        """Return what PgBouncer changed wherever both routes were measured."""
        pairs: dict[tuple[Any, ...], dict[str, Group]] = {}
        for group in self.groups:
            key = tuple(v for name, v in group.axes.items() if name != "ROUTE")
            pairs.setdefault(key, {})[group.axes["ROUTE"]] = group
        return [
            Change(pair["direct"], pair["pgbouncer"], _ratios(pair["direct"], pair["pgbouncer"]))
            for pair in pairs.values()
            if {"direct", "pgbouncer"} <= set(pair)
        ]


def view(manifest: Manifest, records: Sequence[CellRecord]) -> View:
    """Group the records by their axes; pure, and the same for any order of the records."""
    names = dict.fromkeys([*manifest.axes, *(n for r in records for n in sorted(r.axes))])
    others = tuple(name for name in names if name not in MAIN_AXES)
    valued = [(_axes(record, others), record) for record in records]
    levels = {
        name: _levels(name, manifest, [axes[name] for axes, _ in valued])
        for name in (*MAIN_AXES, *others)
    }

    def place(item: tuple[dict[str, Any], CellRecord]) -> tuple[Any, ...]:
        axes, record = item
        return (*(levels[n].index(v) for n, v in axes.items()), record.repetition, record.cell_id)

    groups: dict[tuple[Any, ...], tuple[dict[str, Any], list[CellRecord]]] = {}
    valued.sort(key=place)
    for axes, record in valued:
        groups.setdefault(tuple(axes.values()), (axes, []))[1].append(record)
    return View(
        manifest,
        tuple(record for _, record in valued),
        others,
        levels,
        tuple(_group(axes, found, manifest.seed) for axes, found in groups.values()),
    )


def values_of(records: Sequence[CellRecord], name: str) -> dict[int, float]:
    """Return a measured field by repetition; what is missing or no finite number is left out."""
    found = {r.repetition: getattr(r.measurement, name, None) for r in records}
    return {n: float(v) for n, v in found.items() if v is not None and math.isfinite(v)}


def _mean(values: Mapping[int, float]) -> float | None:
    return sum(values.values()) / len(values) if values else None


def _ratios(direct: Group, pgbouncer: Group) -> dict[str, Estimate | None]:
    """Return pgbouncer over direct, paired by repetition: those were measured close together."""
    ratios: dict[str, Estimate | None] = {}
    for name in ("rps", "p95_ms"):
        below = values_of(direct.accepted, name)
        above = values_of(pgbouncer.accepted, name)
        both = [r for r in below if below[r] > 0 and r in above]
        ratios[name] = (
            paired_ratio([above[r] for r in both], [below[r] for r in both], seed=direct.seed)
            if both
            else None
        )
    return ratios


def _group(axes: dict[str, Any], records: Sequence[CellRecord], seed: int) -> Group:
    return Group(
        axes,
        tuple(r for r in records if r.status == "accepted"),
        tuple(r for r in records if r.status == "rejected"),
        seed,
    )


def _axes(record: CellRecord, others: Sequence[str]) -> dict[str, Any]:
    main = {"FRAMEWORK": record.framework, "ROUTE": record.route, "USERS": record.users}
    return main | {name: axis_value(record, name) for name in others}


def _levels(name: str, manifest: Manifest, present: Sequence[Any]) -> tuple[Any, ...]:
    """Return the levels that were measured: numbers ascending, else in the preset's order."""
    found = list(dict.fromkeys(present))
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in found):
        return tuple(sorted(found))
    order = [*USUAL_ORDER.get(name, ()), *manifest.axes.get(name, ())]
    known = [v for v in dict.fromkeys(order) if v in found]
    return (*known, *sorted((v for v in found if v not in known), key=str))
