"""The ladder on real servers: rungs write what they acknowledge, and crashes cost what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from lab.ladder import generator, plan, tables
from lab.ladder.crash import CrashRun
from lab.ladder.rung import RungRun
from lab.ladder.settings import LadderSettings
from lab.paths import ROOT
from lab.results import Run
from lab.settings import Settings
from lab.stack.base import Endpoints

from .conftest import Lab
from .exporter_servers import free_port

KNOWN = {rung.name: rung for rung in plan.catalogue()}


@pytest.fixture(scope="module")
def ground(lab: Lab) -> Iterator[tuple[Settings, Endpoints]]:
    """PostgreSQL without limits, PgBouncer, and the ladder's tables."""
    settings = lab.settings(ROUTE="pgbouncer", DB_CPUS=2, DB_MEMORY="2g", METRICS="off")
    endpoints = lab.stack.start_database(settings)
    with lab.sql(endpoints) as connection:
        tables.make(connection)
    yield settings, endpoints
    endpoints = lab.stack.start_database(settings)
    with lab.sql(endpoints) as connection:
        tables.drop(connection)


def write(rung: str, folder: Path, endpoints: Endpoints, **more: Any) -> tuple[int, str]:
    """Let the generator write for some tenths of a second; return its exit code and words."""
    own = LadderSettings(rungs=rung, pool=4)
    command = generator.command(
        KNOWN[rung], own, endpoints, folder, seed=42, prepares=False, metrics_port=None
    )
    given = {"WARMUP": 0, "DURATION": 0.2} | more
    env = command.env | {f"LADDER_{name}": str(value) for name, value in given.items()}
    done = subprocess.run(
        command.args, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def bodies() -> dict[str, list[tuple[Any, ...]]]:
    """The first rows of each rung, to be compared."""
    return {}


@pytest.mark.parametrize("rung", list(KNOWN))
def test_rung_writes_what_it_acknowledges(
    lab: Lab, ground: tuple[Settings, Endpoints], tmp_path: Path, rung: str,
    bodies: dict[str, list[tuple[Any, ...]]],
) -> None:  # fmt: skip
    """Rows in the table are those acknowledged, they are the same on every rung, by one role."""
    _, endpoints = ground
    with lab.sql(endpoints) as connection:
        tables.empty(connection)
        code, words = write(rung, tmp_path, endpoints)
        assert code == 0, words
        account = generator.account(tmp_path)
        assert account.adds_up()
        assert account.unknown == []
        assert account.acknowledged_rows > 0
        assert tables.count(connection, KNOWN[rung].table) == account.acknowledged_rows
        assert account.highest_memory_bytes < 300 * 2**20
        query = f"SELECT * FROM {KNOWN[rung].table} WHERE id < 3 ORDER BY id"
        first = connection.execute(query.encode()).fetchall()
    assert len(first) == 3
    # A batch takes its bodies from another place than single rows only after the first round.
    assert first == bodies.setdefault("first", first)


def test_paced_writes_keep_their_rate_and_serve_metrics(
    ground: tuple[Settings, Endpoints], tmp_path: Path
) -> None:
    """TARGET_TPS=50 gives 50 rows a second, no more, and the counts can be scraped meanwhile."""
    _, endpoints = ground
    port = free_port()
    seen: list[str] = []

    def scrape() -> None:
        while not (tmp_path / "result.json").exists():
            try:
                text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
                seen.append(text)
            except httpx.HTTPError:
                continue

    watching = threading.Thread(target=scrape)
    watching.start()
    code, words = write(
        "2", tmp_path, endpoints, TARGET_TPS=50, DURATION=2, METRICS_PORT=port, INTERVAL=1
    )
    watching.join()
    assert code == 0, words
    started = json.loads((tmp_path / "started.json").read_text())
    lines = generator.seconds(tmp_path)
    inside = generator.window(lines, started["window_start"], started["window_end"])
    assert inside.rows <= 2 * 50 + 50
    assert any('ladder_rows_total{outcome="acknowledged",rung="2"}' in text for text in seen)
    assert "ladder_write_duration_seconds_bucket" in seen[-1]
    assert len((tmp_path / "ladder_metrics.csv").read_text().splitlines()) >= 3


def test_what_cannot_be_written_is_counted_and_never_acknowledged(
    lab: Lab, ground: tuple[Settings, Endpoints], tmp_path: Path
) -> None:
    """No right to insert: every attempt is an error with its words, and no row is claimed."""
    _, endpoints = ground
    with lab.sql(endpoints) as connection:
        tables.empty(connection)
        connection.execute("REVOKE INSERT ON ladder_rows FROM poolscope_service")
        try:
            code, words = write("3-D-500", tmp_path, endpoints)
        finally:
            connection.execute("GRANT INSERT ON ladder_rows TO poolscope_service")
    assert code == 0, words
    account = generator.account(tmp_path)
    assert (account.acknowledged_rows, account.unknown) == (0, [])
    assert account.refused_rows > 0
    kinds = {kind for second in generator.seconds(tmp_path) for kind in second["errors"]}
    assert any("42501" in kind for kind in kinds)


def test_a_server_that_is_not_there_is_one_line(
    ground: tuple[Settings, Endpoints], tmp_path: Path
) -> None:
    """A pool that cannot be opened ends the generator; a bad setting does too."""
    _, endpoints = ground
    code, words = write("2-B", tmp_path, endpoints, PORT=free_port())
    assert code == 2
    assert words.startswith("ladder: NotSent: ")
    assert len(words.splitlines()) == 1
    code, words = write("2-B", tmp_path, endpoints, BATCH=0)
    assert code == 2
    assert words.startswith("ladder: LADDER_BATCH")


def step(rung: str, name: str = "") -> plan.Step:
    """Return a step that measures a rung with a small pool."""
    small = KNOWN[rung].set_up(LadderSettings(pool=4))
    return plan.Step(f"{rung}-{name or 'r1'}", rung, 1, small)


OWN = LadderSettings(pool=4, duration=2, warmup=0)


def test_a_database_that_dies_rejects_the_rung_and_the_next_goes_on(
    lab: Lab, ground: tuple[Settings, Endpoints], tmp_path: Path
) -> None:
    """The reason is said, the rows are still settled, and the next rung finds PostgreSQL again."""
    settings, _ = ground

    def kill(phase: str, length_s: float | None) -> None:
        if phase == "measuring":
            threading.Timer(0.3, lab.stack.kill_database).start()

    run = Run(tmp_path)
    died = RungRun(step("2-B"), OWN, settings, lab.stack, run, 2, kill).measure()
    assert died.status == "rejected"
    assert any("postgres" in why for why in died.reject_reasons), died.reject_reasons
    assert died.verification is not None
    assert died.verification.right, died.verification.why
    after = RungRun(step("3-C-500"), OWN, settings, lab.stack, run, 2).measure()
    assert after.measured is not None, after.reject_reasons
    assert after.verification is not None
    assert after.verification.right
    assert after.measured.wal_bytes_per_row is not None
    assert after.measured.db_cores is not None
    assert after.measured.statements_per_row == pytest.approx(5 / 500, rel=0.5)


@pytest.mark.parametrize("rung", ["2-B", "3-A", "3-F"])
def test_crash_costs_what_the_rung_says(
    lab: Lab, ground: tuple[Settings, Endpoints], tmp_path: Path, rung: str
) -> None:
    """SIGKILL in mid-write: committed rows stay, relaxed ones up to their window, unlogged none."""
    settings, _ = ground
    record = CrashRun(step(rung), OWN, settings, lab.stack, Run(tmp_path), 2).test()
    found = record.verification
    assert found is not None, record.reject_reasons
    assert found.torn_writes == 0
    if rung != "3-A":  # on a busy host PostgreSQL's WAL writer may come too late for its window
        assert record.status == "accepted", record.reject_reasons
    if rung == "2-B":
        assert found.lost_rows == 0
    if rung == "3-F":
        assert found.lost_rows > 0


def test_tables_left_behind_are_removed_by_name_and_nothing_else(
    lab: Lab, ground: tuple[Settings, Endpoints]
) -> None:
    """A table of another name stays."""
    _, endpoints = ground
    with lab.sql(endpoints) as connection:
        connection.execute("CREATE TABLE ladder_rows_of_mine (id integer)")
        try:
            assert tables.left_over(connection) == sorted(tables.TABLES)
            tables.drop(connection)
            assert tables.left_over(connection) == []
            connection.execute("SELECT * FROM ladder_rows_of_mine")
        finally:
            connection.execute("DROP TABLE ladder_rows_of_mine")
            tables.make(connection)


def test_bad_words_end_the_command_with_one_line(scratch: Path) -> None:
    """Exit code 2, before anything starts."""
    own = {"POOLSCOPE_HOME": scratch / "home", "POOLSCOPE_ENV_FILE": scratch / "env"}
    env = os.environ | {name: str(path) for name, path in own.items()}
    for words, message in (
        (["POOL=0"], "lab: POOL='0'"),
        (["POOL=5000"], "lab: rung 2 needs 5000 connections"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "lab", "ladder", *words],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.startswith(message)
        assert len(done.stderr.splitlines()) == 1


def test_only_inserting_is_allowed(lab: Lab, ground: tuple[Settings, Endpoints]) -> None:
    """The role that writes may not read, change or delete."""
    _, endpoints = ground
    service = psycopg.conninfo.make_conninfo(
        endpoints.superuser, user=endpoints.service_role, password=endpoints.service_password
    )
    with psycopg.connect(service, autocommit=True) as connection:
        for statement in (
            b"SELECT * FROM ladder_rows",
            b"DELETE FROM ladder_rows",
            b"UPDATE ladder_rows SET note = ''",
            b"TRUNCATE ladder_rows",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
