"""The users and the load model: a closed loop without think time, one scenario per run.

Run from the project's root; environment:
    SCENARIO             db-test (default), insert, slow-query, hot-row or heavy
    LOADTEST_DIR         folder for the interval logs; without it, none are written
    LOCUST_METRICS_PORT  port for Prometheus; without it, no metrics are served
    LOCUST_METRICS_HOST  where that port listens: 127.0.0.1 (default), 0.0.0.0 in a container

On SIGTERM, and at --run-time, users finish the request they are in, for --stop-timeout at most;
only then is the last, partial interval written. Requests cut off after that are its "abandoned".
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from math import floor
from pathlib import Path
from random import Random
from typing import Any

import gevent
import psutil
from locust import FastHttpUser, constant, events, task
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import MasterRunner, Runner, WorkerRunner
from locust.user.task import LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING

from loadtest.connections import correct_http_client
from loadtest.exposition import LoadCollector, LoadTotals, Totals, serve_metrics
from loadtest.intervals import IntervalLog, Recorder

SCENARIOS = {
    "db-test": ("GET", "/benchmark/db-test"),
    "insert": ("POST", "/benchmark/insert"),
    "slow-query": ("GET", "/benchmark/slow-query"),
    "hot-row": ("POST", "/benchmark/hot-row"),
    "heavy": ("GET", "/benchmark/heavy"),
}
SEED = 42
# The reference's P95 reached 18 s at 1,000 users: a shorter timeout would cut off the very tail
# that is to be measured. Not a toggle, since cells with different timeouts do not compare.
TIMEOUT_S = 60.0
# How long the master waits for its workers, beyond --stop-timeout.
WORKER_EXIT_S = 10.0
LOAD_MESSAGE = "poolscope-load"
EXPECTED = frozenset({200, 201})

scenario = os.environ.get("SCENARIO", "db-test")
if scenario not in SCENARIOS:
    sys.exit(f"SCENARIO={scenario}: choose {', '.join(SCENARIOS)}")
METHOD, PATH = SCENARIOS[scenario]


def centres(runner: Runner) -> Iterator[str]:
    """Yield heavy's path with one centre after another, the same ones in every run.

    Each process has a sequence of its own; its number is known when the first user starts.
    """
    draw = Random(f"{SEED}-{getattr(runner, 'worker_index', 0)}").random
    while True:
        yield f"{PATH}?latitude={draw() * 180 - 90:.5f}&longitude={draw() * 360 - 180:.5f}"


logger = logging.getLogger(__name__)
recorder = Recorder()
correct_http_client()


class BenchmarkUser(FastHttpUser):
    """Send the scenario's request again as soon as the answer is there, on one connection."""

    wait_time = constant(0)
    connection_timeout = TIMEOUT_S
    network_timeout = TIMEOUT_S
    concurrency = 1
    max_redirects = 0
    #: what all users together ask for, one after the other
    paths: Iterator[str] = repeat(PATH)

    def on_start(self) -> None:
        """Drop cookies, which cost 15% of the generator's CPU and which no service sets."""
        self.client.client.cookiejar = None
        # A redirect, or an empty answer, is not the work that was asked for.
        self.client.client.valid_response_codes = EXPECTED  # type: ignore[misc]

    def stop(self, force: bool = False) -> bool:
        """Let the user end by itself, also where it is between two requests.

        Locust kills a "waiting" user; one whose zero wait is over by then has its next request cut
        off, which the server counts and the client does not (3 of 1,050 users in a test). A second
        stop, as when master and worker both get the signal, asks for nothing new.
        """
        if not force and self._state in (LOCUST_STATE_WAITING, LOCUST_STATE_STOPPING):
            self._state = LOCUST_STATE_STOPPING
            return False
        return super().stop(force)

    @task
    def send(self) -> None:
        """Send one request and wait for its answer."""
        try:
            self.client.request(METHOD, next(self.paths), name=PATH)
        except gevent.GreenletExit:
            # Killed after --stop-timeout: the server may still count it, so it is owned up to.
            recorder.abandoned += 1
            raise


