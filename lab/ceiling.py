"""What the database can give at most: pgbench sends a scenario's statement without any service."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lab.errors import ServiceError
from lab.settings import Scenario, Settings
from lab.stack.base import Pgbench

CLIENTS = 20
SLEEPERS = 100
#: Seconds at the start that do not count. New backends fill their caches then, which on a database
#: of 0.25 CPU took so much of three seconds that the result was anything from 424 to 715 tps.
WARMUP_S = 1
#: The least of it that is work: connecting takes the first tenths, on a throttled database more.
WARMED_UP_S = 0.5
#: Connections that are left to the superuser, the exporters and the instrument.
RESERVED = 8
#: Beyond the measured time: connecting, and the last transactions of a throttled database.
GRACE_S = 30
TAIL_LINES = 5

Protocol = Literal["simple", "prepared"]


@dataclass(frozen=True)
class Target:
    """A database behind a route: PostgreSQL itself, or PgBouncer."""

    route: str
    database: str
    user: str
    password: str


@dataclass(frozen=True)
class Ceiling:
    """Pgbench's result for a scenario.

    Tps and latency are None where they could not be measured, with `reason`.
    `connects`: each transaction opened a connection of its own (then the latency contains it, and
    `connect_ms` is its mean). `duration_s` is what was measured: without connecting, and without
    the first WARMUP_S.
    """

    scenario: Scenario
    route: str
    protocol: Protocol
    clients: int
    tps: float | None
    latency_ms: float | None
    connects: bool
    duration_s: float
    connect_ms: float | None = None
    reason: str | None = None


def measure(
    pgbench: Pgbench,
    target: Target,
    protocol: Protocol,
    settings: Settings,
    *,
    clients: int | None = None,
    duration_s: int = 3,
    connects: bool = False,
    prepared_supported: bool = True,
) -> Ceiling:
    """Run pgbench against a target and return its ceiling; ServiceError where pgbench fails.

    The settings say which scenario, its parameters and, where `clients` does not, how many clients.

    `prepared_supported` says whether statements can be prepared on this route: a PgBouncer before
    1.21, or with max_prepared_statements=0, cannot in transaction mode. Then nothing is run.
    """
    clients = clients or clients_for(settings)
    if protocol == "prepared" and not prepared_supported:
        reason = f"{target.route} cannot carry prepared statements in transaction pooling"
        return unknown(target, protocol, settings, reason, connects=connects)
    host, port = pgbench.addresses[target.route]
    output = _run(
        command(pgbench, target, protocol, settings, clients, WARMUP_S + duration_s, connects),
        environment(target, pgbench.env),
        f"pgbench ({protocol}, {target.route}) on {host}:{port}",
        WARMUP_S + duration_s + GRACE_S,
    )
    return parse(output, settings.scenario, target.route, protocol, connects)


def unknown(
    target: Target, protocol: Protocol, s: Settings, reason: str, *, connects: bool = False
) -> Ceiling:
    """Return a ceiling that could not be measured, with the reason."""
    return Ceiling(
        s.scenario, target.route, protocol, clients_for(s), None, None, connects, 0.0, reason=reason
    )


def clients_for(s: Settings) -> int:
    """Return how many clients find a scenario's ceiling, as far as PostgreSQL lets them in.

    Sleepers use nothing, so it takes many. Of those that update one row, one waits while one
    works, and every further one makes PostgreSQL's queue dearer (measured: 20 clients got less
    than a service with 16 connections). A few heavy statements use up all CPU, and more of them
    would only be unfinished at the end.
    """
    own = {
        "slow-query": SLEEPERS,
        "hot-row": min(CLIENTS, 2 * s.hot_rows),
        "heavy": min(CLIENTS, 2 + 2 * math.ceil(s.db_cpus)),
    }
    wanted = own.get(s.scenario, CLIENTS)
    return max(1, min(wanted, s.postgres_max_connections - RESERVED))


def variables(s: Settings) -> dict[str, object]:
    """Return the variables of the scripts."""
    return {
        "users": s.seed_users,
        "posts": s.seed_posts,
        "hot_rows": s.hot_rows,
        "seconds": s.slow_query_ms / 1000,
    }


def command(
    pgbench: Pgbench,
    target: Target,
    protocol: Protocol,
    settings: Settings,
    clients: int,
    duration_s: int,
    connects: bool,
) -> list[str]:
    """Give pgbench's command line; the password is not in it."""
    host, port = pgbench.addresses[target.route]
    return [
        *(*pgbench.command, "--no-vacuum", f"--protocol={protocol}", f"--client={clients}"),
        *("--jobs=1", f"--time={duration_s}", f"--progress={WARMUP_S}"),
        f"--file={pgbench.folder}/{settings.scenario}.sql",
        *(f"--define={name}={value}" for name, value in variables(settings).items()),
        *(["--connect"] if connects else []),
        *(f"--host={host}", f"--port={port}", f"--username={target.user}"),
        target.database,
    ]


