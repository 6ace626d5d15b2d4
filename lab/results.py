"""Records on disk: `results/<run_id>/manifest.json` and `cells/<cell_id>/record.json`.

Both carry SCHEMA; a reader refuses another one. A value that could not be measured is None and
its reason stands in `missing`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab.errors import ResultError
from lab.files import sha256, write_atomic

#: 1: first version.
SCHEMA = 1


class Model(BaseModel):
    """A frozen part of a record."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Measurement(Model):
    """What a window gave; None = could not be measured.

    Times in milliseconds, CPU as a ratio of the limit (0 to 1; of the host's cores where no limit
    is enforced), `generator_cpu` of one core, `*_cpu_s` in CPU seconds. Means of waiting and using
    are per request that the service answered; `pgbouncer_wait_ms` is per transaction, and
    `pgbouncer_wait_request_ms`, `pgbouncer_server_ms` (on a server connection) and
    `executed_request_ms` (in PostgreSQL, checks included) per request. `generator_late_ms` is how
    late the generator's own clock work was, `sampled` the mean of each gauge over the window:
    by signal, with the label's value after a slash.
    """

    window_s: float
    requests: int
    failures: int
    statuses: dict[str, int]
    errors: dict[str, int]
    rps: float
    mean_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    error_rate: float | None = None
    hdr: str | None = None
    timeline: list[dict[str, float]] = Field(default_factory=list)

    server_requests: int | None = None
    server_mean_ms: float | None = None
    new_connections_per_request: float | None = None
    new_sessions_per_request: float | None = None
    connect_ms: float | None = None
    pool_wait_ms: float | None = None
    use_ms: float | None = None
    statement_ms: float | None = None
    check_ms: float | None = None
    pool_timeouts: int | None = None
    executed_statements: int | None = None
    executed_mean_ms: float | None = None
    executed_request_ms: float | None = None
    pgbouncer_wait_ms: float | None = None
    pgbouncer_wait_request_ms: float | None = None
    pgbouncer_server_ms: float | None = None
    wal_bytes_per_request: float | None = None

    db_cpu: float | None = None
    app_cpu: float | None = None
    pgbouncer_cpu: float | None = None
    db_cpu_s: float | None = None
    app_cpu_s: float | None = None
    pgbouncer_cpu_s: float | None = None
    db_throttled: float | None = None
    app_throttled: float | None = None
    pgbouncer_throttled: float | None = None
    generator_cpu: float | None = None
    generator_late_ms: float | None = None
    host_cpu: float | None = None
    host_cores: int | None = None
    steal: float | None = None
    sampled: dict[str, float] = Field(default_factory=dict)

    missing: dict[str, str] = Field(default_factory=dict)


class CellRecord(Model):
    """One measured cell, accepted or rejected."""

    schema_version: int = SCHEMA
    run_id: str
    cell_id: str
    status: Literal["accepted", "rejected"]
    reject_reasons: list[str]
    framework: str
    route: str
    users: int
    repetition: int
    axes: dict[str, Any]
    settings: dict[str, Any]
    settings_digest: str
    limits_enforced: bool
    started_at: float
    window_start: float | None
    window_end: float | None
    phases_s: dict[str, float]
    measurement: Measurement | None
    verdict: str | None = None


class CeilingRecord(Model):
    """Pgbench's transactions per second for the same SQL on the same limited database."""

    scenario: str = "db-test"
    route: str
    protocol: str
    clients: int
    tps: float | None
    latency_ms: float | None
    connects: bool = False
    duration_s: float = 0.0
    connect_ms: float | None = None
    reason: str | None = None
    #: the database's CPU limit while it was measured; None in records that are older
    db_cpus: float | None = None


class Manifest(Model):
    """What a run is: enough to read its numbers and to do it again."""

    schema_version: int = SCHEMA
    run_id: str
    preset: str
    description: str
    command: str
    started_at: float
    finished_at: float | None = None
    status: Literal["running", "finished", "interrupted"] = "running"
    seed: int
    stack: str
    limits: str | None
    limits_reason: str | None
    host: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    axes: dict[str, list[Any]]
    cells: dict[str, str]
    overrides: dict[str, str] = Field(default_factory=dict)
    ceilings: list[CeilingRecord] = Field(default_factory=list)
    files: dict[str, str] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class Run:
    """A run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.folder.name

    def cell_folder(self, cell_id: str) -> Path:
        """Return the folder of a cell's files."""
        return self.folder / "cells" / cell_id

    def manifest(self) -> Manifest:
        """Read the manifest; raise ResultError where it is missing or damaged."""
        return _read(self.folder / "manifest.json", Manifest)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest with the hash of every other file of the run."""
        files = {
            str(path.relative_to(self.folder)): sha256(path)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name != "manifest.json" and not path.name.startswith(".")
        }
        text = manifest.model_copy(update={"files": files}).model_dump_json(indent=1)
        write_atomic(self.folder / "manifest.json", text)

    def write_record(self, record: CellRecord) -> None:
        """Write a cell's record and, last, its hash: a cell without it was interrupted."""
        path = self.cell_folder(record.cell_id) / "record.json"
        write_atomic(path, record.model_dump_json(indent=1))
        write_atomic(path.with_suffix(".sha256"), sha256(path))

    def record(self, cell_id: str) -> CellRecord | None:
        """Return a cell's record, None where it is not whole; raise ResultError when altered."""
        path = self.cell_folder(cell_id) / "record.json"
        seal = path.with_suffix(".sha256")
        if not path.is_file() or not seal.is_file():
            return None
        if sha256(path) != seal.read_text().strip():
            raise ResultError(f"{path} does not match its hash; remove the folder to measure again")
        return _read(path, CellRecord)

    def records(self) -> list[CellRecord]:
        """Return every whole record in the order of measuring."""
        found = (self.record(p.parent.name) for p in self.folder.glob("cells/*/record.json"))
        return sorted((r for r in found if r is not None), key=lambda r: r.started_at)


def _read(path: Path, model: type[Any]) -> Any:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("schema_version") != SCHEMA:
            raise ResultError(
                f"{path} has schema {data.get('schema_version')}, this version reads {SCHEMA}"
            )
        return model.model_validate(data)
    except FileNotFoundError:
        raise ResultError(f"{path} is not there; `ls results` shows the runs") from None
    except (json.JSONDecodeError, ValidationError) as error:
        raise ResultError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def create(results: Path, run_id: str) -> Run:
    """Make a run's folder; raise ResultError where that cannot be."""
    folder = results / run_id
    try:
        (folder / "cells").mkdir(parents=True)
    except OSError as error:
        raise ResultError(f"{folder} cannot be written: {error.strerror}") from None
    return Run(folder)


def point_latest(results: Path, run_id: str) -> None:
    """Make `results/latest` a link to the run, in one step."""
    link = results / ".latest.new"
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(run_id)
    link.rename(results / "latest")


def find(results: Path, run_id: str) -> Run:
    """Return an existing run by its id or `latest`; raise ResultError when unknown."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", run_id) or not (results / run_id).is_dir():
        known = ", ".join(sorted(p.name for p in _runs(results))[-3:]) or "none yet"
        raise ResultError(f"unknown run {run_id!r}; newest runs: {known}")
    return Run((results / run_id).resolve())


def _runs(results: Path) -> Iterator[Path]:
    return (p for p in results.glob("*/") if not p.is_symlink())
