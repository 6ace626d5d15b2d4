"""Grafana's snapshot model: a dashboard that carries its data.

Since Grafana 11 a panel's data and marks are the answer inside its own query, of the type
`snapshot`. Older ones read `snapshotData`, of panels and of annotations. One model cannot be both:
where a panel has `snapshotData`, a newer Grafana puts that in place of the query, without its
marks. Other queries and variables are taken out: there is nothing left to ask.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lab.snapshot import grafana_frames
from lab.snapshot.dashboards import SILENT, Dashboard
from lab.snapshot.frames import DashboardData, PanelData, Span

#: The first release that reads the answer inside a query; earlier ones read `snapshotData`.
QUERIES_SINCE = 11
#: Grafana's own data source, which answers a query of the type `snapshot` with what is in it.
OWN = {"type": "grafana", "uid": "grafana"}
#: The panels that draw marks.
MARKED = frozenset({"timeseries", "heatmap"})

_PAGE = re.compile(r"^/d/([\w-]+)")


def model(
    found: Dashboard,
    data: DashboardData,
    over: Span,
    name: str,
    pages: Mapping[str, tuple[str, str]] | None = None,
    *,
    release: int = QUERIES_SINCE,
) -> dict[str, Any]:
    """Return a dashboard as Grafana's snapshot of it; `name` is what the list of them shows.

    `pages` are the snapshots that its links can lead to: title and address by uid. Links to others
    are left out, since those show something else or are not there.
    """
    pages = pages or {}
    notes = found.annotations
    whole = dict(found.model)
    whole |= {
        "id": None,
        "editable": False,
        "refresh": "",
        "title": name,
        "time": {"from": _iso(over.start), "to": _iso(over.end)},
        "templating": {"list": []},
        "links": [_link(t, at) for uid, (t, at) in pages.items() if uid != found.uid],
        "panels": [_panel(p, data, over, notes, pages, release) for p in found.panels],
        "annotations": {"list": [_annotation(a, data) for a in notes]},
        "snapshot": {"timestamp": _iso(over.end), "originalUrl": f"/d/{found.uid}"},
    }
    return whole


def request(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of the request that stores a snapshot, to be sent now or at any time."""
    return {"dashboard": snapshot, "name": snapshot["title"], "expires": 0}


def _panel(
    panel: Mapping[str, Any], data: DashboardData, over: Span, notes: list[dict[str, Any]],
    pages: Mapping[str, tuple[str, str]], release: int,
) -> dict[str, Any]:  # fmt: skip
    left_out = ("targets", "panels", "transformations")
    panel = _without_field_links(panel)
    whole = {n: v for n, v in panel.items() if n not in left_out}
    whole |= {"targets": [], "links": _links(panel, pages), "datasource": None}
    if panel["type"] in SILENT:
        return whole
    shown = data.panels.get(panel["id"], PanelData())
    frames = grafana_frames.frames(panel, shown, over)
    whole["transformations"] = []  # what was transformed is in the frames already
    if release < QUERIES_SINCE:
        return whole | {"snapshotData": frames}
    if panel["type"] in MARKED:
        frames += _marks(notes, data)
    query = {"refId": "A", "datasource": OWN, "queryType": "snapshot",
             "snapshot": grafana_frames.as_answers(frames)}  # fmt: skip
    return whole | {"datasource": OWN, "targets": [query]}


def _without_field_links(panel: Mapping[str, Any]) -> dict[str, Any]:
    """Return a panel whose fields lead nowhere: their links are to panels of a live Grafana."""
    config = panel.get("fieldConfig") or {}
    defaults = {n: v for n, v in (config.get("defaults") or {}).items() if n != "links"}
    overrides = [
        one | {"properties": [item for item in one["properties"] if item["id"] != "links"]}
        for one in config.get("overrides") or ()
    ]
    return dict(panel) | {"fieldConfig": {"defaults": defaults, "overrides": overrides}}


def _marks(notes: list[dict[str, Any]], data: DashboardData) -> list[grafana_frames.Frame]:
    return [
        grafana_frames.marks(note["name"], _color(note), found)
        for note in notes
        if (found := data.marks.get(note["name"], ()))
    ]


def _links(panel: Mapping[str, Any], pages: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """Return a panel's links to pages as links to their snapshots; others lead where they led."""
    found = []
    for link in panel.get("links") or ():
        page = _PAGE.match(link.get("url") or "")
        if page is None:
            found.append(link)
        elif page[1] in pages:
            found.append(link | {"url": pages[page[1]][1], "targetBlank": True})
    return found


def _link(title: str, address: str) -> dict[str, Any]:
    """Return a link that opens in a tab of its own.

    Inside one tab, Grafana (12.2) goes from snapshot to snapshot by changing the address alone.
    """
    return {
        "title": title,
        "type": "link",
        "icon": "",
        "tooltip": "",
        "tags": [],
        "asDropdown": False,
        "targetBlank": True,
        "includeVars": False,
        "keepTime": True,
        "url": address,
    }


def _annotation(annotation: Mapping[str, Any], data: DashboardData) -> dict[str, Any]:
    moments = [
        {"time": grafana_frames.milliseconds(mark.time), "title": annotation["name"],
         "text": mark.text, "tags": [], "isRegion": mark.end is not None}
        | ({} if mark.end is None else {"timeEnd": grafana_frames.milliseconds(mark.end)})
        for mark in data.marks.get(annotation["name"], ())
    ]  # fmt: skip
    return {
        "name": annotation["name"],
        "enable": True,
        "hide": False,
        "iconColor": annotation.get("iconColor"),
        "type": "dashboard",
        "snapshotData": moments,
    }


def _color(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("iconColor") or "gray")


def _iso(moment: float) -> str:
    return (
        datetime.fromtimestamp(moment, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
