"""A rung's life: empty the tables, write, measure, stop, count what is there, judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from lab import edges
from lab.errors import LabError, ServiceError
from lab.ladder import generator, records, tables
from lab.ladder.checks import notes, reasons, verification
from lab.ladder.measure import Reading, Watched, measured
from lab.ladder.plan import Rung, Step
from lab.ladder.records import Measured, RungRecord, Verification
from lab.ladder.settings import LadderSettings
from lab.ladder.watch import Sampling
from lab.results import Run
from lab.settings import Settings
from lab.stack.base import Endpoints, LadderStack, Load
from lab.stack.process import Process
from lab.story import RunStory

POLL_S = 0.05
#: How long opening connections may take, and what comes after the window.
OPEN_S, AFTER_S = 60.0, 60.0
STATEMENTS = """
SELECT coalesce(sum(s.calls), 0) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
WHERE r.rolname = %s
"""


@dataclass
class RungRun:
    """One rung being measured."""

    step: Step
    own: LadderSettings
    settings: Settings
    stack: LadderStack
    run: Run
    cores: int
    tell: Callable[[str, float | None], None] = lambda name, length_s: None
    phases: dict[str, float] = field(default_factory=dict)
    #: Told of the window, which dashboards shade.
    story: RunStory | None = None

    @property
    def rung(self) -> Rung:
        """The rung itself; ceilings are measured elsewhere."""
        assert self.step.rung is not None
        return self.step.rung

    def measure(self) -> RungRecord:
        """Live the rung's life and write its record; a fault in it is a reason to reject."""
        folder = self.run.cell_folder(self.step.cell_id)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.time()
        found: tuple[generator.Started, Measured] | None = None
        verified = None
        rejected: list[str] = []
        try:
            endpoints = self._ready()
            try:
                found = self._write(folder, endpoints)
            except LabError as error:
                rejected.append(str(error))
            if found or (folder / "result.json").is_file():
                verified = self._verify(folder)
        except (LabError, psycopg.Error) as error:
            rejected.append(_line(error))
        finally:
            self.stack.announce(None)
        m = found[1] if found else None
        rejected += reasons(m, verified)
        window = found[0] if found else None
        record = self.record(
            rejected,
            started_at=started,
            window_start=window.window_start if window else None,
            window_end=window.window_end if window else None,
            measured=m,
            verification=verified,
            notes=[*self.rung.notes, *notes(m, self.cores)],
        )
        records.write(self.run, record)
        return record

    def record(self, rejected: list[str], **found: Any) -> RungRecord:
        """Return what was found, with what was asked for."""
        rung = self.rung
        return RungRecord(
            run_id=self.run.run_id,
            cell_id=self.step.cell_id,
            rung=rung.name,
            method=rung.method,
            durability=rung.durability,
            client=rung.client,
            route=rung.route(self.own),
            table=rung.table,
            batch=rung.batch,
            pool=rung.pool,
            lanes=rung.lanes,
            processes=rung.processes,
            repetition=self.step.repetition,
            target_tps=self.own.rate,
            status="rejected" if rejected else "accepted",
            reject_reasons=list(dict.fromkeys(rejected)),
            phases_s=self.phases,
            **found,
        )

    @contextmanager
    def phase(self, name: str, length_s: float | None = None) -> Iterator[None]:
        """Time a phase and tell of it."""
        self.tell(name, length_s)
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round(time.monotonic() - began, 3)

    def _ready(self) -> Endpoints:
        """Bring the database to the rung's start, also after it died in the rung before."""
        with self.phase("emptying"):
            endpoints = self.stack.start_database(self.settings)
            endpoints = self.stack.monitor(self.settings)
            labels = {"run_id": self.run.run_id, "cell_id": self.step.cell_id}
            self.stack.announce(
                labels | {"rung": self.rung.name, "route": self.rung.route(self.own)}
            )
            with psycopg.connect(endpoints.superuser, autocommit=True) as connection:
                if set(tables.left_over(connection)) != set(tables.TABLES):
                    tables.make(connection)
                tables.empty(connection)
        return endpoints

    def start_generator(self, folder: Path, endpoints: Endpoints, *, keep: bool = False) -> Load:
        """Start writing."""
        port = endpoints.metrics["locust"].rsplit(":", 1)[1].split("/")[0]
        command = generator.command(
            self.rung, self.own, endpoints, folder,
            seed=self.settings.seed, prepares=self.stack.facts().pgbouncer_prepares,
            metrics_port=int(port), keep=keep,
        )  # fmt: skip
        return self.stack.watched(Process(command, folder), self.settings)

    def _write(self, folder: Path, endpoints: Endpoints) -> tuple[generator.Started, Measured]:
        """Let the generator write and measure its window; it has ended afterwards."""
        process = self.start_generator(folder, endpoints)
        try:
            with psycopg.connect(endpoints.superuser, autocommit=True) as connection:
                with self.phase("opening"):
                    window = self.opened(process, folder)
                self._mark(window)
                with self.phase("warming", self.own.warmup):
                    self._until(window.window_start, process)
                with self.phase("measuring", self.own.duration):
                    sampling = Sampling(endpoints.superuser, endpoints.service_role)
                    first = self._read(endpoints, connection)
                    sampling.start()
                    try:
                        self._until(window.window_end, process)
                    finally:
                        sampling.stop()
                    last = self._read(endpoints, connection)
            with self.phase("ending"):
                self.ended(process)
        except psycopg.Error as error:
            raise ServiceError(f"postgres in mid-run: {_line(error)}") from None
        finally:
            process.stop()
        account = generator.account(folder)
        inside = generator.window(generator.seconds(folder), window.window_start, window.window_end)
        waits = sampling.mean() if sampling.samples else {}
        limit = min(self.settings.db_cpus, float(self.cores))
        watched = Watched(waits, sampling.failed)
        return window, measured(self.rung, inside, account, first, last, watched, limit)

    def _mark(self, window: generator.Started) -> None:
        if self.story is not None:
            run_id, cell_id = self.run.run_id, self.step.cell_id
            self.story.moment(run_id, cell_id, "window_start", window.window_start)
            self.story.moment(run_id, cell_id, "window_end", window.window_end)

    def opened(self, process: Load, folder: Path) -> generator.Started:
        """Wait until every process writes; raise ServiceError where that does not come."""
        deadline = time.monotonic() + OPEN_S
        while (window := generator.started(folder)) is None:
            if not process.alive():
                raise ServiceError(f"the generator did not start: {process.tail(3)}")
            if time.monotonic() > deadline:
                raise ServiceError(f"the generator writes nothing after {OPEN_S:g} s")
            time.sleep(POLL_S)
        return window

    def ended(self, process: Load) -> None:
        """Wait for the generator's end; raise ServiceError where it does not come."""
        deadline = time.monotonic() + AFTER_S
        while process.alive():
            if time.monotonic() > deadline:
                raise ServiceError(f"the generator still runs {AFTER_S:g} s after its window")
            time.sleep(POLL_S)

    def _until(self, moment: float, process: Load) -> None:
        while (left := moment - time.time()) > 0:
            if not process.alive():
                raise ServiceError(f"the generator ended in mid-run: {process.tail(3)}")
            if gone := self.stack.ended():
                raise ServiceError(f"{', '.join(gone)} ended in mid-run")
            time.sleep(min(POLL_S, left))

    def _read(self, endpoints: Endpoints, connection: psycopg.Connection) -> Reading:
        urls = {job: url for job, url in endpoints.metrics.items() if job == "poolscope"}
        row = connection.execute(STATEMENTS, (endpoints.service_role,)).fetchone()
        wal = tables.wal_position(connection)
        edge = edges.take(urls, None, endpoints.start_token)
        return Reading(edge, wal, int(row[0]) if row else 0)

    def _verify(self, folder: Path) -> Verification:
        """Count the rows, after PostgreSQL's recovery where it died."""
        with self.phase("verifying"):
            account = generator.account(folder)
            endpoints = self.stack.start_database(self.settings)
            with tables.settled(endpoints.superuser, endpoints.service_role) as connection:
                there, torn = tables.settle(connection, self.rung.table, account.unknown)
                counted = tables.count(connection, self.rung.table)
        return verification(account, counted, there, torn)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
