"""Which rungs, in which order, and whether they can run here: arithmetic before anything starts."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lab.errors import ConfigError, ServiceError
from lab.ladder import ceiling
from lab.ladder.records import CEILINGS
from lab.ladder.settings import LadderSettings
from lab.paths import ROOT
from lab.settings import Settings

#: Connections that PostgreSQL keeps for superusers, and those of the exporters.
RESERVED, WATCHING = 3, 3
#: Bytes of a row with its index entry, and of WAL that PostgreSQL may keep (max_wal_size 2 GB, and
#: as much again until the checkpoint has ended).
ROW_BYTES, WAL_BYTES = 170, 4 * 2**30
#: Rows per second and core beyond what any rung has been seen to write (two thirds of it), and what
#: pgbench has with single rows.
ROWS_PER_CORE_S, SINGLE_ROWS_PER_CORE_S = 800_000, 50_000
#: Write calls per second that a paced process makes at least: with fewer, the rows of a window
#: depend on where its edges fall between two of them.
PACED_WRITES_PER_S = 10


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
    notes: tuple[str, ...] = ()

    def route(self, settings: LadderSettings) -> str:
        """Return the route that it takes."""
        return self.only_route or settings.route

    def set_up(self, settings: LadderSettings) -> Rung:
        """Return the rung with BATCH and POOL, where it takes them, and calls fit for a pace."""
        batch, pool, lanes, notes = self.batch, self.pool, self.lanes, self.notes
        if settings.batch is not None and "BATCH" in self.takes:
            batch = settings.batch
        if settings.pool is not None and "POOL" in self.takes:
            pool = settings.pool
            lanes = pool if lanes > 1 else 1
        if settings.rate is not None:
            most = max(1, int(settings.rate / (self.processes * PACED_WRITES_PER_S)))
            if batch > most:
                notes = (
                    f"{most:,} rows per write call instead of {batch:,}, which would be too few "
                    f"calls to measure at {settings.rate:,g} rows/s",
                )
                batch = most
        return replace(self, batch=batch, pool=pool, lanes=lanes, notes=notes)


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
    """Return the chosen rungs in the ladder's order, set up.

    A name that is no rung's chooses every rung that begins with it and goes on with a dash. Raises
    ConfigError for one that is not there, and for a BATCH or POOL that none of them takes.
    """
    chosen = list(known) if settings.rungs == "all" else _named(known, settings)
    for name, value in (("BATCH", settings.batch), ("POOL", settings.pool)):
        if value is not None and not any(name in rung.takes for rung in chosen):
            takers = ", ".join(rung.name for rung in known if name in rung.takes)
            raise ConfigError(
                f"{name}={value} means nothing to RUNGS={settings.rungs}; rungs that take it: "
                f"{takers}"
            )
    return [rung.set_up(settings) for rung in chosen]


def _named(known: Sequence[Rung], settings: LadderSettings) -> list[Rung]:
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
    return [rung for rung in known if rung.name in chosen]


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
    """Raise ConfigError where the disk has less room than the largest step may need."""
    needs, what = max(_steps_bytes(own, cores))
    if needs + WAL_BYTES > free_bytes:
        raise ConfigError(
            f"the ladder may need {(needs + WAL_BYTES) / 2**30:.1f} GiB ({what}, and "
            f"{WAL_BYTES / 2**30:.0f} GiB of WAL), and {free_bytes / 2**30:.1f} GiB are free; make "
            "room or lower DURATION"
        )


def _steps_bytes(own: LadderSettings, cores: int) -> list[tuple[float, str]]:
    """Return what a rung and each ceiling may need, and how; each begins with empty tables.

    Nothing paces the ceilings, and one of them reads its rows from a file.
    """
    rate, length_s = own.rate or ROWS_PER_CORE_S * cores, own.warmup + own.duration
    single, line = SINGLE_ROWS_PER_CORE_S * cores, ROW_BYTES + ceiling.LINE_BYTES
    return [
        (rate * length_s * ROW_BYTES, f"{rate:,.0f} rows/s x {length_s} s x {ROW_BYTES} bytes"),
        (ceiling.ROWS * line, f"{ceiling.ROWS:,} rows of the ceiling x {line} bytes"),
        (
            single * own.duration * ROW_BYTES,
            f"pgbench's {single:,} rows/s x {own.duration} s x {ROW_BYTES} bytes",
        ),
    ]
