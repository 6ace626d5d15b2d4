"""`report.html`: the whole run in one file, for a browser without network."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import page
from lab.report import web_panels, web_tables, wording
from lab.report.groups import View
from lab.report.web_tables import Table
from lab.results import CellRecord, Run

HERE = Path(__file__).parent


@dataclass(frozen=True)
class CellView:
    """One cell as the report shows it: its record, its charts by key, and its tables."""

    record: CellRecord
    charts: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    command: str


def render(run: Run, view: View) -> str:
    """Return the report of a run."""
    m = view.manifest
    panels: dict[str, Any] = {}

    def keep(prefix: str, found: list[web_panels.Panel]) -> list[str]:
        keys = [f"{prefix}{n}" for n in range(len(found))]
        panels.update(zip(keys, found, strict=True))
        return keys

    overview = keep("o", web_panels.bars(view, web_panels.OVERVIEW))
    along = keep("a", web_panels.along(view))
    inside = keep("i", web_panels.bars(view, web_panels.INSIDE))
    cells = [
        CellView(record, tuple(keep(f"c{n}-", web_panels.windows(run, record))), figures(record),
                 again(view, record))
        for n, record in enumerate(view.records)
    ]  # fmt: skip
    return page.render(
        "report.html.j2",
        f"run {m.run_id}",
        {"name": m.run_id, "panels": panels},
        facts=facts(view),
        folder=HERE,
        view=view,
        m=m,
        wording=wording,
        tables=tables(view),
        overview=overview,
        along=along,
        inside=inside,
        cells=cells,
        headlines=headlines(view),
        missing=missing(view),
    )


def facts(view: View) -> list[str]:
    """Return what holds for the whole run, in short."""
    m = view.manifest
    found = [wording.moment(m.started_at)]
    if m.finished_at:
        found.append(wording.duration(m.finished_at - m.started_at))
    return [*found, f"stack {m.stack}", wording.hardware(m), *wording.constants(view)]


def headlines(view: View) -> list[tuple[str, str, str]]:
    """Return (what, figure, whose) of what one asks first."""
    found = [("cells accepted", f"{len(view.records) - len(view.rejected)} of "
              f"{len(view.manifest.cells)}", _lost(view))]  # fmt: skip
    measured = [(g, g.mean("rps"), g.mean("p95_ms")) for g in view.groups if g.accepted]
    fastest = max((x for x in measured if x[1] is not None), key=lambda x: x[1] or 0, default=None)
    if fastest:
        found.append(("most requests per second", wording.number(fastest[1] or 0),
                      _whose(view, fastest[0])))  # fmt: skip
    quick = min((x for x in measured if x[2] is not None), key=lambda x: x[2] or 0, default=None)
    if quick:
        found.append(("lowest P95", f"{wording.number(quick[2] or 0)} ms", _whose(view, quick[0])))
    ratios = [r.value for c in view.changes() if (r := c.ratios["rps"]) is not None]
    if ratios:
        low, high = f"{min(ratios):.2f}x", f"{max(ratios):.2f}x"
        found.append(("PgBouncer over direct, requests/s",
                      low if low == high else f"{low} to {high}",
                      f"{len(ratios)} combinations"))  # fmt: skip
    return found


def tables(view: View) -> dict[str, Table]:
    """Return every table by the name that the template knows it by."""
    m = view.manifest
    host = {n: f"{v / 2**30:.1f} GiB" if n == "memory_bytes" else v for n, v in m.host.items()}
    return {
        "matrix": web_tables.matrix(view),
        "changes": web_tables.changes(view),
        "ceilings": web_tables.ceilings(view),
        "latency": web_tables.latency(view),
        "processors": web_tables.processors(view),
        "host": web_tables.pairs("Hardware", ("what", "value"), host),
        "versions": web_tables.pairs("Versions", ("program", "version"), dict(m.versions)),
        "settings": web_tables.pairs("Settings", ("toggle", "value"), dict(m.settings)),
    }


def figures(record: CellRecord) -> tuple[tuple[str, str], ...]:
    """Return the figures that stand above a cell's charts."""
    m = record.measurement
    if m is None:
        return ()
    direct = record.route == "direct"
    found = [
        ("RPS", wording.number(m.rps)),
        *((name, wording.MISSING if (v := getattr(m, field)) is None else text(v))
          for name, field, text in web_tables.MEASURED
          if not (direct and field.startswith("pgbouncer"))),
        ("load generator", wording.MISSING if m.generator_cpu is None
         else wording.percent(m.generator_cpu)),
        ("steal", wording.MISSING if m.steal is None else wording.percent(m.steal)),
    ]  # fmt: skip
    return tuple(found)


def again(view: View, record: CellRecord) -> str:
    """Return the command that measures a cell's combination again."""
    m = view.manifest
    axes = {**m.overrides, **{n: wording.value(v) for n, v in record.axes.items()}}
    words = [f"{name}={value}" for name, value in axes.items() if name != "REPETITIONS"]
    return shlex.join(["make", "bench", f"PRESET={m.preset}", *words])


def missing(view: View) -> Table:
    """Return each value that could not be measured, why, and in how many cells."""
    found: dict[tuple[str, str], int] = {}
    for record in view.records:
        for name, reason in (record.measurement.missing if record.measurement else {}).items():
            found[name, reason] = found.get((name, reason), 0) + 1
    rows = [
        [web_tables.Cell(name), web_tables.Cell(reason), web_tables.Cell(str(count), count)]
        for (name, reason), count in sorted(found.items())
    ]
    return Table("Values that could not be measured", ("value", "reason", "cells"), rows, 2)


def _lost(view: View) -> str:
    parts = []
    if view.rejected:
        parts.append(f"{len(view.rejected)} rejected")
    if view.not_measured:
        parts.append(f"{len(view.not_measured)} not measured")
    return ", ".join(parts) or "none rejected"


def _whose(view: View, group: Any) -> str:
    words = [wording.framework(group.axes["FRAMEWORK"]), wording.value(group.axes["ROUTE"])]
    return ", ".join([*words, *_rest(view, group)])


def _rest(view: View, group: Any) -> list[str]:
    users = [f"{group.axes['USERS']:,} users"] if len(view.levels["USERS"]) > 1 else []
    return [*users, *(f"{wording.toggle(n)} {wording.value(v)}" for n, v in view.labelled(group))]
