"""Records of a ladder made by hand."""

from __future__ import annotations

from typing import Any

from lab.ladder.records import Measured, RungRecord, Verification
from lab.results import Manifest


def measured(rows_per_s: float = 1000.0, **more: Any) -> Measured:
    """Return a window of 10 s at this rate, one row per write."""
    rows = int(rows_per_s * 10)
    values: dict[str, Any] = {
        "window_s": 10, "rows": rows, "writes": rows, "rows_per_s": rows_per_s,
        "commits_per_s": rows_per_s, "latency_mean_ms": 5.0, "latency_p95_ms": 9.0,
        "generator_cpu": 0.2, "generator_cores": 0.2, "db_cores": 0.3, "db_cpu": 0.15,
        "host_cpu": 0.3, "steal": 0.0, "error_rate": 0.0, "wal_mb_per_s": 1.0,
        "time_in": {"computing": 0.2, "WAL": 0.1, "other waits": 0.0, "client": 0.7},
    }  # fmt: skip
    return Measured(**(values | more))


def record(rung: str, m: Measured | None = None, **more: Any) -> RungRecord:
    """Return an accepted measurement of a rung."""
    rows = m.rows if m else 0
    values: dict[str, Any] = {
        "run_id": "run", "cell_id": f"{rung}-r1", "rung": rung, "method": f"method of {rung}",
        "durability": "committed to disk", "client": "asyncpg", "route": "direct",
        "table": "ladder_rows", "batch": 1, "pool": 1, "lanes": 1, "processes": 1,
        "repetition": 1, "target_tps": None, "status": "accepted", "reject_reasons": [],
        "started_at": 1.0, "window_start": 1.0, "window_end": 11.0, "phases_s": {}, "measured": m,
        "verification": Verification(acknowledged_rows=rows, in_table=rows, right=True),
    }  # fmt: skip
    return RungRecord(**(values | more))


def manifest(*rungs: str, preset: str = "ladder", **settings: Any) -> Manifest:
    """Return the manifest of a run of these rungs."""
    values = {"DB_CPUS": None, "ROUTE": "direct", "TARGET_TPS": "max", "DURATION": 10}
    values |= {"REPETITIONS": 1, "REMOVES": {rung: f"what {rung} removes" for rung in rungs}}
    return Manifest(
        run_id="run", preset=preset, description="d", command="make ladder", started_at=1.0,
        seed=42, stack="native", limits=None, limits_reason=None, host={"cores": 2},
        versions={"postgres": "15.18"}, settings=values | settings, axes={"RUNG": list(rungs)},
        cells={},
    )  # fmt: skip