class Generator:
    """What a load-generating process does beside its users: log, totals, report to a master."""

    def __init__(self, environment: Environment, runner: Runner) -> None:
        self._environment = environment
        self._runner = runner
        self._totals = LoadTotals()
        folder = os.environ.get("LOADTEST_DIR")
        self._log = IntervalLog(Path(folder)) if folder else None

    def run(self) -> None:
        """Write each second when it is over, for ever; a late second still holds only its own."""
        while True:
            now = time.time()
            gevent.sleep(floor(now) + 1 - now)
            self._write_until(int(time.time()))
            if isinstance(self._runner, WorkerRunner):
                self._report(self._runner)

    def finish(self, **_event: Any) -> None:
        """Write what is left, with the current second as a partial one (at the quit event)."""
        now = time.time()
        self._write_until(int(now))
        if self._log:
            self._log.write(
                recorder.current, self._runner.user_count, now, abandoned=recorder.abandoned
            )
            # Locust can shut down twice at once (signal and main greenlet): write one last line.
            self._log = None

    def fail(self, greenlet: gevent.Greenlet) -> None:
        """End the run: load that is not recorded is worth nothing."""
        logger.error("interval log stopped: %s", greenlet.exception)
        self._environment.process_exit_code = 2
        self._runner.quit()

    def snapshot(self) -> Totals:
        """Give this process's totals up to now."""
        index = getattr(self._runner, "worker_index", 0)
        return self._totals.snapshot(recorder.pending(), self._runner.user_count, str(index))

    def _write_until(self, now: int) -> None:
        for second in recorder.close_until(now):
            self._totals.add(second)
            if self._log:
                self._log.write(second, self._runner.user_count, time.time())

    def _report(self, runner: WorkerRunner) -> None:
        try:
            runner.send_message(LOAD_MESSAGE, self.snapshot())
        except RPCError as error:
            # The totals are cumulative: the next message makes up for a lost one.
            logger.warning("totals not sent to the master: %s", error)


def _serve_metrics(totals: Callable[[], list[Totals]]) -> None:
    if port := os.environ.get("LOCUST_METRICS_PORT"):
        host = os.environ.get("LOCUST_METRICS_HOST", "127.0.0.1")
        serve_metrics(int(port), LoadCollector(totals, METHOD, PATH), host)


def _start_generator(environment: Environment, runner: Runner) -> None:
    if scenario == "heavy":
        BenchmarkUser.paths = centres(runner)
    recorder.begin()
    generator = Generator(environment, runner)
    environment.events.request.add_listener(recorder.record)
    environment.events.quit.add_listener(generator.finish)
    gevent.spawn(generator.run).link_exception(generator.fail)
    if not isinstance(runner, WorkerRunner):
        _serve_metrics(lambda: [generator.snapshot()])


def _start_master(environment: Environment, runner: MasterRunner) -> None:
    latest: dict[str, Totals] = {}

    def keep(environment: Environment, msg: Any, **_message: Any) -> None:
        latest[msg.node_id] = msg.data

    runner.register_message(LOAD_MESSAGE, keep)
    environment.events.quit.add_listener(lambda **_event: _wait_for_workers(environment))
    _serve_metrics(lambda: list(latest.values()))


def _wait_for_workers(environment: Environment) -> None:
    """Outlive the workers, or their last requests would be cut off with this process's group.

    Locust 2.47 means to wait for them, but takes waitpid's "still running" for an exit. They are
    looked at without being reaped, since Locust's own wait fails without end where they are.
    """
    deadline = time.monotonic() + (environment.stop_timeout or 0) + WORKER_EXIT_S
    workers = [child.pid for child in psutil.Process().children()]
    while time.monotonic() < deadline and any(map(_is_running, workers)):
        gevent.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
    except ChildProcessError:
        return False


@events.init.add_listener
def _on_init(environment: Environment, runner: Runner, **_event: Any) -> None:
    if isinstance(runner, MasterRunner):
        _start_master(environment, runner)
    else:
        _start_generator(environment, runner)
