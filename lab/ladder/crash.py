"""The crash test: PostgreSQL ended with SIGKILL in mid-write, and what became of each row.

Killing processes is not pulling the plug: what PostgreSQL handed to the operating system survives.
What it kept in its own memory (a commit with synchronous_commit=off, an unlogged table) does not.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg

from lab.errors import LabError, ServiceError
from lab.ladder import generator, records, tables
from lab.ladder.generator import Account
from lab.ladder.records import RungRecord, Verification
from lab.ladder.rung import POLL_S, RungRun
from lab.stack.base import Endpoints, Load

#: One acknowledgement of `acknowledged-<process>.bin`: see loadtest.ladder.tally.
ACKNOWLEDGEMENT = np.dtype([("at", "<f8"), ("first", "<i8"), ("size", "<i8")])
#: Of synchronous_commit=off: three times wal_writer_delay, which is 200 ms. PostgreSQL 15
#: documentation, "Asynchronous Commit".
WINDOW_MS = 600.0
#: How long an answer may be under way on a busy host.
IN_FLIGHT_S = 0.1
#: Writes flow for so long before the kill, and for so long after the recovery.
WRITING_S, AFTER_S = 1.0, 0.5
#: How long the first acknowledgement may take, before the kill and after the recovery.
ACKNOWLEDGED_S = 30.0
#: More than any rung needs: the writer is told to stop.
DURATION_S = 600


@dataclass
class CrashRun(RungRun):
    """One rung that PostgreSQL dies under."""

    killed_at: float = 0.0

    def test(self) -> RungRecord:
        """Kill PostgreSQL in mid-write, bring it back, count; write the record."""
        folder = self.run.cell_folder(self.step.cell_id)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.time()
        verified: Verification | None = None
        rejected: list[str] = []
        try:
            account, endpoints = self._crash(folder, self._ready())
            with self.phase("counting"):
                verified = self._count(folder, account, endpoints)
        except (LabError, psycopg.Error) as error:
            rejected.append(str(error).strip().splitlines()[0])
        finally:
            self.stack.announce(None)
        if verified is not None and not verified.right:
            rejected.append(f"promise broken: {verified.why}")
        record = self.record(
            rejected,
            started_at=began,
            window_start=began,
            window_end=self.killed_at or None,
            measured=None,
            verification=verified,
        )
        records.write(self.run, record)
        return record

    def _crash(self, folder: Path, endpoints: Endpoints) -> tuple[Account, Endpoints]:
        """Write, kill, recover, and stop the writer once writes flow again."""
        self.own = self.own.model_copy(update={"duration": DURATION_S})
        process = self.start_generator(folder, endpoints, keep=True)
        try:
            with self.phase("writing", WRITING_S):
                window = self.opened(process, folder)
                self._until(window.at + WRITING_S, process)
                wait_for_writes(process, folder, 0)
            with self.phase("crash and recovery"):
                self.killed_at = self.stack.kill_database()
                endpoints = self.stack.start_database(self.settings)
            with self.phase("writing again", AFTER_S):
                recovered = time.time()
                wait_for_writes(process, folder, recovered)
                self._until(recovered + AFTER_S, process)
        finally:
            process.stop()
        return generator.account(folder), endpoints

    def _count(self, folder: Path, account: Account, endpoints: Endpoints) -> Verification:
        with tables.settled(endpoints.superuser, endpoints.service_role) as connection:
            found = tables.ids(connection, self.rung.table)
            there, torn = tables.settle(connection, self.rung.table, account.unknown)
        acknowledged = acknowledgements(folder)
        return settle(
            account, acknowledged, found, there, torn, self.killed_at, self.rung.durability
        )


def wait_for_writes(process: Load, folder: Path, since: float) -> None:
    """Wait until a second that began since then has an acknowledgement; raise ServiceError.

    The second that `since` lies in may hold acknowledgements from before it.
    """
    deadline = time.monotonic() + ACKNOWLEDGED_S
    while not any(s["rows"] for s in generator.seconds(folder) if s["start"] >= since):
        if not process.alive():
            raise ServiceError(f"the generator ended in mid-run: {process.tail(3)}")
        if time.monotonic() > deadline:
            raise ServiceError(f"no write was acknowledged within {ACKNOWLEDGED_S:g} s")
        time.sleep(POLL_S)


def acknowledgements(folder: Path) -> np.ndarray:
    """Return every acknowledgement of a rung: when, first id, rows."""
    parts = [
        np.fromfile(path, ACKNOWLEDGEMENT) for path in sorted(folder.glob("acknowledged-*.bin"))
    ]
    return np.concatenate(parts) if parts else np.zeros(0, ACKNOWLEDGEMENT)


def settle(
    account: Account, acknowledged: np.ndarray, found: np.ndarray, there: int, torn: int,
    killed_at: float, durability: str,
) -> Verification:  # fmt: skip
    """Compare the acknowledged batches with the ids that are there (sorted), by each promise."""
    first, size = acknowledged["first"], acknowledged["size"]
    present = np.searchsorted(found, first + size) - np.searchsorted(found, first)
    missing = size - present
    # An answer that was under way may be read a little after the kill; recovery takes longer.
    before = acknowledged["at"] <= killed_at + IN_FLIGHT_S
    lost = int(missing.sum())
    oldest_ms = None
    if lost:
        oldest_ms = max(0.0, float((killed_at - acknowledged["at"][missing > 0].min()) * 1000))
    surplus = len(found) - int(present.sum()) - there
    why = _broken(durability, lost, oldest_ms, int(present[before].sum()))
    torn += int(((missing > 0) & (present > 0)).sum())
    if not account.adds_up() or int(size.sum()) != account.acknowledged_rows:
        why = "the generator's account does not add up"
    elif torn:
        why = f"{torn} writes are in the table in part"
    elif surplus:
        why = f"{surplus:,} rows in the table that nobody was told of"
    elif not int(size[before].sum()):
        why = "nothing was acknowledged before the crash, so nothing was tested"
    return Verification(
        acknowledged_rows=account.acknowledged_rows,
        in_table=len(found),
        unknown_rows=sum(n for _, n in account.unknown),
        unknown_written=there,
        refused_rows=account.refused_rows,
        torn_writes=torn,
        lost_rows=lost,
        lost_oldest_ms=oldest_ms,
        right=why is None,
        why=why,
    )


def _broken(durability: str, lost: int, oldest_ms: float | None, kept: int) -> str | None:
    """Say how the promise was broken, None where it was kept."""
    if durability == "committed to disk" and lost:
        return f"{lost:,} acknowledged rows are lost"
    if durability == "lost on a crash" and kept:
        return f"{kept:,} rows from before the crash are in a table that should be empty"
    if durability == "up to 600 ms at risk" and (oldest_ms or 0) > WINDOW_MS:
        return (
            f"{lost:,} acknowledged rows are lost, the oldest {oldest_ms:.0f} ms before the crash "
            f"(stated: {WINDOW_MS:.0f} ms)"
        )
    return None
