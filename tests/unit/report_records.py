"""Synthetic runs for the report's tests: a closed loop with plausible, made-up figures."""

from __future__ import annotations

import itertools
import random
from typing import Any

from lab.results import CeilingRecord, CellRecord, Manifest, Measurement

CAPACITY = {"fastapi": 640.0, "django": 310.0, "flask": 420.0}


CEILINGS = [
    CeilingRecord(route="direct", protocol="simple", clients=20, tps=1442.0, latency_ms=13.9),
    CeilingRecord(route="direct", protocol="prepared", clients=20, tps=5262.0, latency_ms=3.8),
    CeilingRecord(route="pgbouncer", protocol="simple", clients=20, tps=1610.0, latency_ms=12.4),
    CeilingRecord(
        route="pgbouncer", protocol="prepared", clients=20, tps=None, latency_ms=None,
        reason="pgbouncer cannot carry prepared statements in transaction pooling",
    ),
]  # fmt: skip


def measurement(**values: Any) -> Measurement:
    base: dict[str, Any] = {
        "window_s": 10.0, "requests": 1000, "failures": 0, "statuses": {"200": 1000}, "errors": {},
        "rps": 100.0,
    }  # fmt: skip
    return Measurement(**(base | values))


def plausible(
    framework: str,
    route: str,
    users: int,
    *,
    per_request: bool,
    rng: random.Random,
    factor: float = 1,
) -> Measurement:
    top = CAPACITY[framework] * factor * (1.1 if route == "pgbouncer" else 1.0)
    if per_request:
        top = 160.0 if route == "pgbouncer" else 35.0
    rps = top * users / (users + 12) * rng.gauss(1, 0.025)
    mean = users / rps * 1000
    busy = rps / top
    return measurement(
        requests=round(rps * 10), rps=rps, mean_ms=mean, p50_ms=mean * 0.9, p95_ms=mean * 1.9,
        p99_ms=mean * 2.7, max_ms=mean * 4, error_rate=0.0004 if users > 500 else 0.0,
        server_requests=round(rps * 10), server_mean_ms=mean * 0.8,
        new_connections_per_request=1.0 if per_request else 0.0, new_sessions_per_request=0.0,
        connect_ms=27.0 if per_request else 0.0, pool_wait_ms=0.2 if users < 50 else mean * 0.3,
        use_ms=4.0, statement_ms=2.3, executed_statements=round(rps * 10), executed_mean_ms=0.11,
        pgbouncer_wait_ms=0.08 if route == "pgbouncer" else None,
        db_cpu=(0.97 if per_request else 0.45) * busy, app_cpu=0.98 * busy,
        pgbouncer_cpu=0.31 * busy if route == "pgbouncer" else None,
        db_throttled=0.4 * busy, app_throttled=0.8 * busy,
        pgbouncer_throttled=0.0 if route == "pgbouncer" else None,
        generator_cpu=0.35 * busy, host_cpu=0.7, steal=0.001,
    )  # fmt: skip


def record(
    framework: str = "fastapi",
    route: str = "direct",
    users: int = 10,
    repetition: int = 1,
    axes: dict[str, Any] | None = None,
    measured: Measurement | None = None,
    reasons: tuple[str, ...] = (),
    **changes: Any,
) -> CellRecord:
    others = axes or {}
    slug = "".join(f"-{name.lower()}_{value}" for name, value in others.items())
    values: dict[str, Any] = {
        "run_id": "20261120-160000-test",
        "cell_id": f"{framework}-{route}-u{users}{slug}-r{repetition}",
        "status": "rejected" if reasons else "accepted",
        "reject_reasons": list(reasons),
        "framework": framework, "route": route, "users": users, "repetition": repetition,
        "axes": {"FRAMEWORK": framework, "ROUTE": route, "USERS": users, **others},
        "settings": {"WARMUP": 3, "WINDOW": 10, **others}, "settings_digest": "0" * 16,
        "limits_enforced": True,
        "started_at": 1.79e9, "window_start": 1.79e9 + 8, "window_end": 1.79e9 + 18,
        "phases_s": {"preflight": 1.2, "warming": 3.0, "measuring": 10.0, "collecting": 0.4},
        "measurement": measured,
    }  # fmt: skip
    return CellRecord(**(values | changes))


def manifest(records: list[CellRecord], axes: dict[str, list[Any]] | None = None,
             **changes: Any) -> Manifest:  # fmt: skip
    values: dict[str, Any] = {
        "run_id": "20261120-160000-test", "preset": "quick",
        "description": "3 services x 2 routes at 10 and at 100 users",
        "command": "make bench PRESET=quick", "started_at": 1.79e9, "finished_at": 1.79e9 + 312,
        "status": "finished", "seed": 42, "stack": "native", "limits": "cgroup v1",
        "limits_reason": None,
        "host": {"cpu": "Intel Xeon Platinum 8481C", "cores": 2, "memory_bytes": 8 * 2**30,
                 "system": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.1.0"},
        "versions": {"python": "3.11.2", "postgresql": "15.20", "pgbouncer": "1.18.0"},
        "settings": {"WARMUP": 3, "WINDOW": 10, "SCENARIO": "db-test", "DB_CPUS": 0.25,
                     "APP_CPUS": 0.5, "PGBOUNCER_CPUS": 0.25, "DB_MEMORY": "512m"},
        "axes": axes or {}, "cells": {r.cell_id: r.settings_digest for r in records},
        "ceilings": CEILINGS,
    }  # fmt: skip
    return Manifest(**(values | changes))


def run_of(
    axes: dict[str, list[Any]], repetitions: int = 1, seed: int = 1, **changes: Any
) -> tuple[Manifest, list[CellRecord]]:
    """Return a whole run over the product of axes, every cell accepted."""
    rng = random.Random(seed)
    records = []
    for repetition in range(1, repetitions + 1):
        for values in itertools.product(*axes.values()):
            cell = dict(zip(axes, values, strict=True))
            framework = cell.pop("FRAMEWORK", "fastapi")
            route, users = cell.pop("ROUTE", "direct"), cell.pop("USERS", 20)
            per_request = cell.get("DB_POOL") == "per-request" or cell.get("DB_CONN_MAX_AGE") == 0
            size = cell.get("PGBOUNCER_DEFAULT_POOL_SIZE", 20)
            measured = plausible(
                framework, route, users, per_request=per_request, rng=rng, factor=size / (size + 4)
            )
            records.append(record(framework, route, users, repetition, cell, measured))
    return manifest(records, axes, **changes), records


THREE = ["fastapi", "django", "flask"]
TWO = ["direct", "pgbouncer"]
