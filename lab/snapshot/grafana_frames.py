"""What panels showed, as Grafana's data frames.

A frame is {refId, name, meta, fields: [{name, type, config, labels, values}]}, with times in
milliseconds; a field carries its own configuration, which is what Grafana shows in a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lab.snapshot import fields
from lab.snapshot.frames import Mark, PanelData, Series, Span, Table

#: What a query's answer has to say of itself, for its frame to be drawn as marks and not as data.
TOPIC = {"dataTopic": "annotations"}

Frame = dict[str, Any]


def frames(panel: Mapping[str, Any], data: PanelData, over: Span) -> list[Frame]:
    """Return a panel's data as Grafana's data frames."""
    time = _time(over, instant=data.instant)
    if panel["type"] == "heatmap":
        # A histogram without buckets is no data, and none that Grafana could draw.
        return [_buckets(panel, data.series, time)] if data.series else []
    series = [_of_series(panel, s, time, instant=data.instant) for s in data.series]
    return [*series, *(_of_table(panel, t) for t in data.tables)]


def marks(name: str, color: str, found: Sequence[Mark]) -> Frame:
    """Return one annotation's marks, with the fields that Grafana's own annotations have."""
    columns: dict[str, tuple[str, list[Any]]] = {
        "time": ("time", [milliseconds(m.time) for m in found]),
        "timeEnd": ("time", [None if m.end is None else milliseconds(m.end) for m in found]),
        "isRegion": ("boolean", [m.end is not None for m in found]),
        "title": ("string", [name for _ in found]),
        "text": ("string", [m.text for m in found]),
        "tags": ("other", [[] for _ in found]),
        "color": ("string", [color for _ in found]),
    }
    return {
        "refId": name,
        "name": name,
        "meta": TOPIC,
        "fields": [
            {"name": n, "type": kind, "config": {}, "values": values}
            for n, (kind, values) in columns.items()
        ],
    }


def as_answers(found: Iterable[Frame]) -> list[dict[str, Any]]:
    """Return frames in the form of a query's answer: what they are, and apart from it the values.

    Grafana calls it DataFrameJSON; a frame that holds its values itself is the form before it.
    """
    return [
        {
            "schema": {n: v for n, v in frame.items() if n != "fields"}
            | {"fields": [{n: v for n, v in f.items() if n != "values"} for f in frame["fields"]]},
            "data": {"values": [field["values"] for field in frame["fields"]]},
        }
        for frame in found
    ]


def milliseconds(moment: float) -> int:
    """Return a moment as Grafana counts it."""
    return round(moment * 1000)


def _time(over: Span, *, instant: bool) -> dict[str, Any]:
    """Return the field of times.

    Its interval tells Grafana what a gap is; without one it draws a stack's lines across.
    """
    if instant:
        config, moments = {}, [milliseconds(over.end)]
    else:
        config = {"interval": milliseconds(over.step)}
        moments = [milliseconds(over.start + n * over.step) for n in range(over.points)]
    return {"name": "Time", "type": "time", "config": config, "values": moments}


def _of_series(
    panel: Mapping[str, Any], series: Series, time: Mapping[str, Any], *, instant: bool
) -> Frame:
    """Return one series over the whole grid.

    What is missing before its first value is null as well: of series that begin at other times
    Grafana would make one grid, and draw a ramp in a stack to the first value.
    """
    value = {
        "name": "Value",
        "type": "number",
        "config": fields.config(panel, series.name) | {"displayNameFromDS": series.name},
        "labels": {n: v for n, v in series.labels.items() if n != "__name__"},
        "values": list(series.values),
    }
    kind = "numeric-multi" if instant else "timeseries-multi"
    return {
        "refId": series.ref_id,
        "name": series.name,
        "meta": {"type": kind},
        "fields": [time, value],
    }


def _buckets(panel: Mapping[str, Any], series: Sequence[Series], time: Mapping[str, Any]) -> Frame:
    """Return a histogram as Grafana's heat map reads it: a field per bucket, without those below.

    Prometheus's buckets each hold all that is smaller; Grafana's data source takes that apart
    before a panel sees it, and so before a snapshot is made.
    """
    ordered = sorted(series, key=lambda s: float(s.labels.get("le", "inf")))
    fields_of: list[dict[str, Any]] = []
    below: Sequence[float | None] = [0.0] * len(time["values"])
    for one in ordered:
        values = [
            None if v is None else max(0.0, v - (under or 0.0))
            for v, under in zip(one.values, below, strict=True)
        ]
        name = one.labels.get("le", one.name)
        # By name and label together it would be written "0.1 0.1", and without the unit.
        config = fields.config(panel, name) | {"displayNameFromDS": name}
        fields_of.append({"name": name, "type": "number", "values": values, "labels": {"le": name},
                          "config": config})  # fmt: skip
        below = one.values
    kind = {"type": "heatmap-rows"}
    return {"refId": ordered[0].ref_id, "meta": kind, "fields": [time, *fields_of]}


def _of_table(panel: Mapping[str, Any], table: Table) -> Frame:
    return {
        "refId": table.ref_id,
        "fields": [
            {
                "name": c.name,
                "type": c.kind,
                "config": fields.config(panel, c.name),
                "values": [
                    milliseconds(float(v)) if c.kind == "time" and v is not None else v
                    for v in c.values
                ],
            }
            for c in table.columns
        ],
    }
