"""Every rung, from the bottom up."""

from __future__ import annotations

import os
from typing import Any

from loadtest.ladder import rungs_asyncpg as with_asyncpg
from loadtest.ladder import rungs_psycopg as with_psycopg
from loadtest.ladder.contract import Rung

LADDER: tuple[type[Rung], ...] = (
    with_psycopg.ConnectPerInsert,
    with_psycopg.ConnectPerInsertThroughPgbouncer,
    with_asyncpg.PooledInsert,
    with_asyncpg.ConcurrentInsert,
    with_asyncpg.Executemany100,
    with_asyncpg.Executemany500,
    with_asyncpg.RelaxedInsert,
    with_psycopg.Pipeline,
    with_asyncpg.Unnest500,
    with_asyncpg.Unnest5000,
    with_psycopg.Copy500,
    with_psycopg.Copy5000,
    with_asyncpg.StreamedCopy,
    with_asyncpg.PartitionedCopy,
    with_asyncpg.UnloggedCopy,
    with_asyncpg.ParallelCopy,
)
BY_NAME: dict[str, type[Rung]] = {rung.name: rung for rung in LADDER}


def processes(rung: type[Rung]) -> int:
    """Return how many processes write."""
    return rung.processes or len(os.sched_getaffinity(0))


def listing() -> list[dict[str, Any]]:
    """Return what is to be known of each rung without running it, as plain values."""
    return [
        {
            "name": rung.name,
            "method": rung.method,
            "client": rung.client,
            "removes": rung.removes,
            "durability": rung.durability,
            "table": rung.table,
            "only_route": rung.only_route,
            "takes": sorted(rung.takes),
            "batch": rung.batch,
            "pool": rung.pool,
            "lanes": rung.lanes,
            "processes": processes(rung),
        }
        for rung in LADDER
    ]
