"""The three transformations that the dashboards use, on tables, with Grafana's meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lab.errors import ConfigError
from lab.snapshot.frames import Cell, Column, PanelData, Series, Table

TIME = "Time"


def apply(data: PanelData, transformations: Iterable[Mapping[str, Any]]) -> PanelData:
    """Return the panel's data after its transformations, in their order.

    Raises ConfigError for a transformation that is none of the three.
    """
    series, tables = list(data.series), list(data.tables)
    for transformation in transformations:
        if transformation.get("disabled"):
            continue
        options = transformation.get("options") or {}
        match transformation["id"]:
            case "merge":
                tables = [merged([*map(_plain, series), *tables])]
            case "labelsToFields":
                tables = [merged([*(labels_to_fields(s, options) for s in series), *tables])]
            case "organize":
                tables = [organized(table, options) for table in [*map(_plain, series), *tables]]
            case other:
                raise ConfigError(
                    f"transformation {other!r} of a panel is not known here; known: merge, "
                    "labelsToFields, organize"
                )
        series = []
    return PanelData(tuple(series), tuple(tables), data.instant, data.error)


def table_of(found: Sequence[Mapping[str, Any]], ref_id: str, value: str, read: Any) -> Table:
    """Return an instant vector as a table: time, every label, the value."""
    names = sorted({name for item in found for name in item["metric"]})
    times = tuple(float(item["value"][0]) for item in found)
    labels = (
        Column(n, "string", tuple(item["metric"].get(n, "") for item in found)) for n in names
    )
    values = tuple(read(item["value"][1]) for item in found)
    return Table(ref_id, (Column(TIME, "time", times), *labels, Column(value, "number", values)))


def labels_to_fields(series: Series, options: Mapping[str, Any]) -> Table:
    """Return one series as a row: a column for each label, and its last value.

    `valueLabel` names the label whose value becomes the name of the value's column.
    """
    value_label = options.get("valueLabel")
    kept = options.get("keepLabels")
    labels = {n: v for n, v in series.labels.items() if n != "__name__" and n != value_label}
    if kept:
        labels = {n: v for n, v in labels.items() if n in kept}
    name = series.labels.get(value_label or "") or series.name
    columns = [Column(n, "string", (v,)) for n, v in labels.items()]
    return Table(series.ref_id, (*columns, Column(name, "number", (_last(series),))))


def merged(tables: Sequence[Table]) -> Table:
    """Return one table of all: rows that agree in every shared column become one row."""
    names: dict[str, str] = {}
    seen: dict[str, int] = {}
    for table in tables:
        for column in table.columns:
            names.setdefault(column.name, column.kind)
            seen[column.name] = seen.get(column.name, 0) + 1
    shared = [n for n, kind in names.items() if seen[n] > 1 and kind != "number"]
    rows: dict[tuple[Cell, ...], list[dict[str, Cell]]] = {}
    for table in tables:
        for row in _rows(table):
            candidates = rows.setdefault(tuple(row.get(n) for n in shared), [])
            for other in candidates:
                if all(other.get(n, row[n]) == row[n] for n in row):
                    other.update(row)
                    break
            else:
                candidates.append(dict(row))
    flat = [row for group in rows.values() for row in group]
    columns = (Column(n, kind, tuple(r.get(n) for r in flat)) for n, kind in names.items())
    return Table(tables[0].ref_id if tables else "A", tuple(columns))


def organized(table: Table, options: Mapping[str, Any]) -> Table:
    """Return the table without excluded columns, in the order and with the names asked for."""
    excluded = options.get("excludeByName") or {}
    order = options.get("indexByName") or {}
    names = options.get("renameByName") or {}
    kept = [c for c in table.columns if not excluded.get(c.name)]
    kept.sort(key=lambda c: order.get(c.name, len(order) + 1000))
    columns = (Column(names.get(c.name) or c.name, c.kind, c.values) for c in kept)
    return Table(table.ref_id, tuple(columns))


def _plain(series: Series) -> Table:
    return Table(series.ref_id, (Column(series.name, "number", (_last(series),)),))


def _last(series: Series) -> float | None:
    return next((v for v in reversed(series.values) if v is not None), None)


def _rows(table: Table) -> Iterable[dict[str, Cell]]:
    return (
        {column.name: column.values[place] for column in table.columns}
        for place in range(table.rows)
    )
