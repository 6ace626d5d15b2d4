"""The ladder on real servers: rungs write what they acknowledge, and crashes cost what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from lab.errors import ServiceError
from lab.ladder import generator, plan, tables
from lab.ladder.crash import CrashRun
from lab.ladder.rung import RungRun
from lab.ladder.settings import LadderSettings
from lab.ladder.verdict import judge
from lab.paths import ROOT
from lab.results import Run
from lab.settings import Settings
from lab.snapshot import archive
from lab.stack.base import Endpoints
from tests.unit.scrapes import taken

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
        KNOWN[rung].set_up(own), own, endpoints, folder, seed=42, prepares=False, metrics_port=None
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
                seen.append(taken(text))
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


@pytest.mark.parametrize("rung", ["2-C", "3-D-500"])
def test_paced_batches_reach_their_rate(
    lab: Lab, ground: tuple[Settings, Endpoints], tmp_path: Path, rung: str
) -> None:
    """TARGET_TPS=200: 500 rows at a time would be four writes in ten seconds."""
    settings, _ = ground
    own = LadderSettings(rungs=rung, target_tps="200", duration=4)
    (chosen,) = plan.choose(list(KNOWN.values()), own)
    one = plan.Step(f"{rung}-r1", rung, 1, chosen)
    found = RungRun(one, own, settings, lab.stack, Run(tmp_path), 2).measure()
    assert found.measured is not None, found.reject_reasons
    assert found.measured.rows_per_s == pytest.approx(200, rel=0.03)
    assert found.measured.writes == pytest.approx(40, abs=1)
    assert (found.batch, found.verification and found.verification.right) == (20, True)
    assert "20 rows per write call" in found.notes[0]
    verdict = judge(found, None)
    assert verdict is not None
    assert verdict.limit == "the intended rate"


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


def test_rows_are_counted_at_one_moment_after_the_last_write(
    lab: Lab, ground: tuple[Settings, Endpoints]
) -> None:
    """A commit that is still under way is waited for, and one between two counts is in neither."""
    _, endpoints = ground
    role = endpoints.service_role
    service = psycopg.conninfo.make_conninfo(
        endpoints.superuser, user=role, password=endpoints.service_password
    )

    def insert(connection: psycopg.Connection, key: int) -> None:
        row = (key, 1, 1, "", "2026-01-01")
        connection.execute("INSERT INTO ladder_rows VALUES (%s, %s, %s, %s, %s)", row)

    with lab.sql(endpoints) as own, psycopg.connect(service) as writer:
        tables.empty(own)
        insert(writer, 1)
        with (
            pytest.raises(ServiceError, match=f"1 backends of {role} still write 0.2 s"),
            tables.settled(endpoints.superuser, role, within_s=0.2),
        ):
            pass
        late = threading.Timer(0.3, writer.commit)
        late.start()
        with tables.settled(endpoints.superuser, role) as connection:
            assert tables.settle(connection, "ladder_rows", [(1, 1)]) == (1, 0)
            insert(own, 2)
            assert tables.count(connection, "ladder_rows") == 1
        late.join()
        assert tables.count(own, "ladder_rows") == 2


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
        (["POSTGRES_SYNCHRONOUS_COMMIT=off"], "lab: POSTGRES_SYNCHRONOUS_COMMIT (command line)"),
        (["RUNGS=1", "BATCH=5"], "lab: BATCH=5 means nothing to RUNGS=1"),
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


def test_a_run_leaves_a_report_and_panels_that_need_no_server(
    isolated: Callable[..., dict[str, str]], scratch: Path
) -> None:
    """Prometheus is asked before it ends; a snapshot of one rung can be made afterwards."""
    env = isolated()

    def lab_(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "lab", *words],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 3), done.stderr  # a busy host may reject figures
        return done.stdout

    lab_("ladder", "RUNGS=3-D-500", "DURATION=6", "STACK=native")
    latest = scratch / "results" / "latest"
    manifest = json.loads((latest / "manifest.json").read_text())
    assert (manifest["status"], manifest["notes"]) == ("finished", [])
    assert {"ladder.csv", "report.html", "panels.json.gz"} <= set(manifest["files"])
    (window,) = archive.read(Run(latest.resolve())).data["poolscope-ladder"].marks["Window"]
    assert window.text == "3-D-500-r1"
    assert window.end is not None
    assert 2 <= window.end - window.time <= 6
    assert not (scratch / "home" / "run" / "ladder-rows.txt").exists()
    lab_("snapshot", "CELL=3-D-500-r1", "DASHBOARD=ladder")
    page = latest / "snapshots" / "3-D-500-r1" / "poolscope-ladder.html"
    assert "COPY (binary), batches of 500" in page.read_text()
