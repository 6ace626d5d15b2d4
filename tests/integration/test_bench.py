"""`lab bench` as a user runs it: whole runs, interrupted ones, resumed ones, and mistakes."""

from __future__ import annotations

import csv
import json
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.paths import ROOT
from lab.stack.home import Home
from lab.stack.toolchain import Toolchain

from . import stacks
from .conftest import own_environment, remove_what_is_left

LAB = [sys.executable, "-m", "lab"]
SMALL = ["PRESET=smoke", "FRAMEWORK=flask", "WARMUP=1", "WINDOW=3", "USERS=4"]

Isolated = Callable[..., dict[str, str]]


def lab(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a lab command to its end."""
    return subprocess.run(
        [*LAB, *words], env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )


def left_behind(env: dict[str, str]) -> list[str]:
    """Return what still belongs to a home."""
    return stacks.left_behind(Home(Path(env["POOLSCOPE_HOME"])))


Finished = tuple[dict[str, str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def finished(programs: Toolchain) -> Iterator[Finished]:
    """A run that ended by itself, with its environment."""
    folder = Path(tempfile.mkdtemp(prefix="poolscope-test-"))
    folder.chmod(0o755)
    env = own_environment(folder, programs)
    yield env, lab(env, "bench", *SMALL)
    remove_what_is_left(folder)


@pytest.mark.stack
def test_a_run_leaves_what_it_promises_and_nothing_else(finished: Finished) -> None:
    """A run ends with every file of the design, hashes that match, and nothing running."""
    env, done = finished
    assert done.returncode in (0, 3), done.stderr
    folder = Path(env["POOLSCOPE_RESULTS"]) / "latest"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert len(manifest["cells"]) == 2
    for name in ("summary.csv", "summary_report.md", "report.html", "panels.json.gz",
                 "plots/rps_comparison.png", "plots/p95_latency_comparison.png"):  # fmt: skip
        assert (folder / name).stat().st_size > 0, name
        assert name in manifest["files"]
    rows = list(csv.DictReader((folder / "summary.csv").open()))
    assert {row["route"] for row in rows} == {"direct", "pgbouncer"}
    for cell in manifest["cells"]:
        kept = {path.name for path in (folder / "cells" / cell).iterdir()}
        assert {"record.json", "record.sha256", "samples.json", "locust_stats.csv"} <= kept
    secrets = [
        line.split("=")[1]
        for line in Path(env["POOLSCOPE_ENV_FILE"]).read_text().splitlines()
        if "PASSWORD=" in line
    ]
    assert len(secrets) == 5
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [s for s in secrets if s.encode() in data], path
    assert not [s for s in secrets if s in done.stdout + done.stderr]
    assert not left_behind(env)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.stack)]
)
def test_interrupted_run_leaves_nothing_and_resumes(isolated: Isolated, number: int) -> None:
    """A run ended at random moments leaves nothing behind (after SIGKILL: with the next start),
    keeps its accepted cells, and RESUME measures only the others.
    """  # noqa: D205
    env = isolated()
    rng = random.Random(int(number))
    results = Path(env["POOLSCOPE_RESULTS"])
    moments = (rng.uniform(0.5, 3), rng.uniform(4, 8), rng.uniform(13, 18))
    # SIGTERM goes the way of SIGINT: it is tried once.
    for after_s in moments[1:2] if number == signal.SIGTERM else moments:
        process = subprocess.Popen(
            [*LAB, "bench", *SMALL], env=env, cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        time.sleep(after_s)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        if process.returncode in (0, 3):
            continue  # it had ended before
        assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), output
        assert "Traceback" not in output
        if number == signal.SIGKILL:
            assert lab(env, "down").returncode == 0
        assert not left_behind(env), f"after {after_s:.1f} s"
    if number == signal.SIGTERM:
        return
    unfinished = [
        path.parent.name
        for path in sorted(results.glob("*-*/manifest.json"))
        if json.loads(path.read_text())["status"] != "finished"
    ]
    if not unfinished:
        process_cells(env, results)
        unfinished = [sorted(results.glob("*-*"))[-1].name]
    records = results / unfinished[-1] / "cells"
    before = {p: p.read_bytes() for p in records.glob("*/record.json") if accepted(p)}
    done = lab(env, "bench", f"RESUME={unfinished[-1]}")
    assert done.returncode in (0, 3), done.stderr
    assert all(path.read_bytes() == content for path, content in before.items())
    assert done.stdout.count("reused") >= len(before)
    manifest = json.loads((results / unfinished[-1] / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert not left_behind(env)


def accepted(path: Path) -> bool:
    """Return whether a cell's record is whole, and accepted."""
    return path.with_suffix(".sha256").exists() and '"status": "accepted"' in path.read_text()


def process_cells(env: dict[str, str], results: Path) -> None:
    """Make an unfinished run out of a finished one: one cell's seal is lost."""
    assert lab(env, "bench", *SMALL).returncode in (0, 3)
    newest = sorted(results.glob("*-*"))[-1]
    next(newest.glob("cells/*/record.sha256")).unlink()


def test_resume_reuses_accepted_cells_only(finished: Finished) -> None:
    """A whole accepted cell is reused; one without its seal is measured again; a changed one,
    other settings or another version of a program are refused.
    """  # noqa: D205
    env, _ = finished
    run = (Path(env["POOLSCOPE_RESULTS"]) / "latest").resolve()
    first, second = sorted(run.glob("cells/*"))
    accepted = json.loads((second / "record.json").read_text())["status"] == "accepted"
    (first / "record.sha256").unlink()
    done = lab(env, "bench", f"RESUME={run.name}")
    assert done.returncode in (0, 3), done.stderr
    assert second.name in done.stdout
    assert ("reused" in done.stdout) == accepted
    assert (first / "record.sha256").exists()

    manifest = (run / "manifest.json").read_text()
    older = re.sub(r'"postgres": "[\d.]+"', '"postgres": "9.6"', manifest)
    (run / "manifest.json").write_text(older)
    refused = lab(env, "bench", f"RESUME={run.name}")
    assert refused.returncode == 2
    assert "was made with postgres 9.6, here is " in refused.stderr
    (run / "manifest.json").write_text(manifest)

    env_file = Path(env["POOLSCOPE_ENV_FILE"])
    kept = env_file.read_text()
    env_file.write_text(kept.replace("THREADS=8", "THREADS=4"))
    refused = lab(env, "bench", f"RESUME={run.name}")
    assert refused.returncode == 2
    assert "other settings" in refused.stderr
    env_file.write_text(kept)
    record = first / "record.json"
    record.write_text(record.read_text().replace('"flask"', '"django"', 1))
    refused = lab(env, "bench", f"RESUME={run.name}")
    assert refused.returncode == 2
    assert "does not match its hash" in refused.stderr


def test_a_second_start_says_who_holds_the_lock(isolated: Isolated) -> None:
    """One run at a time: the second one names the first and its process, and changes nothing."""
    env = isolated()
    process = subprocess.Popen(
        [*LAB, "bench", *SMALL], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()  # it has the lock by then
    refused = lab(env, "bench", *SMALL)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert refused.returncode == 2
    assert "is in use by `make bench PRESET=smoke" in refused.stderr
    assert str(process.pid) in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.stack
def test_up_status_logs_and_down(isolated: Isolated) -> None:
    """`up` leaves a watched service running, which survives it; `down` ends all of it."""
    env = isolated()
    try:
        up = lab(env, "up", "FRAMEWORK=flask", "ROUTE=pgbouncer")
        assert up.returncode == 0, up.stderr
        assert "http://127.0.0.1:" in up.stdout
        status = lab(env, "status").stdout
        for name in ("postgres", "pgbouncer", "flask", "prometheus", "exporter"):
            assert name in status
        assert "Booting worker" in lab(env, "logs", "SERVICE=flask").stdout
        assert lab(env, "logs", "SERVICE=nothing").returncode == 2
        refused = lab(env, "bench", *SMALL)
        assert refused.returncode == 2
        assert "make down" in refused.stderr
    finally:
        down = lab(env, "down")
    assert "flask" in down.stdout
    assert not left_behind(env)
    assert "nothing is running" in lab(env, "status").stdout
    if stacks.TEST_STACK == "compose":
        home = Home(Path(env["POOLSCOPE_HOME"]))
        assert stacks.volumes(home)  # data are kept for the next start
        assert lab(env, "reset").returncode == 0
        assert not stacks.volumes(home)


BAD = {
    "unknown preset": (["PRESET=nothing"], "unknown preset 'nothing'; presets: "),
    "unknown toggle": (["USRES=10"], "unknown toggle USRES (command line); did you mean USERS?"),
    "not a word": (["USERS"], "'USERS' is not of the form NAME=value"),
    "out of range": (["USERS=0"], "USERS='0' (command line) is not allowed; allowed: a whole"),
    "wrong type": (["WINDOW=abc"], "WINDOW='abc' (command line) is not allowed"),
    "unknown value": (["ROUTE=sideways"], "allowed: direct, pgbouncer"),
    "no axis": (["POSTGRES_PORT=5000,5001"], "holds for a whole run and cannot be an axis"),
    "above the host": (["DB_CPUS=200"], "DB_CPUS=200 is above this host's"),
    "memory above the host": (["DB_MEMORY=9999g"], "DB_MEMORY=9999g is above this host's"),
    "contradiction": (["DB_POOL=psycopg"], "DB_POOL=psycopg is Django's own pool"),
    "worker class": (["FRAMEWORK=fastapi", "WORKER_CLASS=sync"], "cannot serve FRAMEWORK=fastapi"),
    "unknown run": (["RESUME=20200101-000000-quick"], "unknown run '20200101-000000-quick'"),
    "run outside": (["RESUME=../../etc"], "unknown run"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2(isolated: Isolated, name: str) -> None:
    """A mistake is said in one line; nothing is started and nothing is left."""
    words, message = BAD[name]
    env = isolated()
    done = lab(env, "bench", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(Path(env["POOLSCOPE_RESULTS"]).glob("*"))


def test_prepared_through_an_old_pgbouncer_is_refused_with_the_reason(isolated: Isolated) -> None:
    """DB_PREPARED=on by hand is refused where PgBouncer would lose statements, else it runs."""
    env = isolated()
    done = lab(env, "bench", *SMALL, "ROUTE=pgbouncer", "DB_PREPARED=on",
               "PGBOUNCER_MAX_PREPARED_STATEMENTS=0")  # fmt: skip
    assert done.returncode == 2
    assert "DB_PREPARED=on through PgBouncer" in done.stderr


def test_a_port_that_was_asked_for_is_not_replaced(isolated: Isolated) -> None:
    """A taken port gives way to the next, unless it was asked for: then it is an error."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = lab(isolated(), "bench", *SMALL, f"FLASK_PORT={port}")
    assert done.returncode == 2
    assert f"FLASK_PORT={port} was asked for, but 127.0.0.1:{port} is taken" in done.stderr


def test_results_that_cannot_be_written_stop_the_run(isolated: Isolated, tmp_path: Path) -> None:
    """A results folder that cannot be written is said before anything starts."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    done = lab(isolated(POOLSCOPE_RESULTS=str(blocked / "results")), "bench", *SMALL)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_a_data_folder_of_another_version_is_refused(isolated: Isolated) -> None:
    """PostgreSQL's data of another major version is named, with the way out, and kept."""
    env = isolated()
    data = Path(env["POOLSCOPE_HOME"]) / "data" / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9.6\n")
    done = lab(env, "bench", *SMALL)
    assert done.returncode == 2
    assert "is of PostgreSQL 9.6" in done.stderr
    assert (data / "PG_VERSION").read_text() == "9.6\n"


def test_data_of_another_password_is_named_with_the_way_out(isolated: Isolated) -> None:
    """Data made with a lost .env is refused at once; after `reset` it is made again."""
    env = isolated()
    assert lab(env, "seed").returncode == 0
    Path(env["POOLSCOPE_ENV_FILE"]).unlink()
    refused = lab(env, "seed")
    assert refused.returncode == 2
    assert "made with another POSTGRES_PASSWORD" in refused.stderr
    assert not left_behind(env)
    assert lab(env, "reset").returncode == 0
    assert lab(env, "seed").returncode == 0


def test_a_mistake_in_env_is_named(isolated: Isolated) -> None:
    """A wrong value in .env is said with its source, and an unknown name as well."""
    env = isolated()
    path = Path(env["POOLSCOPE_ENV_FILE"])
    path.write_text("THREADS=many\n")
    assert "THREADS='many' (.env)" in lab(env, "bench", *SMALL).stderr
    path.write_text("THREDS=4\n")
    assert "unknown toggle THREDS (.env); did you mean THREADS?" in lab(env, "bench").stderr


def test_doctor_finds_the_programs(isolated: Isolated) -> None:
    """`doctor` says what this host has, and ends with 0 where a run can start."""
    done = lab(isolated(), "doctor")
    assert done.returncode == 0, done.stdout
    for word in ("cores; limits:", "postgres", "pgbouncer", "GiB free"):
        assert word in done.stdout
