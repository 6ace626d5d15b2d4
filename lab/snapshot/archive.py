"""`panels.json.gz`: what every panel of every dashboard showed of a run, kept at its end.

Written once, while Prometheus still answers; a snapshot made later needs no server. The
dashboards stand in it as they were, so that a later version of them changes no old run.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab.errors import ResultError
from lab.files import write_atomic
from lab.ladder import records as ladder
from lab.ladder.records import RungRecord
from lab.results import CellRecord, Run
from lab.snapshot import dashboards as pages
from lab.snapshot.dashboards import Dashboard
from lab.snapshot.evaluate import RATE_INTERVAL_S, Evaluator, span
from lab.snapshot.frames import DashboardData, Mark, PanelData, Span
from monitoring.signals import SCRAPE_INTERVAL_S

NAME = "panels.json.gz"
#: 1: first version. 2: marks have an end, None where they are a moment.
SCHEMA = 2
READ = (1, 2)
#: What rates of the ladder's generator look back over: two of its scrapes in any case, and no more,
#: since a rung may be shorter than what is right for cells.
LADDER_RATE_S = 2 * SCRAPE_INTERVAL_S["locust"] + 1
#: What a run measured one after the other, as far as dashboards are concerned.
Record = CellRecord | RungRecord


def measured(run: Run) -> tuple[list[Record], list[Dashboard]]:
    """Return what a run measured, and the dashboards that show something of it.

    The ladder's ceilings are written by other programs than the generator, under no cell's name.
    """
    found = pages.load()
    if not ladder.is_ladder(run.manifest()):
        return list(run.records()), pages.of_bench(found)
    rungs = [r for r in ladder.read(run) if r.rung not in ladder.CEILINGS]
    through = any(r.route == "pgbouncer" for r in rungs)
    return list(rungs), pages.of_ladder(found, pgbouncer=through)


def stretch(run: Run) -> tuple[float, float]:
    """Return when a run began and ended; one that was interrupted, with its last window."""
    manifest = run.manifest()
    windows = [r.window_end for r in measured(run)[0] if r.window_end is not None]
    ended = manifest.finished_at or max(windows, default=manifest.started_at + 1)
    return manifest.started_at, ended


def _warm_up_s(record: Record) -> float:
    if isinstance(record, RungRecord):
        return record.phases_s.get("warming", 0.0)
    return float(record.settings.get("WARMUP", 0))


@dataclass(frozen=True)
class Archive:
    """Dashboards, what they showed over a span, and the instant values of each cell's window."""

    over: Span
    dashboards: tuple[Dashboard, ...]
    data: Mapping[str, DashboardData]
    cells: Mapping[str, Mapping[str, DashboardData]]

    def of_cell(self, record: Record) -> Archive:
        """Return what the dashboards showed of one cell or rung: warm-up and window.

        Raises ResultError for a cell that has no window.
        """
        if record.window_start is None or record.window_end is None:
            raise ResultError(
                f"cell {record.cell_id} has no window, so there is nothing to show of it; its "
                f"reason: {'; '.join(record.reject_reasons) or 'unknown'}"
            )
        first = max(0, self.over.place(record.window_start - _warm_up_s(record)))
        last = min(self.over.points - 1, self.over.place(record.window_end))
        start = self.over.start + first * self.over.step
        grid = Span(start, start + (last - first) * self.over.step, self.over.step)
        instants = self.cells.get(record.cell_id, {})
        data = {}
        for dashboard in self.dashboards:
            shown = self.data[dashboard.uid]
            own = instants.get(dashboard.uid, DashboardData({})).panels
            models = {panel["id"]: panel for panel in dashboard.panels}
            panels = {
                n: _of_cell(models[n], whole, own.get(n), record.cell_id, (first, last))
                for n, whole in shown.panels.items()
            }
            marks = {
                name: tuple(filter(None, (mark.within(grid) for mark in marks)))
                for name, marks in shown.marks.items()
            }
            data[dashboard.uid] = DashboardData(panels, marks)
        return Archive(grid, self.dashboards, data, {})


