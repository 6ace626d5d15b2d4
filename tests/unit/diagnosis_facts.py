"""Facts of a healthy cell, to be changed one fault at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lab.diagnosis.facts import DATABASE, GENERATOR, HOST, PGBOUNCER, SERVICE, Cpu, Facts
from lab.settings import TOGGLES

CALM = Facts(
    subject="cell", framework="flask", route="pgbouncer", users=20, rps=200.0, mean_ms=100.0,
    p95_ms=150.0, error_rate=0.0, server_ms=95.0, pool_wait_ms=0.1, connect_ms=0.0, check_ms=1.0,
    statement_ms=85.0, use_ms=88.0, executed_ms=80.0, pgbouncer_wait_ms=0.1,
    pgbouncer_server_ms=82.0, new_connections=0.001, wal_bytes=0.0,
    cpu={
        SERVICE: Cpu(0.2, 0.5, 0.4, 0.0), DATABASE: Cpu(0.05, 0.25, 0.2, 0.0),
        PGBOUNCER: Cpu(0.03, 0.25, 0.1, 0.0), GENERATOR: Cpu(0.1, 1.0, 0.1),
        HOST: Cpu(0.6, 2, 0.3),
    },
    steal=0.0, waits={"Timeout": 16.0, "none": 0.5}, lock_waits=0.0,
    connections_room=150.0, clients_waiting=0.0, servers_active=16.0, service_slots=40,
    pool_slots=40, pgbouncer_slots=40, max_connections=200,
    settings={n: f.default for n, f in TOGGLES.items()} | {
        "FRAMEWORK": "flask", "ROUTE": "pgbouncer", "WORKERS": 5, "APP_CPUS": 0.5, "DB_CPUS": 0.25,
        "PGBOUNCER_CPUS": 0.25, "USERS": 20, "PGBOUNCER_DEFAULT_POOL_SIZE": 40,
    },
    host_cores=2,
)  # fmt: skip


def changed(cpu: dict[str, Cpu] | None = None, settings: dict[str, Any] | None = None,
            **values: Any) -> Facts:  # fmt: skip
    """Return the calm cell with other figures."""
    return replace(
        CALM, cpu={**CALM.cpu, **(cpu or {})}, settings={**CALM.settings, **(settings or {})},
        **values,
    )  # fmt: skip
