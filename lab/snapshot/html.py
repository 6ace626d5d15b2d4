"""Dashboards with their data -> one HTML file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lab import page
from lab.ladder import records as ladder
from lab.report import wording
from lab.results import Manifest
from lab.snapshot import view
from lab.snapshot.archive import Archive, Record
from lab.snapshot.frames import DIGITS

#: Bytes of data in one file; with style and script it stays below 3 MB.
MOST_BYTES = 2_600_000


def render(archive: Archive, manifest: Manifest, cell: Record | None, uids: Sequence[str]) -> str:
    """Return the page of a run's dashboards, or of one cell's."""
    dashboards, step = fitting(archive, uids)
    title = f"run {manifest.run_id}" if cell is None else f"cell {cell.cell_id}"
    data = {"name": title, "dashboards": dashboards}
    notes = [
        f"Values are rounded to {DIGITS} digits; one point stands for {step:g} s"
        + ("." if step == archive.over.step else ", the mean of what was sampled in them.")
        + " Times are UTC. Drag over a chart to look closer, double-click to go back."
    ]
    facts = [
        wording.moment(archive.over.start),
        wording.duration(archive.over.end - archive.over.start),
        f"preset {manifest.preset}",
        wording.hardware(manifest),
        ladder.cpu_limit(manifest) if ladder.is_ladder(manifest) else wording.limits(manifest),
        manifest.command,
    ]
    if cell is not None:
        facts.insert(0, f"run {manifest.run_id}, {cell.status}")
    return page.render("dashboards.html.j2", title, data, facts=facts, notes=notes)


def fitting(archive: Archive, uids: Sequence[str]) -> tuple[list[dict[str, Any]], float]:
    """Return the dashboards' data for the page, coarser where it would be too much."""
    factor = 1
    while True:
        found = []
        step = archive.over.step
        for dashboard in archive.dashboards:
            if dashboard.uid in uids:
                data, over = view.coarser(archive.data[dashboard.uid], archive.over, factor)
                found.append(view.dashboard(dashboard, data, over))
                step = over.step
        size = len(json.dumps(found, separators=(",", ":")))
        if size <= MOST_BYTES or factor >= archive.over.points:
            return found, step
        factor = max(factor + 1, round(factor * size / MOST_BYTES))