def _of_cell(
    panel: Mapping[str, Any], whole: PanelData, own: PanelData | None, cell_id: str,
    between: tuple[int, int],
) -> PanelData:  # fmt: skip
    """Return what a panel shows of one cell.

    A panel over the whole range compares cells: of it, the cell's own rows are shown where it has
    such, and else what it showed of the cell's own window.
    """
    if not whole.instant:
        cut = (s.cut(*between) for s in whole.series)
        series = tuple(s for s in cut if any(v is not None for v in s.values))
        return replace(whole, series=series, tables=own.tables if own else whole.tables)
    if pages.over_range(panel):
        for found in (whole, own):
            rows = [t.where("cell_id", cell_id) for t in found.tables] if found else []
            if found and any(t.rows for t in rows):
                return replace(found, tables=tuple(rows))
    return own or PanelData(instant=True)


def collect(run: Run, url: str, settled: float | None = None) -> Path:
    """Ask Prometheus for everything that the dashboards show of a run, and keep it.

    At `settled` the last cell's result has been scraped; see Evaluator. Raises ServiceError where
    Prometheus does not answer and ResultError where the run has no window.
    """
    everything, found = measured(run)
    records = [r for r in everything if r.window_end is not None]
    if not records:
        raise ResultError(f"run {run.run_id} has no cell with a window")
    variables = {"run": run.run_id}
    if isinstance(records[0], RungRecord):
        variables["__rate_interval"] = f"{LADDER_RATE_S}s"
    end = max(r.window_end or 0 for r in records)
    over = span(min(r.started_at for r in records), end)
    evaluator = Evaluator(url)
    try:
        data = evaluator.evaluate(found, over, variables, at=end, settled=settled)
        cells = {r.cell_id: _instants(evaluator, found, r, variables) for r in records}
    finally:
        evaluator.close()
    path = run.folder / NAME
    write(path, Archive(over, tuple(found), data, cells))
    return path


def _instants(
    evaluator: Evaluator, found: Sequence[Dashboard], record: Record, variables: Mapping[str, str]
) -> dict[str, DashboardData]:
    """Return the instant values of one cell, at the last moment at which it ran.

    A moment later it is not the active cell any more; and a rate that looks back further than its
    own load would be of the cell before it.
    """
    start, end = record.window_start or 0, record.window_end or 0
    loaded = math.floor(end - start + _warm_up_s(record))
    own = {"__rate_interval": f"{max(1, min(RATE_INTERVAL_S, loaded))}s"}
    return evaluator.evaluate(found, span(start, end), own | dict(variables), at=end,
                              instants_only=True)  # fmt: skip


def write(path: Path, archive: Archive) -> None:
    """Write an archive; the same content gives the same bytes."""
    content = {
        "schema": SCHEMA,
        "span": [archive.over.start, archive.over.end, archive.over.step],
        "dashboards": [d.model for d in archive.dashboards],
        "data": _to_json(archive.data),
        "cells": {cell: _to_json(data) for cell, data in archive.cells.items()},
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    write_atomic(path, gzip.compress(text.encode(), 6, mtime=0))


def read(run: Run) -> Archive:
    """Read a run's archive; raise ResultError where it is missing, damaged or of another schema."""
    path = run.folder / NAME
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
    except FileNotFoundError:
        raise ResultError(
            f"run {run.run_id} has no samples of its dashboards ({NAME} is not there): it was made "
            "without monitoring, was ended early, or by an older version; measure again"
        ) from None
    except (OSError, EOFError, ValueError) as error:
        raise ResultError(f"{path} cannot be read: {error}") from None
    if content.get("schema") not in READ:
        known = ", ".join(map(str, READ))
        raise ResultError(f"{path} has schema {content.get('schema')}, this version reads {known}")
    over = Span(*content["span"])
    return Archive(
        over,
        tuple(Dashboard(model) for model in content["dashboards"]),
        _from_json(content["data"], over.points),
        {cell: _from_json(data, 1) for cell, data in content["cells"].items()},
    )


def _to_json(data: Mapping[str, DashboardData]) -> dict[str, Any]:
    return {
        uid: {
            "panels": {str(number): panel.to_json() for number, panel in found.panels.items()},
            "marks": {n: [m.to_json() for m in marks] for n, marks in found.marks.items()},
        }
        for uid, found in data.items()
    }


def _from_json(content: Mapping[str, Any], points: int) -> dict[str, DashboardData]:
    return {
        uid: DashboardData(
            {int(number): PanelData.from_json(p, points) for number, p in found["panels"].items()},
            {n: tuple(map(Mark.from_json, marks)) for n, marks in found["marks"].items()},
        )
        for uid, found in content.items()
    }
