"""Faults made on purpose on real servers get their verdict; the whole suite is `diagnosis-suite`.

A host that is busy with other things may be the bottleneck itself or have a cell rejected, so one
of the verdicts may be missed; a healthy cell may raise no alarm.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from psycopg import sql

from lab.diagnosis import Diagnosis, diagnose_record, live
from lab.diagnosis.experiments.faults import CLASSES, faults
from lab.diagnosis.facts import from_record
from lab.results import CellRecord, Run

from .conftest import Lab
from .test_cell import Watching, measure

#: One each, but those that restart PostgreSQL or differ from another in the limited part only.
SHORT = (
    *("connect", "service-pool", "pgbouncer-pool", "database-cpu"),
    *("hot-row", "workers", "generator", "healthy"),
)
ALARMS = {rule for kind in CLASSES.values() for rule in kind.expected} - {"not-saturated"}


def test_diagnosis_names_faults_made_on_purpose(lab: Lab, tmp_path: Path) -> None:
    """The short form of the suite, and the same from Prometheus alone while a fault is there."""
    seen: list[Diagnosis] = []
    wrong: list[str] = []
    for fault in faults(list(SHORT), 1):
        look = fault.kind.name == "service-pool"
        record = _measured(lab, tmp_path / fault.name, dict(fault.settings), seen, look=look)
        found = diagnose_record(record)
        kept = Run(tmp_path / fault.name).cell_folder("cell") / "diagnosis.json"
        assert Diagnosis.model_validate_json(kept.read_text()).verdict == found.verdict
        assert record.verdict == found.label
        counts = record.status == "accepted" or fault.kind.name == "generator"
        if counts and not fault.kind.right(found.verdict, found.limits):
            wrong.append(f"{fault.name}: {found.label}: {found.summary}")
            assert fault.kind.name != "healthy" or found.verdict not in ALARMS, wrong
        facts = from_record(record)
        if facts is not None and record.status == "accepted":
            assert found.budget.error is not None
            assert found.budget.error < 0.1, (fault.name, found.budget)
    assert len(wrong) <= 1, wrong
    assert seen
    assert seen[0].verdict in ("service-pool", "unclear"), seen[0].summary
    assert seen[0].budget.parts


def _measured(
    lab: Lab, folder: Path, settings: dict[str, Any], seen: list[Diagnosis], *, look: bool
) -> CellRecord:
    """Measure one cell; `look`: diagnose it live at the window's end as well."""
    watching = Watching()
    if look:
        watching = Watching("stopping the load", lambda: seen.append(_live(lab)))
    record = measure(lab, folder, watching, WARMUP=6 if look else 2, WINDOW=4, **settings)
    deadline = time.monotonic() + 10
    while look and not seen and time.monotonic() < deadline:
        time.sleep(0.05)
    return record


def _live(lab: Lab) -> Diagnosis:
    return live.diagnose(f"http://127.0.0.1:{lab.stack.ports['prometheus_port']}")


def test_diagnosis_names_commits_that_wait(lab: Lab, tmp_path: Path) -> None:
    """PostgreSQL's own commit_delay keeps the WAL from being flushed, as a slow disk would."""
    slow = {"commit_delay": 100_000, "commit_siblings": 0}
    _, endpoints = lab.start(SCENARIO="insert")
    role = sql.Identifier(endpoints.service_role)
    try:
        with lab.sql(endpoints) as db:
            for name, value in slow.items():
                command = sql.SQL("ALTER ROLE {} SET {} = {}")
                db.execute(command.format(role, sql.Identifier(name), sql.Literal(value)))
        settings = {"SCENARIO": "insert", "FRAMEWORK": "flask", "USERS": 15, "THREADS": 16}
        record = measure(lab, tmp_path, **settings, DB_POOL_SIZE=16, WARMUP=6, WINDOW=8)
    finally:
        with lab.sql(endpoints) as db:
            for name in slow:
                db.execute(sql.SQL("ALTER ROLE {} RESET {}").format(role, sql.Identifier(name)))
    found = diagnose_record(record)
    assert found.verdict == "database-wal-or-io", (record.reject_reasons, found)
    assert found.remedy is not None
    assert found.remedy.settings == {"POSTGRES_SYNCHRONOUS_COMMIT": "off"}
    assert found.prediction is not None
    assert found.prediction.gain > 2
    parts = {part.name: part.share for part in found.budget.parts}
    assert parts["committing"] > 0.4, found.budget  # sampled, every two seconds
