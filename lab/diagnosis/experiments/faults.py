"""Faults on purpose: each class by settings and limits alone, seeded and varied in strength.

A third of each class is held out: no rule is tuned to it, and both parts are reported.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.errors import ConfigError

SEED = 20261120
FRAMEWORKS = ("fastapi", "django", "flask")
SYNCHRONOUS = ("django", "flask")
#: Every HELD_OUT-th cell of a class is kept apart.
HELD_OUT = 3
#: Limits with room, so that only the fault binds; of a host with two cores or more.
ROOMY: dict[str, Any] = {"APP_CPUS": 1.0, "DB_CPUS": 0.5, "PGBOUNCER_CPUS": 0.25}

Draw = Callable[[random.Random, str], dict[str, Any]]


@dataclass(frozen=True)
class FaultClass:
    """A kind of fault: how it is made, and the verdicts that name it."""

    name: str
    expected: tuple[str, ...]
    draw: Draw
    frameworks: tuple[str, ...] = FRAMEWORKS
    #: of `several`: these limits, in any order
    together: frozenset[str] = frozenset()

    def right(self, verdict: str, limits: list[str]) -> bool:
        """Return whether a verdict names this fault."""
        if self.together:
            return verdict == "several" and set(limits) == self.together
        return verdict in self.expected


@dataclass(frozen=True)
class Fault:
    """One cell of the suite."""

    name: str
    kind: FaultClass
    number: int
    settings: Mapping[str, Any]
    held_out: bool


def _slow(rng: random.Random, low: int = 20, high: int = 150) -> dict[str, Any]:
    return {"SCENARIO": "slow-query", "SLOW_QUERY_MS": rng.randint(low, high)}


def _connect(rng: random.Random, framework: str) -> dict[str, Any]:
    route = rng.choice(("direct", "pgbouncer"))
    limits = {"DB_CPUS": 0.5, "APP_CPUS": 1.0, "PGBOUNCER_CPUS": 0.25}
    return {**limits, "DB_CONN_MAX_AGE": 0, "ROUTE": route, "USERS": rng.choice((5, 10, 20, 50))}


def _service_pool(rng: random.Random, framework: str) -> dict[str, Any]:
    pool = {"DB_POOL": "psycopg"} if framework == "django" else {}
    size = rng.choice((1, 1, 2))
    return {**ROOMY, **_slow(rng), **pool, "DB_POOL_SIZE": size, "USERS": rng.randint(20, 60)}


def _pgbouncer_pool(rng: random.Random, framework: str) -> dict[str, Any]:
    sizes = {
        "PGBOUNCER_DEFAULT_POOL_SIZE": rng.choice((1, 1, 2)),
        "PGBOUNCER_MIN_POOL_SIZE": 0,
        "PGBOUNCER_RESERVE_POOL_SIZE": 0,
        "PGBOUNCER_QUERY_WAIT_TIMEOUT": 60,
    }
    slow = _slow(rng, 20, 100)
    return {**ROOMY, **slow, **sizes, "ROUTE": "pgbouncer", "USERS": rng.randint(15, 40)}


def _pgbouncer_cpu(rng: random.Random, framework: str) -> dict[str, Any]:
    share = round(rng.uniform(0.02, 0.04), 3)
    users = rng.randint(20, 60)
    return {**ROOMY, "ROUTE": "pgbouncer", "PGBOUNCER_CPUS": share, "USERS": users}


def _database_cpu(rng: random.Random, framework: str) -> dict[str, Any]:
    route = rng.choice(("direct", "pgbouncer"))
    share = round(rng.uniform(0.03, 0.1), 3)
    return {**ROOMY, "ROUTE": route, "DB_CPUS": share, "USERS": rng.randint(10, 80)}


def _service_cpu(rng: random.Random, framework: str) -> dict[str, Any]:
    route = rng.choice(("direct", "pgbouncer"))
    share = round(rng.uniform(0.08, 0.3), 3)
    return {**ROOMY, "ROUTE": route, "APP_CPUS": share, "USERS": rng.randint(10, 80)}


def _hot_row(rng: random.Random, framework: str) -> dict[str, Any]:
    held = {"SCENARIO": "hot-row", "HOT_ROWS": 1, "HOT_ROW_HOLD_MS": rng.randint(3, 15)}
    return {**ROOMY, **held, "USERS": rng.randint(20, 50)}


def _max_connections(rng: random.Random, framework: str) -> dict[str, Any]:
    most = {"POSTGRES_MAX_CONNECTIONS": rng.randint(12, 16), "WORKERS": 3, "DB_POOL_SIZE": 12}
    return {**ROOMY, **_slow(rng, 20, 60), **most, "THREADS": 12, "USERS": rng.randint(36, 60)}


def _workers(rng: random.Random, framework: str) -> dict[str, Any]:
    few = {"WORKERS": 1, "THREADS": rng.choice((1, 2, 4))}
    return {**ROOMY, **_slow(rng), **few, "USERS": rng.randint(15, 50)}


def _generator(rng: random.Random, framework: str) -> dict[str, Any]:
    return {**ROOMY, "GENERATOR_CPUS": round(rng.uniform(0.03, 0.07), 3),
            "USERS": rng.randint(20, 60)}  # fmt: skip


def _two_pools(rng: random.Random, framework: str) -> dict[str, Any]:
    """As many server connections as the service's pools hold: either alone changes nothing."""
    pool = {"DB_POOL": "psycopg"} if framework == "django" else {}
    workers, size = 2, rng.choice((1, 2))
    sizes = {
        "PGBOUNCER_DEFAULT_POOL_SIZE": workers * size,
        "PGBOUNCER_MIN_POOL_SIZE": 0,
        "PGBOUNCER_RESERVE_POOL_SIZE": 0,
    }
    few = {"WORKERS": workers, "DB_POOL_SIZE": size, "ROUTE": "pgbouncer"}
    return {**ROOMY, **_slow(rng, 20, 100), **pool, **sizes, **few, "USERS": rng.randint(15, 40)}


