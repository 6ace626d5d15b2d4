"""What a ladder leaves on disk: `cells/<rung>-r<n>/rung.json`, beside the manifest of any run."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field, ValidationError

from lab.errors import ResultError
from lab.files import sha256, write_atomic
from lab.results import Manifest, Model, Run

#: 1: first version.
SCHEMA = 1
PRESETS = PRESET, CRASH_PRESET = "ladder", "ladder-crash"
#: The ceilings' names, in the order of the tables.
CEILINGS = COPY_CEILING, PGBENCH_CEILING = "ceiling", "ceiling-pgbench"
FILE = "rung.json"


class Measured(Model):
    """What a rung's window gave; None = could not be measured, with the reason in `missing`.

    Latencies are of write calls, from the intended start to the acknowledgement, in milliseconds;
    `row_us` is a write call's mean time per row. `*_cores` are CPU seconds per second;
    `generator_cpu` is the busiest process's share of a core, `db_cpu` the database's share of its
    limit, or of all cores. `time_in` says where the connections of a write under way were, as
    shares of that time: computing, waiting for a core, for WAL, for something else, for the client.
    """

    window_s: float
    rows: int
    writes: int
    rows_per_s: float
    commits_per_s: float
    latency_mean_ms: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    latency_max_ms: float | None = None
    row_us: float | None = None
    failed_rows: int = 0
    failed_writes: int = 0
    error_rate: float | None = None
    errors: dict[str, int] = Field(default_factory=dict)
    queue_mean: float | None = None
    queue_max: int | None = None

    generator_cpu: float | None = None
    generator_cores: float | None = None
    generator_memory_bytes: int | None = None
    bodies_s: float | None = None
    making_us_per_row: float | None = None
    open_s: float | None = None
    opened: int | None = None
    new_connections: int | None = None
    connect_ms: float | None = None
    connect_share: float | None = None

    db_cores: float | None = None
    db_cpu: float | None = None
    pgbouncer_cores: float | None = None
    wal_bytes: int | None = None
    wal_bytes_per_row: float | None = None
    wal_mb_per_s: float | None = None
    statements_per_row: float | None = None
    time_in: dict[str, float] = Field(default_factory=dict)
    waits: dict[str, float] = Field(default_factory=dict)
    host_cpu: float | None = None
    host_cores: int | None = None
    steal: float | None = None
    timeline: list[dict[str, float]] = Field(default_factory=list)
    missing: dict[str, str] = Field(default_factory=dict)


class Verification(Model):
    """Rows promised and rows found; `right` says whether they agree.

    `unknown_rows` are of writes whose answer was lost, `unknown_written` those of them that their
    ids found in the table. `lost_rows` were acknowledged and are not there; the oldest of them was
    acknowledged `lost_oldest_ms` before the crash.
    """

    acknowledged_rows: int
    in_table: int
    unknown_rows: int = 0
    unknown_written: int = 0
    refused_rows: int = 0
    torn_writes: int = 0
    lost_rows: int = 0
    lost_oldest_ms: float | None = None
    right: bool
    why: str | None = None


class Verdict(Model):
    """What limits a rung, the figures that say so, and what the next rung takes away."""

    limit: str
    evidence: list[str]
    next_step: str | None = None


class RungRecord(Model):
    """One measurement of one rung, or of a ceiling."""

    schema_version: int = SCHEMA
    run_id: str
    cell_id: str
    rung: str
    method: str
    durability: str
    client: str
    route: str
    table: str
    batch: int
    pool: int
    lanes: int
    processes: int
    repetition: int
    target_tps: float | None
    status: Literal["accepted", "rejected"]
    reject_reasons: list[str]
    started_at: float
    window_start: float | None
    window_end: float | None
    phases_s: dict[str, float]
    measured: Measured | None
    verification: Verification | None
    verdict: Verdict | None = None
    notes: list[str] = Field(default_factory=list)


def is_ladder(manifest: Manifest) -> bool:
    """Return whether a run is one of the ladder's."""
    return manifest.preset in PRESETS


def cpu_limit(manifest: Manifest) -> str:
    """Say which CPU limit PostgreSQL had; nothing else has one on a ladder."""
    limit = manifest.settings.get("DB_CPUS")
    return f"PostgreSQL limited to {limit:g} cores" if limit else "no limit on PostgreSQL's CPU"


def write(run: Run, record: RungRecord) -> None:
    """Write a record and, last, its hash."""
    path = run.cell_folder(record.cell_id) / FILE
    write_atomic(path, record.model_dump_json(indent=1))
    write_atomic(path.with_suffix(".sha256"), sha256(path))


def read(run: Run) -> list[RungRecord]:
    """Return every whole record in the order of measuring; raise ResultError for a damaged one."""
    found = []
    for path in run.folder.glob(f"cells/*/{FILE}"):
        seal = path.with_suffix(".sha256")
        if not seal.is_file():
            continue
        if sha256(path) != seal.read_text().strip():
            raise ResultError(f"{path} does not match its hash; run the ladder again")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.get("schema_version") != SCHEMA:
                raise ResultError(
                    f"{path} has schema {data.get('schema_version')}, this version reads {SCHEMA}"
                )
            found.append(RungRecord.model_validate(data))
        except (json.JSONDecodeError, ValidationError) as error:
            raise ResultError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    return sorted(found, key=lambda record: record.started_at)
