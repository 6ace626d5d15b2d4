r"""What PostgreSQL can take without Python: `psql \copy` of the same rows, pgbench for single ones.

Both write into the same empty table through the same role as the rungs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from lab import ceiling
from lab.errors import ServiceError
from lab.paths import ROOT
from lab.stack.base import Endpoints, LadderStack

SCRIPT = "ladder-insert.sql"
#: Rows of the file and bytes of a line, some 190 MB: two seconds and more of COPY on any machine
#: seen.
ROWS, LINE_BYTES = 2_000_000, 100
#: The file's name in the folder that is given: one that an interrupted run left is written over.
FILE = "ladder-rows.txt"
NEEDS = f"it needs {ROWS * LINE_BYTES / 1e6:.0f} MB there"
CLIENTS = 50
GRACE_S = 120
COLUMNS = "id, user_id, amount, note, created_at"


@dataclass(frozen=True)
class Found:
    """A ceiling's figures; `rows` were acknowledged in `seconds`."""

    rows: int
    seconds: float
    commits: int
    latency_ms: float | None
    method: str


def copy(stack: LadderStack, endpoints: Endpoints, folder: Path, seed: int) -> Found:
    r"""Time `psql \copy` of a file of the ladder's rows; raise ServiceError where it fails."""
    psql, env = _psql(stack)
    path = folder / FILE
    try:
        _make_rows(path, seed)
        statement = f"\\copy ladder_rows ({COLUMNS}) from '{path}'"
        args = [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command", statement]
        began = time.perf_counter()
        _run(args, env | _where(endpoints), "psql \\copy")
        seconds = time.perf_counter() - began
    finally:
        path.unlink(missing_ok=True)
    return Found(ROWS, seconds, 1, seconds * 1000, f"psql \\copy of {ROWS:,} rows in one commit")


def single(stack: LadderStack, endpoints: Endpoints, duration_s: int) -> Found:
    """Let pgbench insert single rows, prepared; raise ServiceError where it fails."""
    pgbench = stack.pgbench()
    jobs = min(CLIENTS, psutil.cpu_count() or 1)
    args = [
        *(*pgbench.command, "--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}"),
        *(f"--jobs={jobs}", f"--time={duration_s}", "--define=n=0"),
        f"--file={pgbench.folder}/{SCRIPT}",
    ]
    output = _run(args, pgbench.env | _where(endpoints), "pgbench")
    found = ceiling.parse(output, "insert", "direct", "prepared", connects=False)
    assert found.tps is not None
    count = re.search(r"^number of transactions actually processed: (\d+)", output, re.MULTILINE)
    assert count is not None
    rows = int(count[1])
    method = f"pgbench, single rows, {CLIENTS} clients"
    return Found(rows, rows / found.tps, rows, found.latency_ms, method)


def _psql(stack: LadderStack) -> tuple[str, dict[str, str]]:
    """Return psql and its environment: it lies beside pgbench, or on the path."""
    pgbench = stack.pgbench()
    beside = Path(pgbench.command[0]).with_name("psql")
    if beside.is_file():
        return str(beside), pgbench.env
    if found := shutil.which("psql"):
        return found, {"PATH": os.environ.get("PATH", os.defpath)}
    raise ServiceError("psql is not there, so the ceiling was not measured; install it")


def _where(endpoints: Endpoints) -> dict[str, str]:
    host, port = endpoints.postgres
    return {
        "PGHOST": host,
        "PGPORT": str(port),
        "PGDATABASE": endpoints.database,
        "PGUSER": endpoints.service_role,
        "PGPASSWORD": endpoints.service_password,
        "PGSSLMODE": "disable",
        "LC_ALL": "C",
    }


def _make_rows(path: Path, seed: int) -> None:
    args = [sys.executable, "-m", "loadtest.ladder", "--rows", str(ROWS), str(seed)]
    env = {"PATH": os.environ.get("PATH", os.defpath)}
    try:
        with path.open("wb") as file:
            done = subprocess.run(
                args, cwd=ROOT, env=env, stdout=file, stderr=subprocess.PIPE, check=False
            )
    except OSError as error:
        raise ServiceError(f"{path}, the ceiling's rows: {error.strerror}; {NEEDS}") from None
    if done.returncode:
        # The last line of a traceback is the one that says what it was: no space left, mostly.
        why = done.stderr.decode().strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ServiceError(f"{path}, the ceiling's rows, was not written: {why[0]}; {NEEDS}")


def _run(args: list[str], env: Mapping[str, str], what: str) -> str:
    try:
        done = subprocess.run(
            args, env=dict(env), capture_output=True, text=True, timeout=GRACE_S, check=False
        )
    except OSError as error:
        raise ServiceError(f"{what} does not start: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise ServiceError(f"{what} did not end within {GRACE_S} s") from None
    if done.returncode:
        raise ServiceError(f"{what} failed: {' '.join(done.stderr.split())[:300]}")
    return done.stdout