def environment(target: Target, base: Mapping[str, str]) -> dict[str, str]:
    """Give pgbench's environment: `base` without libpq's variables, plus password and language."""
    kept = {n: v for n, v in base.items() if not n.startswith("PG") or n.startswith("PGBOUNCER_")}
    password = {"PGPASSWORD": target.password, "PGCONNECT_TIMEOUT": "10", "PGSSLMODE": "disable"}
    return {**kept, **password, "LC_ALL": "C", "LANGUAGE": "C"}


def parse(
    output: str, scenario: Scenario, route: str, protocol: Protocol, connects: bool
) -> Ceiling:
    """Read pgbench's report (versions 10 to 17); ServiceError where a figure is not in it.

    Where it reported its progress, what is before WARMED_UP_S of work is left out.
    """
    found = _figures(output)
    tps_kept = found.get("excluding") or found.get("without")
    tps = found.get("including") if connects else tps_kept
    # First, since pgbench then prints neither latency nor tps.
    if found.get("transactions") == 0:
        raise ServiceError(f"pgbench finished no transaction through {route}: {_tail(output)}")
    if tps is None or not {"transactions", "latency", "clients"} <= found.keys():
        raise ServiceError(f"pgbench's report was not understood: {_tail(output)}")
    steady = _Stretch(found["transactions"], found["transactions"] / tps, found["latency"])
    if _PROGRESS.search(output):
        # Its clock of progress runs while it connects, which is in no rate of the summary.
        connecting_s = found.get("initial", 0.0) / 1000
        whole_s = found["transactions"] / found.get("including", tps)
        whole_s += 0.0 if "including" in found else connecting_s
        steady = replace(steady, length_s=whole_s).without(_warmup(output, connecting_s))
    if steady.transactions < 1:
        raise ServiceError(f"pgbench finished no transaction through {route} after its warm-up")
    return Ceiling(
        scenario=scenario,
        route=route,
        protocol=protocol,
        clients=int(found["clients"]),
        tps=steady.transactions / steady.length_s,
        latency_ms=steady.latency_ms,
        connects=connects,
        duration_s=round(steady.length_s, 3),
        connect_ms=found.get("connect"),
    )


@dataclass(frozen=True)
class _Stretch:
    """Transactions of a length of time, and their mean latency."""

    transactions: float
    length_s: float
    latency_ms: float

    def and_then(self, more: _Stretch) -> _Stretch:
        """Return both."""
        count = self.transactions + more.transactions
        spent = self.transactions * self.latency_ms + more.transactions * more.latency_ms
        return _Stretch(count, self.length_s + more.length_s, spent / count if count else 0.0)

    def without(self, start: _Stretch) -> _Stretch:
        """Return what is left behind a start."""
        left = self.transactions - start.transactions
        spent = self.transactions * self.latency_ms - start.transactions * start.latency_ms
        mean_ms = spent / left if left > 0 else 0.0
        return _Stretch(left, self.length_s - start.length_s, mean_ms)


def _warmup(output: str, connecting_s: float) -> _Stretch:
    """Return what pgbench did while it connected and until WARMED_UP_S of work after that."""
    done = _Stretch(0.0, 0.0, 0.0)
    for line in _PROGRESS.finditer(output):
        at, rate, latency_ms = map(float, line.groups())
        length_s = at - done.length_s
        done = done.and_then(_Stretch(rate * length_s, length_s, latency_ms))
        if at >= connecting_s + WARMED_UP_S:
            break
    return done


_NUMBER = r"([\d.]+)"
_PATTERNS = {
    "clients": rf"^number of clients: {_NUMBER}",
    "transactions": rf"^number of transactions actually processed: {_NUMBER}",
    "latency": rf"^latency average(?: =|:) {_NUMBER} ms",
    "connect": rf"^average connection time = {_NUMBER} ms",
    "initial": rf"^initial connection time = {_NUMBER} ms",
    # Before version 14 both were printed: "(including connections establishing)" and "(excluding".
    "including": rf"^tps = {_NUMBER} \(including",
    "excluding": rf"^tps = {_NUMBER} \(excluding",
    "without": rf"^tps = {_NUMBER} \(without",
}
_PROGRESS = re.compile(rf"^progress: {_NUMBER} s, {_NUMBER} tps, lat {_NUMBER} ms", re.MULTILINE)


def _figures(output: str) -> dict[str, float]:
    matches = {name: re.search(p, output, re.MULTILINE) for name, p in _PATTERNS.items()}
    return {name: float(match[1]) for name, match in matches.items() if match}


def _run(args: list[str], env: dict[str, str], what: str, timeout_s: float) -> str:
    try:
        done = subprocess.run(
            args,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        raise ServiceError(f"{what} could not be started: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"{what} not done after {timeout_s:g} s") from error
    # Also where only some clients were aborted: the figures are then of fewer clients.
    if done.returncode != 0:
        raise ServiceError(f"{what} ended with code {done.returncode}: {_tail(done.stdout)}")
    return done.stdout


def _tail(output: str) -> str:
    """Give the first error, else the end: each client repeats the same error."""
    lines = [line for line in output.splitlines() if line]
    errors = [line for line in lines if "error" in line.lower()]
    return " | ".join(errors[:1] or lines[-TAIL_LINES:])
