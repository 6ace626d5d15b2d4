"""Each verdict from the figures that make it, and never from figures that are missing."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from lab.diagnosis import diagnose
from lab.diagnosis.budget import budget, leaves
from lab.diagnosis.facts import (
    DATABASE,
    GENERATOR,
    HOST,
    PGBOUNCER,
    SERVICE,
    Cpu,
    Facts,
    pool_slots,
)
from lab.diagnosis.verdicts import RULES
from lab.paths import ROOT

from .diagnosis_facts import CALM, changed

FULL = Cpu(0.25, 0.25, 0.99, 0.9)
POOL_QUEUE: dict[str, Any] = {"pool_wait_ms": 60.0, "pool_slots": 2, "mean_ms": 160.0,
                              "server_ms": 155.0, "rps": 125.0, "use_ms": 16.0,
                              "statement_ms": 15.0, "executed_ms": 14.0}  # fmt: skip
#: Without the exporter, only the settings say what room there is.
BY_SETTINGS = "refused, exporter and all"
FAULTS: dict[str, tuple[str, Facts]] = {
    "calm": ("not-saturated", CALM),
    "database": ("database-cpu", changed({DATABASE: FULL})),
    "service": ("service-cpu", changed({SERVICE: Cpu(0.5, 0.5, 0.98, 0.9)})),
    "pgbouncer": ("pgbouncer-cpu", changed({PGBOUNCER: FULL})),
    "connecting": (
        "connection-set-up",
        changed({DATABASE: FULL}, {"DB_CONN_MAX_AGE": 0}, new_connections=1.0, connect_ms=70.0,
                statement_ms=10.0, executed_ms=5.0, pool_slots=None),
    ),
    "pool": ("service-pool", changed(**POOL_QUEUE)),
    "pool before a full database": (
        "database-cpu", changed({DATABASE: FULL}, waits={"none": 4.0}, **POOL_QUEUE),
    ),
    "two pools of one size": (
        "several", changed(**(POOL_QUEUE | {"pgbouncer_slots": 2, "pgbouncer_server_ms": 15.5})),
    ),
    "queue in pgbouncer": ("pgbouncer-pool", changed(pgbouncer_wait_ms=50.0, pgbouncer_slots=2)),
    "a queue that does not move": ("pgbouncer-pool", changed(clients_waiting=15.0)),
    "locks": (
        "database-locks", changed(lock_waits=15.0, waits={"Lock": 15.0, "none": 1.0}),
    ),
    "disk": ("database-wal-or-io", changed(waits={"IO": 12.0, "none": 2.0}, wal_bytes=300.0)),
    "commits": (
        "database-wal-or-io",
        changed(waits={"LWLock": 15.0, "none": 1.0}, wait_events={"LWLock/WALWrite": 15.0},
                executed_ms=0.1, wal_bytes=300.0),
    ),
    "refused": (
        "max-connections",
        changed({SERVICE: Cpu(0.5, 0.5, 0.99, 0.9)}, connections_room=0.0, error_rate=0.4,
                errors={"HTTP 503 database-unavailable": 400}),
    ),
    "threads": (
        "workers-or-backlog", changed(service_slots=20, mean_ms=300.0, users=60),
    ),
    "threads of uneven workers": (
        "workers-or-backlog",
        changed(service_slots=24, mean_ms=300.0, users=60, rps=195.0),
    ),
    "bursts of a throttled generator": (
        "load-generator-or-host",
        changed({GENERATOR: Cpu(0.05, 0.05, 1.0)}, mean_ms=200.0, pool_wait_ms=40.0),
    ),
    BY_SETTINGS: (
        "max-connections",
        changed({DATABASE: FULL}, {"POSTGRES_MAX_CONNECTIONS": 14}, route="direct",
                connections_room=None, max_connections=14, error_rate=0.4,
                errors={"HTTP 503 database-unavailable": 400}),
    ),
    "generator": (
        "load-generator-or-host", changed({GENERATOR: Cpu(0.95, 1.0, 0.95)}, mean_ms=200.0),
    ),
    "host": ("load-generator-or-host", changed({HOST: Cpu(1.96, 2, 0.98)})),
    "two": ("several", changed({DATABASE: FULL, SERVICE: Cpu(0.5, 0.5, 0.98, 0.9)})),
}  # fmt: skip


def test_time_between_service_and_database_is_unclear() -> None:
    """What neither PostgreSQL nor PgBouncer knows of is said, not called healthy."""
    found = diagnose(changed(executed_ms=5.0, waits={"none": 1.0}))
    assert found.verdict == "unclear"
    assert "81 ms" in found.summary


@pytest.mark.parametrize("name", FAULTS)
def test_diagnosis_names_each_fault(name: str) -> None:
    """One fault in a calm cell gives its verdict, with evidence, and a runbook of its name."""
    verdict, facts = FAULTS[name]
    found = diagnose(facts)
    assert found.verdict == verdict, [(c.name, c.state, c.why) for c in found.candidates]
    assert found.evidence
    assert found.runbook == f"monitoring/runbooks/{verdict}.md"
    assert len(found.candidates) == len(RULES)
    assert type(found).model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "calm"])
def test_diagnosis_gives_no_verdict_from_missing_figures(name: str) -> None:
    """Without any figure nothing limits; the verdict is unclear and says what is missing."""
    _, facts = FAULTS[name]
    bare = replace(Facts(subject="x"), settings=facts.settings, framework=facts.framework,
                   route=facts.route)  # fmt: skip
    found = diagnose(bare)
    assert found.verdict == "unclear"
    assert found.confidence < 0.5
    assert all(c.state in ("unknown", "ruled out") for c in found.candidates)


NO_FIGURES = {"subject", "settings", "framework", "route", "missing", "enforced"}
FIGURES = [f.name for f in fields(Facts) if f.name not in NO_FIGURES]


@pytest.mark.parametrize("figure", FIGURES)
def test_diagnosis_of_a_calm_cell_raises_no_alarm_when_a_figure_is_missing(figure: str) -> None:
    """Taking any one figure away makes no bottleneck appear."""
    empty = next(f for f in fields(Facts) if f.name == figure)
    default = {} if figure in ("errors", "cpu", "wait_events") else empty.default
    found = diagnose(replace(CALM, **{figure: default}))
    assert found.verdict in ("not-saturated", "unclear")


@pytest.mark.parametrize("verdict", sorted({v for v, _ in FAULTS.values()} - {"not-saturated"}))
def test_diagnosis_advises_and_predicts(verdict: str) -> None:
    """What limits has a remedy; one with settings has a prediction that is a gain."""
    facts = next(f for v, f in FAULTS.values() if v == verdict)
    found = diagnose(facts)
    assert found.remedy is not None
    assert found.remedy.settings or found.remedy.words
    if found.prediction is not None:
        p = found.prediction
        assert p.rps_low <= p.rps <= p.rps_high
        assert p.gain > 1


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - {BY_SETTINGS}))
def test_diagnosis_from_prometheus_alone_needs_no_settings(name: str) -> None:
    """Where nobody knows the settings, the verdict is the same and the remedy is in words."""
    verdict, facts = FAULTS[name]
    found = diagnose(replace(facts, settings={"DJANGO_MODE": "wsgi"}))
    assert found.verdict == verdict
    assert found.prediction is None
    assert found.remedy is None or found.remedy.text or found.remedy.words


def test_pages_that_are_read_get_no_remedy_for_commits() -> None:
    """Backends that wait for data files are not helped by commits that return early."""
    waits = {"waits": {"IO": 12.0, "none": 2.0}, "wal_bytes": 300.0}
    reading = diagnose(changed(**waits, wait_events={"IO/DataFileRead": 12.0}))
    assert reading.remedy is not None
    assert "POSTGRES_SHARED_BUFFERS" in reading.remedy.words
    writing = diagnose(changed(**waits, wait_events={"IO/WALSync": 12.0}))
    assert writing.remedy is not None
    assert writing.remedy.settings == {"POSTGRES_SYNCHRONOUS_COMMIT": "off"}


def test_connections_beyond_the_pool_are_kept_by_a_larger_pool() -> None:
    """A connection of the overflow is closed after use: DB_CONN_MAX_AGE is set already."""
    found = diagnose(
        changed({DATABASE: FULL}, {"DB_POOL_SIZE": 2, "DB_MAX_OVERFLOW": 6}, connect_ms=70.0,
                new_connections=0.8, statement_ms=10.0, executed_ms=5.0)
    )  # fmt: skip
    assert found.verdict == "connection-set-up"
    assert found.remedy is not None
    assert found.remedy.settings == {"DB_POOL_SIZE": "8"}


def test_limits_that_are_not_enforced_are_not_raised() -> None:
    """Where a limit has no effect, another value of it has none either."""
    found = diagnose(replace(changed({DATABASE: FULL}), enforced=False))
    assert found.verdict == "database-cpu"
    assert found.remedy is not None
    assert not found.remedy.settings
    assert "more cores" in found.remedy.words


def test_threads_are_no_more_than_postgresql_has_room_for() -> None:
    """Each thread takes a connection of its own on the direct route."""
    found = diagnose(
        changed(None, {"ROUTE": "direct"}, route="direct", service_slots=20, mean_ms=3000.0,
                users=600, connections_room=10.0)
    )  # fmt: skip
    assert found.verdict == "workers-or-backlog"
    assert found.remedy is not None
    assert int(found.remedy.settings["THREADS"]) * 5 <= 30


def test_django_without_lasting_threads_has_a_pool() -> None:
    """Under ASGI and gevent its persistent connections are pooled, overflow included."""
    settings = CALM.settings | {"DB_POOL_SIZE": 4, "DB_MAX_OVERFLOW": 2, "WORKERS": 3}
    assert pool_slots("django", settings) is None
    assert pool_slots("django", settings | {"DJANGO_MODE": "async"}) == 18
    assert pool_slots("django", settings | {"WORKER_CLASS": "gevent"}) == 18
    assert pool_slots("django", settings | {"DB_POOL": "psycopg"}) == 18


def test_a_commits_wait_is_no_part_of_executing() -> None:
    """Statements do not execute while they commit: their wait has a figure of its own."""
    waits = {"waits": {"IO": 10.0, "Lock": 5.0, "none": 5.0}, "wait_events": {"IO/WALSync": 10.0}}
    assert changed(**waits).held_up == pytest.approx(0.5)


def test_budget_adds_up() -> None:
    """The leaves sum to the client's mean, and an injected delay shows in its own part alone."""
    found = budget(CALM)
    assert found.complete
    assert sum(part.ms for part in leaves(found)) == pytest.approx(100.0)
    slower = budget(
        replace(CALM, mean_ms=140.0, server_ms=135.0, statement_ms=125.0, executed_ms=120.0)
    )
    before, after = ({p.name: p.ms for p in leaves(b)} for b in (found, slower))
    moved = {name for name in before if abs(after[name] - before[name]) > 1e-9}
    assert moved == {"executing"}


def test_budget_says_what_is_missing() -> None:
    """A part that was not measured is named, and none is put in its place."""
    found = budget(replace(CALM, executed_ms=None))
    assert not found.complete
    assert "pg_stat_statements" in found.missing[0]
    assert "executing" not in {part.name for part in found.parts}
    assert budget(replace(CALM, server_ms=None)).parts == []


def test_budget_shows_parts_that_exceed_the_whole() -> None:
    """Measured parts of more than the whole are an error, not a negative part."""
    found = budget(replace(CALM, statement_ms=110.0))
    assert found.error == pytest.approx(0.161)
    assert not found.complete
    assert all(part.ms >= 0 for part in found.parts)


def test_every_verdict_has_a_runbook() -> None:
    """The page that a diagnosis points to is there."""
    names = {rule.name for rule in RULES} | {"not-saturated", "several", "unclear"}
    missing = [n for n in names if not (ROOT / "monitoring/runbooks" / f"{n}.md").is_file()]
    assert not missing
