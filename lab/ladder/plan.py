"""Which rungs, in which order, and whether they can run here: arithmetic before anything starts."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import ConfigError, ServiceError
from lab.ladder.settings import LadderSettings
from lab.paths import ROOT
from lab.settings import Settings

#: The ceilings' names, in the order of the tables.
COPY_CEILING, PGBENCH_CEILING = "ceiling", "ceiling-pgbench"
CEILINGS = (COPY_CEILING, PGBENCH_CEILING)
#: Connections that PostgreSQL keeps for superusers, and those of the exporters.
RESERVED, WATCHING = 3, 3
#: Bytes of a row with its index entry, and of WAL that PostgreSQL may keep (max_wal_size 2 GB, and
#: as much again until the checkpoint has ended).
ROW_BYTES, WAL_BYTES = 170, 4 * 2**30
#: Rows per second and core beyond what any rung has been seen to write (two thirds of it).
ROWS_PER_CORE_S = 800_000


@dataclass(frozen=True)
class Rung:
    """What the generator says of one of its rungs; see loadtest.ladder.contract."""

    name: str
    method: str
    client: str
    removes: str
    durability: str
    table: str
    only_route: str | None
    takes: tuple[str, ...]
    batch: int
    pool: int
    lanes: int
    processes: int

    def route(self, settings: LadderSettings) -> str:
        """Return the route that it takes."""
        return self.only_route or settings.route

    def set_up(self, settings: LadderSettings) -> Rung:
        """Return the rung with BATCH and POOL, where it takes them."""
        batch, pool, lanes = self.batch, self.pool, self.lanes
        if settings.batch is not None and "BATCH" in self.takes:
            batch = settings.batch
        if settings.pool is not None and "POOL" in self.takes:
            pool = settings.pool
            lanes = pool if lanes > 1 else 1
        values = {**self.__dict__, "batch": batch, "pool": pool, "lanes": lanes}
        return Rung(**values)


@dataclass(frozen=True)
class Step:
    """One measurement of one rung, or of a ceiling (`rung` is None)."""

    cell_id: str
    name: str
    repetition: int
    rung: Rung | None


def catalogue() -> list[Rung]:
    """Ask the generator for its rungs, from the bottom up; raise ServiceError where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.ladder", "--list"],
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", os.defpath)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServiceError(f"the ladder's generator does not start: {done.stderr.strip()}")
    listed: list[dict[str, Any]] = json.loads(done.stdout)
    return [Rung(**{**one, "takes": tuple(one["takes"])}) for one in listed]


def choose(known: Sequence[Rung], settings: LadderSettings) -> list[Rung]:
    """Return the chosen rungs in the ladder's order; raise ConfigError for one that is not there.

    A name that is no rung's chooses every rung that begins with it and goes on with a dash.
    """
    if settings.rungs == "all":
        return [rung.set_up(settings) for rung in known]
    chosen: set[str] = set()
    for word in filter(None, (part.strip() for part in settings.rungs.split(","))):
        found = {r.name for r in known if r.name == word or r.name.startswith(f"{word}-")}
        # "2" is a rung of its own, and not all that begin with 2-.
        found = {word} if word in {r.name for r in known} else found
        if not found:
            names = ", ".join(r.name for r in known)
            raise ConfigError(f"unknown rung {word!r} (RUNGS); rungs: {names}")
        chosen |= found
    if not chosen:
        raise ConfigError("RUNGS names no rung; RUNGS=all takes every one")
    return [rung.set_up(settings) for rung in known if rung.name in chosen]


def steps(rungs: Sequence[Rung], repetitions: int, seed: int) -> list[Step]:
    """Return the measurements in running order: each repetition shuffled on its own."""
    draw = random.Random(seed)
    wanted: list[tuple[str, Rung | None]] = [(rung.name, rung) for rung in rungs]
    wanted += [(name, None) for name in CEILINGS]
    return [
        Step(f"{name}-r{repetition}", name, repetition, rung)
        for repetition in range(1, repetitions + 1)
        for name, rung in draw.sample(wanted, len(wanted))
    ]


def check_connections(rungs: Sequence[Rung], own: LadderSettings, settings: Settings) -> None:
    """Raise ConfigError, with the arithmetic, for a pool that PostgreSQL or PgBouncer refuses."""
    most = settings.postgres_max_connections - RESERVED - WATCHING
    for rung in rungs:
        needs = rung.pool * rung.processes
        if rung.route(own) == "pgbouncer":
            if needs > settings.pgbouncer_max_client_conn:
                raise ConfigError(
                    f"rung {rung.name} needs {needs} connections to PgBouncer, and "
                    f"PGBOUNCER_MAX_CLIENT_CONN is {settings.pgbouncer_max_client_conn}"
                )
        elif needs > most:
            each = f"{rung.processes} x {rung.pool} = " if rung.processes > 1 else ""
            raise ConfigError(
                f"rung {rung.name} needs {each}{needs} connections, and PostgreSQL has room for "
                f"{most}: POSTGRES_MAX_CONNECTIONS {settings.postgres_max_connections} - "
                f"{RESERVED} for superusers - {WATCHING} for the monitoring; lower POOL or raise "
                "POSTGRES_MAX_CONNECTIONS"
            )


def check_room(own: LadderSettings, free_bytes: int, cores: int) -> None:
    """Raise ConfigError where the disk has less room than the largest rung may need."""
    rate = own.rate or ROWS_PER_CORE_S * cores
    needs = room(own, rate)
    if needs > free_bytes:
        raise ConfigError(
            f"the ladder may need {needs / 2**30:.1f} GiB ({rate:,.0f} rows/s x "
            f"{own.warmup + own.duration} s x {ROW_BYTES} bytes, and {WAL_BYTES / 2**30:.0f} GiB "
            f"of WAL), and {free_bytes / 2**30:.1f} GiB are free; make room or lower DURATION"
        )


def room(own: LadderSettings, rate: float) -> float:
    """Return the bytes that one rung may need at this rate; each begins with empty tables."""
    return rate * (own.warmup + own.duration) * ROW_BYTES + WAL_BYTES
