"""A dashboard and what it showed -> the data that the page draws."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lab.snapshot import fields
from lab.snapshot.dashboards import SILENT, Dashboard
from lab.snapshot.frames import DashboardData, PanelData, Series, Span, Table

#: Where a link leads inside Grafana.
_PAGE = re.compile(r"/d/([\w-]+)")


def dashboard(found: Dashboard, data: DashboardData, over: Span) -> dict[str, Any]:
    """Return one dashboard with its data, as the page's script reads it."""
    return {
        "uid": found.uid,
        "title": found.title,
        "text": found.model.get("description") or "",
        "grid": [over.start, over.step, over.points],
        "panels": [_panel(p, data.panels.get(p["id"], PanelData())) for p in found.panels],
        "marks": [
            {
                "name": note["name"],
                "color": note.get("iconColor") or "gray",
                "at": [mark.time for mark in data.marks.get(note["name"], ())],
                "end": [mark.end for mark in data.marks.get(note["name"], ())],
                "text": [mark.text for mark in data.marks.get(note["name"], ())],
            }
            for note in found.annotations
        ],
    }


def coarser(data: DashboardData, over: Span, factor: int) -> tuple[DashboardData, Span]:
    """Return the data with every `factor` neighbouring values put together as their mean."""
    if factor <= 1:
        return data, over
    step = over.step * factor
    points = math.ceil(over.points / factor)
    grid = Span(over.start, over.start + (points - 1) * step, step)

    def mean(values: Sequence[float | None]) -> float | None:
        there = [v for v in values if v is not None]
        return float(f"{sum(there) / len(there):.5g}") if there else None

    def one(series: Series) -> Series:
        cuts = range(0, len(series.values), factor)
        return replace(series, values=tuple(mean(series.values[at : at + factor]) for at in cuts))

    panels = {
        number: panel if panel.instant else replace(panel, series=tuple(map(one, panel.series)))
        for number, panel in data.panels.items()
    }
    return DashboardData(panels, data.marks), grid


def _panel(panel: Mapping[str, Any], data: PanelData) -> dict[str, Any]:
    place = panel["gridPos"]
    found: dict[str, Any] = {
        "id": panel["id"],
        "type": panel["type"],
        "title": panel.get("title") or "",
        "at": [place["x"], place["y"], place["w"], place["h"]],
    }
    if text := panel.get("description"):
        found["text"] = text
    if more := _led_to(panel):
        found["more"] = more
    if panel["type"] in SILENT:
        if content := (panel.get("options") or {}).get("content"):
            found["content"] = content
        if panel.get("collapsed"):
            found["folded"] = True
        return found
    found["config"] = fields.shown(fields.defaults(panel))
    found["options"] = _options(panel)
    found["series"] = [_series(panel, s) for s in data.series]
    found["tables"] = [_table(panel, t) for t in data.tables]
    if data.instant:
        found["instant"] = True
    if data.error:
        found["error"] = data.error
    return found


def _led_to(panel: Mapping[str, Any]) -> list[str]:
    """Return the dashboards that a panel's links lead to, by uid."""
    urls = (str(link.get("url") or "") for link in panel.get("links") or ())
    return list(dict.fromkeys(found[1] for url in urls if (found := _PAGE.match(url))))


def _options(panel: Mapping[str, Any]) -> dict[str, Any]:
    options = panel.get("options") or {}
    reduced = options.get("reduceOptions") or {}
    names = ("colorMode", "graphMode", "textMode", "sortBy")
    kept = {n: options[n] for n in names if options.get(n)}
    if (options.get("legend") or {}).get("showLegend") is False:
        kept["legend"] = False
    return kept | {"calc": (reduced.get("calcs") or ["lastNotNull"])[0]}


def _series(panel: Mapping[str, Any], series: Series) -> dict[str, Any]:
    found = series.to_json()
    del found["ref"]
    if panel["type"] != "heatmap":
        del found["labels"]
    return found | _own(panel, series.name)


def _table(panel: Mapping[str, Any], table: Table) -> list[dict[str, Any]]:
    columns = table.to_json()["columns"]
    return [column | _own(panel, column["name"]) for column in columns]


def _own(panel: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what the overrides change for one field, where they do."""
    own = fields.shown(fields.overrides(panel, name))
    return {"config": own} if own else {}