def _two_threads(rng: random.Random, framework: str) -> dict[str, Any]:
    """As many threads as pooled connections: either alone changes nothing."""
    pool = {"DB_POOL": "psycopg"} if framework == "django" else {}
    size = rng.choice((1, 2, 3))
    few = {"WORKERS": 1, "THREADS": size, "DB_POOL_SIZE": size}
    return {**ROOMY, **_slow(rng), **pool, **few, "USERS": rng.randint(15, 40)}


def _healthy(rng: random.Random, framework: str) -> dict[str, Any]:
    route = rng.choice(("direct", "pgbouncer"))
    if rng.random() < 0.4:
        return {**ROOMY, "ROUTE": route, "USERS": 1}
    return {**ROOMY, **_slow(rng, 40, 200), "ROUTE": route, "USERS": rng.randint(1, 6)}


CLASSES = {
    kind.name: kind
    for kind in (
        FaultClass("connect", ("connection-set-up",), _connect),
        FaultClass("service-pool", ("service-pool",), _service_pool),
        FaultClass("pgbouncer-pool", ("pgbouncer-pool",), _pgbouncer_pool),
        FaultClass("pgbouncer-cpu", ("pgbouncer-cpu",), _pgbouncer_cpu),
        FaultClass("database-cpu", ("database-cpu",), _database_cpu),
        FaultClass("service-cpu", ("service-cpu",), _service_cpu),
        FaultClass("hot-row", ("database-locks",), _hot_row),
        FaultClass("max-connections", ("max-connections",), _max_connections),
        FaultClass("workers", ("workers-or-backlog",), _workers, SYNCHRONOUS),
        FaultClass("generator", ("load-generator-or-host",), _generator),
        FaultClass(
            "two-pools", (), _two_pools, together=frozenset({"service-pool", "pgbouncer-pool"})
        ),
        FaultClass(
            "two-threads",
            (),
            _two_threads,
            SYNCHRONOUS,
            together=frozenset({"service-pool", "workers-or-backlog"}),
        ),
        FaultClass("healthy", ("not-saturated",), _healthy),
    )
}


def faults(classes: list[str], each: int, seed: int = SEED) -> list[Fault]:
    """Return `each` faults of every class, in mixed order; raise ConfigError for an unknown one.

    A fault depends on the seed, its class and its number alone, so that a part of the suite is the
    same as in the whole.
    """
    if unknown := [name for name in classes if name not in CLASSES]:
        raise ConfigError(f"CLASSES={unknown[0]} is not known; classes: {', '.join(CLASSES)}")
    found = []
    for name in classes:
        kind, turn = CLASSES[name], list(CLASSES).index(name)
        for number in range(each):
            rng = random.Random(f"{seed}-{name}-{number}")
            framework = kind.frameworks[(number + turn) % len(kind.frameworks)]
            settings = {"FRAMEWORK": framework, **kind.draw(rng, framework)}
            held_out = (number + 1) % HELD_OUT == 0 if each >= HELD_OUT else False
            cell = f"{name}-{number + 1:02d}-{framework}"
            found.append(Fault(cell, kind, number + 1, settings, held_out))
    random.Random(seed).shuffle(found)
    return found
