"""A cell's life: preflight, warming, measuring, collecting, validating, accepted or rejected."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
import psycopg

from lab import edges, equal_work, intervals, validity
from lab.config import Cell
from lab.diagnosis import stored
from lab.errors import ResultError, ServiceError, VerificationError
from lab.files import write_atomic
from lab.measure import measurement, sample_means
from lab.prometheus import Prometheus, gaps
from lab.results import CellRecord, Measurement, Run
from lab.settings import HANDLERS, Settings
from lab.stack.base import Endpoints, Event, Load, Stack
from lab.story import RunStory
from monitoring.signals import EVALUATION_INTERVAL_S, SCRAPE_INTERVAL_S

POLL_S = 0.1
#: Beyond ramp, warm-up and window: how long the generator may be late before the cell is given up.
SLACK_S = 60
#: What active backends wait for, finer than the signal of the wait's type.
WAIT_EVENTS = (
    "label_replace(sum by (wait_event_type, wait_event)"
    ' (pg_stat_activity_wait_events{state="active"}), "__name__", "wait_event", "", "")'
)
#: What makes every cell begin with the same tables, whichever cells wrote to them before.
RESET = (
    "TRUNCATE transactions RESTART IDENTITY",
    "UPDATE hot_rows SET hits = 0 WHERE hits > 0",
    "VACUUM hot_rows",
)
#: A transaction that goes on after its update keeps the row: a trigger stands for that, so that all
#: services still send the same one statement.
HOLD = (
    "DROP TRIGGER IF EXISTS hold ON hot_rows",
    "CREATE OR REPLACE FUNCTION hold_row() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM pg_sleep(TG_ARGV[0]::float8 / 1000); RETURN NULL; END'",
    "CREATE TRIGGER hold AFTER UPDATE ON hot_rows FOR EACH STATEMENT"
    " EXECUTE FUNCTION hold_row({milliseconds})",
)


class Watcher(Protocol):
    """Who is told how a cell goes."""

    def started(self, endpoints: Endpoints) -> None:
        """Be told where the servers of the cell answer."""

    def phase(self, name: str, length_s: float | None) -> None:
        """Be told of a new phase and how long it will take, None if unknown."""

    def tick(self, rps: float, p95_ms: float | None) -> None:
        """Be told what the generator saw in the last second."""


@dataclass
class CellRun:
    """One cell being measured."""

    cell: Cell
    settings: Settings
    stack: Stack
    run: Run
    watcher: Watcher
    works: dict[tuple[str | int, ...], equal_work.Work]
    limits_enforced: bool
    phases: dict[str, float] = field(default_factory=dict)
    story: RunStory | None = None

    def measure(self) -> CellRecord:
        """Live the cell's life and write its record; a fault of the cell is a reason to reject.

        Whatever ends the cell early (a signal, a fault of the lab) passes through, and the cell
        then has no record.
        """
        folder = self.run.cell_folder(self.cell.cell_id)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        started = time.time()
        self._tell("cell_start", started)
        result: tuple[float, float, Measurement] | None = None
        try:
            result, rejected = self._live(folder)
        except (ServiceError, VerificationError, ResultError) as error:
            rejected = [str(error)]
        except psycopg.Error as error:
            rejected = [f"postgres in mid-cell: {str(error).strip().splitlines()[0]}"]
        finally:
            self.stack.announce(None)
            self._keep_logs(folder)
        start, end, measured = result or (None, None, None)
        record = CellRecord(
            run_id=self.run.run_id,
            cell_id=self.cell.cell_id,
            status="rejected" if rejected else "accepted",
            reject_reasons=rejected,
            framework=self.settings.framework,
            route=self.settings.route,
            users=self.settings.users,
            repetition=self.cell.repetition,
            axes=self.cell.axes,
            settings=self.settings.public(),
            settings_digest=self.cell.digest,
            limits_enforced=self.limits_enforced,
            started_at=started,
            window_start=start,
            window_end=end,
            phases_s=self.phases,
            measurement=measured,
        )
        record = stored.keep(self.run, record)
        self.run.write_record(record)
        if rejected:
            self._tell("rejected", time.time())
        if self.story is not None:
            self.story.finished(record)
        return record

    def _tell(self, event: Event, at: float) -> None:
        if self.story is not None:
            self.story.moment(self.run.run_id, self.cell.cell_id, event, at)

    @contextmanager
    def _phase(self, name: str, length_s: float | None = None) -> Iterator[None]:
        self.watcher.phase(name, length_s)
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round(time.monotonic() - began, 3)

    def _live(self, folder: Path) -> tuple[tuple[float, float, Measurement], list[str]]:
        s = self.settings
        with self._phase("preflight"):
            endpoints = self.stack.start(s)
            self.watcher.started(endpoints)
            self.stack.announce(self._labels())
            if self.story is not None:
                self.story.prometheus = endpoints.prometheus
            connection = psycopg.connect(endpoints.superuser, autocommit=True)
        with connection:
            with self._phase("equal work"):
                unequal = self._prove(endpoints, connection)
                held = HOLD if s.hot_row_hold_ms else HOLD[:1]
                for statement in (*RESET, *held):
                    connection.execute(statement.format(milliseconds=s.hot_row_hold_ms))
                before = edges.take(_only_service(endpoints), connection, endpoints.start_token)
            bound_s = s.users / s.spawn_rate + s.warmup + s.window + SLACK_S
            load = self.stack.load(s, folder, bound_s)
            try:
                start, first, last = self._window(load, folder, endpoints, connection)
                ended = self.stack.ended()
            finally:
                with self._phase("stopping the load"):
                    load.stop()
            with self._phase("collecting"):
                after = edges.take(_only_service(endpoints), connection, endpoints.start_token)
                seen = intervals.read(folder)
                samples, series = self._samples(endpoints, folder, start)
        with self._phase("validating"):
            window = intervals.merge(seen, start, start + s.window)
            measured = measurement(
                window, first, last, s.framework, s.route, psutil.cpu_count() or 1,
                sample_means(series),
            )  # fmt: skip
            gathered = validity.Gathered(
                users=s.users,
                users_min=window.users_min,
                users_max=window.users_max,
                missing_seconds=len(window.missing_s),
                counts=_counts(seen, before, after, s),
                unequal=unequal,
                samples=samples,
                ended=ended,
                generator_cpus=s.generator_cpus or 1.0,
            )
            return (start, start + s.window, measured), validity.reasons(measured, gathered)

    def _labels(self) -> dict[str, str]:
        labels = {"run_id": self.run.run_id, "cell_id": self.cell.cell_id}
        axes = {name.lower(): str(value) for name, value in self.cell.axes.items()}
        return labels | axes | {"repetition": str(self.cell.repetition)}

    def _prove(self, endpoints: Endpoints, connection: psycopg.Connection) -> str | None:
        """Prove equal work; say how it differs from what another service of the run did."""
        work = equal_work.prove(endpoints.service, self.settings, connection)
        s = self.settings
        # More comments per post are more rows per request.
        kind = (s.scenario, s.route, s.seed_users, s.seed_posts, s.seed_comments)
        other = self.works.setdefault(kind, work)
        return work.difference(other)

    def _window(
        self, load: Load, folder: Path, endpoints: Endpoints, connection: psycopg.Connection
    ) -> tuple[float, edges.Edge, edges.Edge]:
        """Ramp, warm up and measure; return the window's start and the samples at its edges."""
        s = self.settings
        follower = intervals.IntervalFollower(folder)
        with self._phase("ramp", s.users / s.spawn_rate):
            self._ramp(load, follower)
        if s.generator_cpus:
            load.limit(s.generator_cpus)
        with self._phase("warming", s.warmup):
            start = float(math.ceil(time.time() + s.warmup))  # intervals end at whole seconds
            self._tell("window_start", start)
            # In advance too: a mark that comes after its moment draws the window too long.
            self._tell("window_end", start + s.window)
            self._until(start, load, follower)
        with self._phase("measuring", s.window):
            first = edges.take(endpoints.metrics, connection, endpoints.start_token)
            self._until(start + s.window, load, follower)
            last = edges.take(endpoints.metrics, connection, endpoints.start_token)
            self._written(load, follower, start + s.window)
        return start, first, last

    def _ramp(self, load: Load, follower: intervals.IntervalFollower) -> None:
        deadline = time.time() + self.settings.users / self.settings.spawn_rate + SLACK_S
        while (seen := self._poll(load, follower)) is None or seen.users < self.settings.users:
            if time.time() > deadline:
                users = 0 if seen is None else seen.users
                raise ServiceError(
                    f"locust has {users} of {self.settings.users} users after "
                    f"{SLACK_S} s more than the ramp; the end of its log:\n{load.tail()}"
                )

    def _until(self, moment: float, load: Load, follower: intervals.IntervalFollower) -> None:
        while time.time() < moment:
            self._poll(load, follower, moment)

    def _written(self, load: Load, follower: intervals.IntervalFollower, moment: float) -> None:
        """Wait for the generator's own account of the window's last second."""
        deadline = time.time() + 5
        while (seen := self._poll(load, follower)) is None or seen.end < moment:
            if time.time() > deadline:
                return  # the gate sees the missing second

    def _poll(
        self, load: Load, follower: intervals.IntervalFollower, moment: float = math.inf
    ) -> intervals.Interval | None:
        """Wait a little, show what is new, and return the newest interval."""
        if not load.alive():
            raise ServiceError(f"locust ended in mid-load; the end of its log:\n{load.tail()}")
        time.sleep(max(0.0, min(POLL_S, moment - time.time())))
        newest = follower.poll()
        if newest is not None:
            self.watcher.tick(newest.rps, newest.p95_ms)
        return newest

    def _samples(
        self, endpoints: Endpoints, folder: Path, start: float
    ) -> tuple[str | None, list[dict[str, Any]]]:
        """Keep Prometheus's samples of the window; say which scrapes are missing."""
        if endpoints.prometheus is None:
            return None, []
        prometheus = Prometheus(endpoints.prometheus)
        end = start + self.settings.window
        step = EVALUATION_INTERVAL_S
        series = prometheus.query_range('{__name__=~"poolscope:.+"}', start, end, step)
        series += prometheus.query_range(WAIT_EVENTS, start, end, step)
        write_atomic(folder / "samples.json", json.dumps({"step_s": step, "series": series}))
        jobs = {
            str(job): float(s) for job, s in SCRAPE_INTERVAL_S.items() if job in endpoints.metrics
        }
        return gaps(prometheus, jobs, start, end), series

    def _keep_logs(self, folder: Path) -> None:
        for name, text in self.stack.tails().items():
            write_atomic(folder / f"{name}.log", text + "\n")


def _only_service(endpoints: Endpoints) -> dict[str, str]:
    return {job: url for job, url in endpoints.metrics.items() if job == "service"}


def _counts(
    seen: list[intervals.Interval], before: edges.Edge, after: edges.Edge, s: Settings
) -> validity.Counts:
    """Count the whole load on both sides; at its ends nothing is in flight, so this is exact."""
    answers = sum(i.responses for i in seen)
    if s.metrics == "on":
        name = "http_request_duration_seconds_count"
        first, last = before.scrapes.get("service"), after.scrapes.get("service")
        if first is None or last is None:
            why = before.failed.get("service") or after.failed.get("service") or "no answer"
            return validity.Counts(answers, None, "the service", why)
        grown = sum(
            (last.total(name, handler=h) or 0) - (first.total(name, handler=h) or 0)
            for h in HANDLERS
        )
        return validity.Counts(answers, round(grown), "the service")
    if before.sql is None or after.sql is None:
        why = before.failed.get("sql") or after.failed.get("sql") or "no answer"
        return validity.Counts(answers, None, "PostgreSQL", why)
    good = sum(n for i in seen for status, n in i.statuses.items() if status.startswith("2"))
    return validity.Counts(good, after.sql.calls - before.sql.calls, "PostgreSQL")
