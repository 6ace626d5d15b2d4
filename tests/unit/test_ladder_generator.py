"""The generator's parts: rows and keys, what an error means, pace, and the account."""

from __future__ import annotations

import asyncio
import csv
import struct
import time
from pathlib import Path

import asyncpg
import psycopg
import pytest

from loadtest.ladder import rows
from loadtest.ladder.account import COLUMNS, Account
from loadtest.ladder.catalog import LADDER
from loadtest.ladder.contract import NotSent, fate
from loadtest.ladder.tally import ACKNOWLEDGEMENT, Tally
from loadtest.ladder.writer import Pace

BODIES = rows.Bodies(seed=42, size=200)


def test_rows_are_the_same_for_the_same_seed() -> None:
    """Another seed gives other rows."""
    first = list(rows.Keys(rows.Bodies(42, 50)).take(50).records())
    assert first == list(rows.Keys(rows.Bodies(42, 50)).take(50).records())
    assert first != list(rows.Keys(rows.Bodies(7, 50)).take(50).records())


def test_keys_rise_without_gaps_and_processes_do_not_share_any() -> None:
    """A range names a batch."""
    keys, other = rows.Keys(BODIES), rows.Keys(BODIES, process=1)
    taken = [keys.take(size) for size in (1, 100, 7, 200, 150)]
    assert [t.first for t in taken] == [0, 1, 101, 108, 308]
    assert keys.next == 458
    assert other.take(5).first == rows.PROCESS_KEYS
    assert all(len(list(t.records())) == t.size for t in taken)


def test_encoded_rows_are_the_records() -> None:
    """The bytes hold what the tuples hold, and lengths that fit."""
    batch = rows.Keys(BODIES).take(3)
    data = batch.encoded()
    assert len(data) % 3 == 0
    size = len(data) // 3
    for place, (key, user, amount, note, _) in enumerate(batch.records()):
        one = data[place * size : (place + 1) * size]
        assert struct.unpack(">hiqii", one[:22]) == (5, 8, key, 4, user)
        length, digits, weight, sign, scale, whole, part = struct.unpack(">ihhhhhh", one[22:38])
        assert (length, digits, weight, sign, scale) == (12, 2, 0, 0, 2)
        assert whole * 100 + part // 100 == amount * 100
        assert struct.unpack(">i32s", one[38:74]) == (32, note.encode())


def test_parts_of_a_batch_are_the_batch() -> None:
    """Streaming sends the same rows."""
    batch = rows.Keys(BODIES).take(150)
    assert [r for part in batch.parts(40) for r in part.records()] == list(batch.records())
    assert b"".join(part.encoded() for part in batch.parts(40)) == batch.encoded()


def test_lines_are_the_rows_as_text() -> None:
    """The ceiling's file repeats the bodies and never an id."""
    text = "".join(rows.lines(42, rows.SIZE + 5)).splitlines()
    assert len(text) == rows.SIZE + 5
    assert [line.split("\t")[0] for line in text] == [str(n) for n in range(rows.SIZE + 5)]
    assert text[0].split("\t")[1:] == text[rows.SIZE].split("\t")[1:]


def test_fate_is_certain_only_where_postgresql_said_no_or_nothing_was_sent() -> None:
    """A lost connection, a shutdown and an unknown fault leave it open."""
    refused = [
        NotSent("no connection"),
        psycopg.errors.DiskFull("no space"),
        psycopg.errors.InsufficientPrivilege("no"),
        asyncpg.exceptions.UniqueViolationError("twice"),
        asyncpg.exceptions.QueryCanceledError("statement timeout"),
    ]
    unknown = [
        psycopg.OperationalError("server closed the connection unexpectedly"),
        psycopg.errors.AdminShutdown("terminating"),
        asyncpg.exceptions.ConnectionDoesNotExistError("gone"),
        asyncpg.exceptions.CrashShutdownError("crash"),
        ConnectionResetError("reset"),
        TimeoutError("late"),
    ]
    assert [fate(error) for error in refused] == ["refused"] * len(refused)
    assert [fate(error) for error in unknown] == ["unknown"] * len(unknown)


