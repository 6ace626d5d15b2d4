"""Records to `summary.csv`: one row per cell, accepted or rejected."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from lab.results import CellRecord

#: Columns before and after those of the other axes.
IDENTITY = ("cell_id", "status", "reject_reason", "framework", "route", "users", "repetition")
#: Measured columns and their decimals; milliseconds to 10 us, ratios (0 to 1) to 0.01%.
MEASURED: dict[str, int] = {
    "window_s": 3,
    "requests": 0,
    "rps": 2,
    "mean_ms": 2,
    "p50_ms": 2,
    "p95_ms": 2,
    "p99_ms": 2,
    "error_rate": 6,
    "new_connections_per_request": 6,
    "pool_wait_ms": 3,
    "pgbouncer_wait_ms": 3,
    "db_cpu": 4,
    "app_cpu": 4,
    "pgbouncer_cpu": 4,
    "generator_cpu": 4,
    "db_throttled": 4,
}


def columns(other_axes: Sequence[str]) -> list[str]:
    """Return the header of `summary.csv`."""
    return [*IDENTITY, *(name.lower() for name in other_axes), *MEASURED, "verdict"]


def rows(records: Sequence[CellRecord], other_axes: Sequence[str]) -> list[dict[str, str]]:
    """Return one row of text per record, in the order given; a missing value is empty."""
    return [_row(record, other_axes) for record in records]


def to_csv(records: Sequence[CellRecord], other_axes: Sequence[str]) -> str:
    """Return the whole of `summary.csv`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(other_axes), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(records, other_axes))
    return text.getvalue()


def axis_value(record: CellRecord, name: str) -> Any:
    """Return the value a cell had on an axis, from its settings where a variant leaves it out."""
    return record.axes.get(name, record.settings.get(name))


def _row(record: CellRecord, other_axes: Sequence[str]) -> dict[str, str]:
    row = {
        "cell_id": record.cell_id,
        "status": record.status,
        "reject_reason": "; ".join(" ".join(r.split()) for r in record.reject_reasons),
        "framework": record.framework,
        "route": record.route,
        "users": str(record.users),
        "repetition": str(record.repetition),
        "verdict": record.verdict or "",
    }
    row |= {name.lower(): _plain(axis_value(record, name)) for name in other_axes}
    for name, decimals in MEASURED.items():
        row[name] = _fixed(getattr(record.measurement, name, None), decimals)
    return row


def _fixed(value: float | None, decimals: int) -> str:
    """Return a number without exponent and without trailing zeros; "" where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)
