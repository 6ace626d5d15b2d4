"""A run whose every panel has data: real dashboards, made-up figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lab.results import Run
from lab.snapshot import archive, dashboards
from lab.snapshot.archive import Archive
from lab.snapshot.frames import Column, DashboardData, Mark, PanelData, Series, Span, Table
from tests.unit.report_records import THREE, TWO, run_of

POINTS = 120
OVER = Span(1.79e9, 1.79e9 + (POINTS - 1) * 2, 2)
NAMES = ("client", "server", "other </script><b>")


def wave(place: int, scale: float = 1.0) -> tuple[float | None, ...]:
    """Return a wave with a gap, and one value between two gaps."""
    values = [scale * (place + 1 + math.sin(n / 7 + place)) for n in range(POINTS)]
    return tuple(None if 40 <= n <= 50 and n != 45 else v for n, v in enumerate(values))


def panel_data(panel: dict[str, Any]) -> PanelData:
    """Return data in the form that a panel of this type draws."""
    if panel["type"] == "heatmap":
        bounds = ("0.005", "0.01", "0.025", "0.05", "+Inf")
        return PanelData(tuple(Series("A", le, {"le": le}, wave(n)) for n, le in enumerate(bounds)))
    if panel["type"] in ("table", "barchart"):
        columns = (
            Column("cell", "string", ("fastapi 10", "django 100", "flask 100")),
            Column("direct", "number", (12.0, 400.0, None)),
            Column("pgbouncer", "number", (11.0, 380.5, 72.0)),
        )
        if panel["type"] == "table":
            columns += (Column("status", "string", ("accepted", "rejected", "accepted")),)
        return PanelData(tables=(Table("A", columns),), instant=True)
    count = 1 if panel["type"] == "stat" else 3
    return PanelData(tuple(Series("A", NAMES[n], {"job": NAMES[n]}, wave(n)) for n in range(count)))


def made_up(folder: Path) -> Run:
    """Write records, samples and the archive of a run; return it."""
    made, records = run_of({"FRAMEWORK": THREE, "ROUTE": TWO, "USERS": [10, 50, 100]})
    long = f"locust ended in mid-load; the end of its log:\n{'^' * 400}\nOSError: </script><b>"
    verdict = "several: database CPU, service CPU, the load generator"
    records[0] = records[0].model_copy(update={"verdict": verdict})
    records[-1] = records[-1].model_copy(update={"status": "rejected", "reject_reasons": [long]})
    run = Run(folder / made.run_id)
    for record in records:
        run.write_record(record)
        assert record.window_start is not None
        times = [record.window_start + 2 * n for n in range(6)]
        series = [
            {"metric": {"__name__": f"poolscope:{name}"},
             "values": [[t, str(100 + n)] for n, t in enumerate(times)]}
            for name in ("client_requests_per_second", "client_latency_p95_seconds")
        ]  # fmt: skip
        samples = {"step_s": 2, "series": series}
        (run.cell_folder(record.cell_id) / "samples.json").write_text(json.dumps(samples))
    run.write_manifest(made)
    found = dashboards.load()
    marks = (Mark(OVER.start + 20, "flask-direct-u10-r1"),)
    data = {
        d.uid: DashboardData(
            {p["id"]: panel_data(p) for p in d.panels if p["type"] not in dashboards.SILENT},
            {note["name"]: marks for note in d.annotations},
        )
        for d in found
    }
    archive.write(run.folder / archive.NAME, Archive(OVER, tuple(found), data, {}))
    return run
