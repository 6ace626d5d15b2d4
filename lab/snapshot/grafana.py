"""Grafana's snapshot model: a dashboard that carries its data, and posting one to a Grafana.

Each panel's `snapshotData` is a list of data frames, {fields: [{name, type, config, values}]}, and
`snapshot` marks the dashboard as one. Queries and variables are taken out: there is nothing left
to ask. A frame's fields carry their own configuration, which is what Grafana shows there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from lab.errors import ServiceError
from lab.snapshot import fields
from lab.snapshot.dashboards import SILENT, Dashboard
from lab.snapshot.frames import DashboardData, PanelData, Series, Span, Table

TIMEOUT_S = 20


def model(found: Dashboard, data: DashboardData, over: Span, name: str) -> dict[str, Any]:
    """Return a dashboard as Grafana's snapshot of it; `name` is what the list of them shows."""
    whole = dict(found.model)
    whole |= {
        "id": None,
        "editable": False,
        "refresh": "",
        "title": name,
        "time": {"from": _iso(over.start), "to": _iso(over.end)},
        "templating": {"list": []},
        "links": [],
        "panels": [_panel(p, data, over) for p in found.panels],
        "annotations": {"list": [_annotation(a, data) for a in found.annotations]},
        "snapshot": {"timestamp": _iso(over.end), "originalUrl": f"/d/{found.uid}"},
    }
    return whole


def request(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of the request that stores a snapshot, to be sent now or at any time."""
    return {"dashboard": snapshot, "name": snapshot["title"], "expires": 0}


def post(url: str, body: Mapping[str, Any], password: str | None = None) -> str:
    """Store a snapshot in a Grafana and return its address; raise ServiceError where it cannot.

    The URL may carry an account; with a `password`, it is Grafana's administrator that asks.
    """
    given = httpx.URL(url)
    base = str(given.copy_with(username=None, password=None)).rstrip("/")
    account = (given.username, given.password) if given.username else None
    if account is None and password:
        account = ("admin", password)
    try:
        answer = httpx.post(
            f"{base}/api/snapshots", json=body, auth=account, timeout=TIMEOUT_S, trust_env=False
        )
    except httpx.HTTPError as error:
        raise ServiceError(
            f"grafana at {base} is not reachable: {error}; start it, or leave GRAFANA_URL out: the "
            "files are written and can be stored later"
        ) from None
    try:
        data = answer.json()
        if answer.status_code == httpx.codes.OK and (key := data.get("key")):
            return f"{base}/dashboard/snapshot/{key}"
        reason = data.get("message", "")
    except (ValueError, AttributeError):
        reason = ""
    # From 11 on it stores a snapshot only of a dashboard that it has.
    step = (
        "it has to have the dashboards first: import monitoring/grafana/dashboards/*.json there"
        if "dashboard not found" in reason.lower()
        else "give an account that may create snapshots: GRAFANA_URL=http://user:password@host:port"
    )
    raise ServiceError(
        f"grafana at {base} refused the snapshot: {answer.status_code} {reason or 'no reason'}; "
        f"{step}"
    )


def _panel(panel: Mapping[str, Any], data: DashboardData, over: Span) -> dict[str, Any]:
    whole = {n: v for n, v in panel.items() if n not in ("targets", "panels", "transformations")}
    whole |= {"targets": [], "links": [], "datasource": None}
    if panel["type"] in SILENT:
        return whole
    found = data.panels.get(panel["id"], PanelData())
    # What was transformed is in the frames already.
    return whole | {"transformations": [], "snapshotData": frames(panel, found, over)}


def frames(panel: Mapping[str, Any], data: PanelData, over: Span) -> list[dict[str, Any]]:
    """Return a panel's data as Grafana's data frames; times are in milliseconds."""
    if data.instant:
        times = [round(over.end * 1000)]
    else:
        times = [round((over.start + n * over.step) * 1000) for n in range(over.points)]
    if panel["type"] == "heatmap":
        return [_buckets(panel, data.series, times)]
    series = [_of_series(panel, s, times) for s in data.series]
    return [*series, *(_of_table(panel, t) for t in data.tables)]


def _of_series(panel: Mapping[str, Any], series: Series, times: list[int]) -> dict[str, Any]:
    there = [n for n, value in enumerate(series.values) if value is not None]
    first, last = (there[0], there[-1] + 1) if there else (0, 0)
    settings = fields.config(panel, series.name) | {"displayNameFromDS": series.name}
    value = {
        "name": "Value",
        "type": "number",
        "config": settings,
        "labels": {n: v for n, v in series.labels.items() if n != "__name__"},
        "values": list(series.values[first:last]),
    }
    return {
        "refId": series.ref_id,
        "name": series.name,
        "meta": {"type": "timeseries-multi"},
        "fields": [
            {"name": "Time", "type": "time", "config": {}, "values": times[first:last]},
            value,
        ],
    }


def _buckets(
    panel: Mapping[str, Any], series: Sequence[Series], times: list[int]
) -> dict[str, Any]:
    """Return a histogram as Grafana's heat map reads it: a field per bucket, without those below.

    Prometheus's buckets each hold all that is smaller; Grafana's data source takes that apart
    before a panel sees it, and so before a snapshot is made.
    """
    ordered = sorted(series, key=lambda s: float(s.labels.get("le", "inf")))
    fields_of: list[dict[str, Any]] = []
    below: Sequence[float | None] = [0.0] * len(times)
    for one in ordered:
        values = [
            None if v is None else max(0.0, v - (under or 0.0))
            for v, under in zip(one.values, below, strict=True)
        ]
        name = one.labels.get("le", one.name)
        fields_of.append({"name": name, "type": "number", "values": values, "labels": {"le": name},
                          "config": fields.config(panel, name)})  # fmt: skip
        below = one.values
    time = {"name": "Time", "type": "time", "config": {}, "values": times}
    ref = ordered[0].ref_id if ordered else "A"
    return {"refId": ref, "meta": {"type": "heatmap-rows"}, "fields": [time, *fields_of]}


def _of_table(panel: Mapping[str, Any], table: Table) -> dict[str, Any]:
    return {
        "refId": table.ref_id,
        "fields": [
            {
                "name": c.name,
                "type": c.kind,
                "config": fields.config(panel, c.name),
                "values": [
                    round(float(v) * 1000) if c.kind == "time" and v is not None else v
                    for v in c.values
                ],
            }
            for c in table.columns
        ],
    }


def _annotation(annotation: Mapping[str, Any], data: DashboardData) -> dict[str, Any]:
    moments = [
        {"time": round(mark.time * 1000), "title": annotation["name"], "text": mark.text,
         "tags": [], "isRegion": False}
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


def _iso(moment: float) -> str:
    return (
        datetime.fromtimestamp(moment, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