def test_every_rung_is_small_and_says_what_it_is() -> None:
    """The next rung needs a name, a method, what it removes, and how to write."""
    for rung in LADDER:
        assert rung.name
        assert rung.method
        assert rung.removes
        assert rung.lanes <= rung.pool or rung.pool == 1


def test_tally_has_one_fate_for_each_batch(tmp_path: Path) -> None:
    """What is unknown is not acknowledged, and a failed attempt is no row."""
    now = [100.2]
    tally = Tally(tmp_path / "acknowledged-0.bin", clock=lambda: now[0])
    keys = rows.Keys(BODIES)
    good, lost, given_up = keys.take(10), keys.take(20), keys.take(5)
    tally.acknowledged(good, 0.004)
    tally.failed(given_up, "DiskFull", "refused")
    now[0] = 102.5
    tally.failed(lost, "reset", "unknown")
    tally.given_up(given_up)
    seconds = tally.finish()
    assert [s.start for s in seconds] == [100, 101, 102]
    assert [(s.rows, s.failed_rows) for s in seconds] == [(10, 5), (0, 0), (0, 20)]
    assert (tally.acknowledged_rows, tally.unknown, tally.not_written) == (
        10, [(10, 20)], [(30, 5)],
    )  # fmt: skip
    kept = (tmp_path / "acknowledged-0.bin").read_bytes()
    assert list(ACKNOWLEDGEMENT.iter_unpack(kept)) == [(100.2, 0, 10)]


def test_pace_times_a_late_write_from_its_intended_start() -> None:
    """A writer that was held up is given starts that are over already, one period apart."""

    async def late() -> list[float]:
        pace = Pace(1000.0)
        began = time.perf_counter()
        await asyncio.sleep(0.05)
        assert pace.queue_length() >= 49
        stopped = asyncio.Event()
        return [due - began for _ in range(3) if (due := await pace.next(stopped)) is not None]

    dues = asyncio.run(late())
    assert dues == pytest.approx([0.0, 0.001, 0.002], abs=0.0005)


def test_pace_ends_when_told_to() -> None:
    """Also in the middle of waiting for a start that is far away."""

    async def stop() -> float | None:
        pace, stopped = Pace(0.001), asyncio.Event()
        await pace.next(stopped)
        asyncio.get_running_loop().call_later(0.01, stopped.set)
        return await pace.next(stopped)

    assert asyncio.run(stop()) is None


def test_metrics_csv_has_exactly_the_columns_asked_for(tmp_path: Path) -> None:
    """A stretch without a write has no latencies and no error rate; nothing is made 0."""
    account = Account(tmp_path, 10, now=100.0)
    tally = Tally(clock=lambda: 100.5)
    tally.acknowledged(rows.Keys(BODIES).take(50), 0.01)
    second = tally.finish()[-1].message()
    state = {"process": 0, "queue": 3, "connects": 1, "connect_s": 0.1, "cpu_s": 0.5, "cpu_at": 1}
    account.add(second | state | {"cpu_at": 109.0})
    assert not account.due()
    nothing = Tally(clock=lambda: 109.5).finish()[-1].message()
    account.add(nothing | state | {"cpu_at": 110.0})
    assert account.due()
    account.line()
    account.add(nothing | state | {"cpu_at": 120.0})
    account.line()
    account.line()
    account.close()
    with (tmp_path / "ladder_metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS == (
        "timestamp", "tps", "success_count", "error_count", "error_rate", "latency_avg_ms",
        "latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "cpu_percent", "memory_percent",
        "queue_length",
    )  # fmt: skip
    assert len(lines) == 2
    assert (lines[0]["tps"], lines[0]["success_count"]) == ("5.0", "50")
    assert float(lines[0]["latency_avg_ms"]) == pytest.approx(10)
    assert (lines[0]["cpu_percent"], lines[0]["queue_length"]) == ("5.0", "3")
    assert (lines[1]["latency_avg_ms"], lines[1]["error_rate"]) == ("", "")
