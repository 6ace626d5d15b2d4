"""Locust with the real locustfile against a small HTTP server that counts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil
import pytest

from lab.intervals import Interval, IntervalFollower, merge, read
from lab.load import locust_command, locust_environment
from lab.paths import ROOT
from tests.unit.scrapes import taken

OK = (200, b'{"id":1}')
DEADLINE_S = 40


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class CountingServer:
    """Answers (status, body), or closes the connection where `answer` gives None."""

    def __init__(self, answer=lambda number: OK, delay_s: float = 0.0) -> None:
        self.requests = self.answers = self.connections = 0
        self.first_lines: set[bytes] = set()
        self._answer, self._delay_s = answer, delay_s
        self._loop = asyncio.new_event_loop()
        self.port = free_port()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=4096)
        )
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                self.first_lines.add(head.partition(b"\r\n")[0])
                answer = self._answer(self.requests)
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if answer is None:
                    break
                status, body = answer
                header = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(header.encode() + body)
                self.answers += 1
        writer.close()

    def __enter__(self) -> CountingServer:
        self._thread.start()
        wait_for(lambda: can_connect(self.port), "the counting server")
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def can_connect(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {DEADLINE_S} s")
        time.sleep(0.02)


@dataclass
class Load:
    """A running Locust and its folder."""

    process: subprocess.Popen[bytes]
    folder: Path
    metrics_port: int
    group: list[psutil.Process] = field(default_factory=list)

    def wait_seconds(self, users: int, seconds: int = 2) -> None:
        """Wait until so many whole seconds with all users are reported."""
        follower = IntervalFollower(self.folder)

        def reported() -> bool:
            assert self.process.poll() is None, self.log()
            newest = follower.poll()
            return newest is not None and newest.users == users and self.whole(users) >= seconds

        wait_for(reported, f"{seconds} s with {users} users")

    def whole(self, users: int) -> int:
        return sum(i.whole and i.users == users for i in read(self.folder))

    def metrics(self) -> dict[str, float]:
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            lines = taken(answer.read().decode()).splitlines()
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in lines
            if not line.startswith("#")
        }

    def stop(self) -> list[Interval]:
        """Send SIGTERM to the main process, as the runner does, and read what it left."""
        self.group = psutil.Process(self.process.pid).children()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(DEADLINE_S) == 0, self.log()
        return read(self.folder)

    def log(self) -> str:
        return (self.folder / "locust.log").read_text()


@contextlib.contextmanager
def running(
    folder: Path,
    server: CountingServer,
    users: int,
    scenario: str = "db-test",
    processes: int = 1,
    stop_timeout_s: float = 30,
) -> Iterator[Load]:
    metrics_port = free_port()
    args = locust_command(
        sys.executable,
        "loadtest/locustfile.py",
        f"http://127.0.0.1:{server.port}",
        users,
        users,
        60,
        stop_timeout_s,
        folder / "locust",
        processes,
        free_port(),
    )
    with (folder / "locust.log").open("wb") as log:
        process = subprocess.Popen(
            args,
            cwd=ROOT,
            env=locust_environment(scenario, folder, metrics_port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Load(process, folder, metrics_port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def total(intervals: list[Interval], name: str) -> int:
    return sum(getattr(i, name) for i in intervals)


def requests_total(metrics: dict[str, float]) -> float:
    return sum(v for name, v in metrics.items() if name.startswith("locust_requests_total"))


def test_load_counts_what_the_server_counts(tmp_path):
    """From the first request to SIGTERM, with requests in flight: equal to the last one."""
    with CountingServer(delay_s=0.05) as server, running(tmp_path, server, 20) as load:
        load.wait_seconds(20, seconds=4)
        before = server.requests
        metrics = load.metrics()
        intervals = load.stop()
    labels = 'method="GET",name="/benchmark/db-test"'
    scraped = metrics[f'locust_requests_total{{{labels},status="200"}}']
    # The scrape is up to date, not of the last whole second.
    assert before - 20 <= scraped <= server.requests
    assert metrics[f"locust_request_duration_seconds_count{{{labels}}}"] == scraped
    assert metrics[f"locust_failures_total{{{labels}}}"] == 0
    assert metrics["locust_users"] == 20
    assert metrics["process_cpu_seconds_total"] > 0
    assert total(intervals, "responses") == server.requests == server.answers
    assert total(intervals, "abandoned") == 0
    assert server.first_lines == {b"GET /benchmark/db-test HTTP/1.1"}
    assert server.connections == 20 + 1  # one more looked whether the server was up
    # The last, partial second holds the requests that were in flight.
    assert not intervals[-1].whole
    assert intervals[-1].attempts > 0
    steady = [i.start for i in intervals if i.whole and i.users == 20]
    window = merge(intervals, steady[1], steady[-1] + 1)
    assert window.mean_ms is not None
    assert window.generator_cpu is not None
    # Closed loop without think time: Little's law, X*R = N; users in step end 20 at a time.
    assert window.rps * window.mean_ms / 1000 == pytest.approx(20, rel=0.1)
    assert window.p50_ms is not None
    assert 50 <= window.p50_ms < 90
    assert window.missing_s == ()
    assert 0 < window.generator_cpu < 0.9


def test_load_of_several_processes_counts_what_the_server_counts(tmp_path):
    """Workers finish slow requests after the master was told to stop, and it outlives them."""
    with CountingServer(delay_s=1.5) as server, running(tmp_path, server, 8, processes=2) as load:
        load.wait_seconds(8, seconds=1)
        wait_for(lambda: requests_total(load.metrics()) > 0, "the workers' first totals")
        metrics = load.metrics()
        sent = server.requests
        wait_for(lambda: server.requests >= sent + 8, "requests that last beyond SIGTERM")
        intervals = load.stop()
        assert len(load.group) == 2
        assert not [worker for worker in load.group if worker.is_running()]
    assert metrics["locust_users"] == 8
    assert 0 < requests_total(metrics) <= server.requests
    assert {name for name in metrics if name.startswith("locust_process_cpu_seconds_total")} == {
        'locust_process_cpu_seconds_total{process="0"}',
        'locust_process_cpu_seconds_total{process="1"}',
    }
    assert len(list(tmp_path.glob("intervals-*.jsonl"))) == 2
    assert total(intervals, "responses") == server.requests == server.answers
    assert max(i.users for i in intervals) == 8
    assert max(len(i.cpu) for i in intervals) == 2


def test_each_failure_is_seen_once(tmp_path):
    """A closed connection is a failure, not a silent second attempt; a 503 keeps its code."""
    answers = {
        0: (503, b'{"error":"pool-timeout","detail":"x"}'),
        1: None,
        2: (302, b""),
    }
    with (
        CountingServer(lambda n: answers.get(n % 10, (201, b"{}")), delay_s=0.01) as server,
        running(tmp_path, server, 5, scenario="insert") as load,
    ):
        load.wait_seconds(5, seconds=1)
        intervals = load.stop()
    assert server.first_lines == {b"POST /benchmark/insert HTTP/1.1"}
    assert total(intervals, "attempts") == server.requests
    assert total(intervals, "responses") == server.answers
    statuses: dict[str, int] = {}
    errors: set[str] = set()
    for interval in intervals:
        errors |= set(interval.errors)
        for status, count in interval.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    assert set(statuses) == {"0", "201", "302", "503"}
    assert total(intervals, "failures") == sum(statuses[s] for s in ("0", "302", "503"))
    assert {"HTTP 503 pool-timeout", "HTTP 302"} < errors
    assert any(error.startswith("HTTPConnectionClosed") for error in errors)


def test_closed_connection_of_a_get_is_not_sent_again(tmp_path):
    """The client library would resend a GET that got no answer, and count one request for three."""
    with (
        CountingServer(lambda n: None if n % 3 == 0 else OK, delay_s=0.01) as server,
        running(tmp_path, server, 3) as load,
    ):
        load.wait_seconds(3, seconds=1)
        intervals = load.stop()
    assert total(intervals, "attempts") == server.requests
    assert total(intervals, "failures") == server.requests - server.answers > 0


def test_thousand_users_keep_their_connections(tmp_path):
    """Beyond file descriptor 1,023 too, a user keeps one connection."""
    users = 1050
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * users:
        pytest.skip(f"this host allows {hard} open files, the test needs {2 * users}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * users), hard))
    try:
        with CountingServer(delay_s=0.3) as server, running(tmp_path, server, users) as load:
            load.wait_seconds(users)
            wait_for(lambda: server.requests > 2 * users, "two requests of each user")
            intervals = load.stop()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert server.connections == users + 1
    # Here many users stand between two requests when SIGTERM comes; none has one cut off.
    assert total(intervals, "responses") == server.requests
    assert total(intervals, "abandoned") == 0


def test_requests_cut_off_are_owned_up_to(tmp_path):
    """What --stop-timeout cuts off is counted as abandoned, neither answered nor failed."""
    with (
        CountingServer(delay_s=30) as server,
        running(tmp_path, server, 4, stop_timeout_s=1) as load,
    ):
        load.wait_seconds(4, seconds=1)
        intervals = load.stop()
    assert total(intervals, "abandoned") == server.requests == 4
    assert total(intervals, "attempts") == 0


def test_heavy_asks_for_the_same_centres_in_every_run(tmp_path):
    """From a fixed seed, each as a request of its own, and all of them as one series."""
    with (
        CountingServer(delay_s=0.05) as server,
        running(tmp_path, server, 2, scenario="heavy") as load,
    ):
        load.wait_seconds(2, seconds=2)  # in the first, users may begin at its very end
        metrics = load.metrics()
        load.stop()
    draw = Random("42-0").random
    expected = [
        f"GET /benchmark/heavy?latitude={draw() * 180 - 90:.5f}"
        f"&longitude={draw() * 360 - 180:.5f} HTTP/1.1"
        for _ in range(server.requests)
    ]
    assert server.first_lines == {line.encode() for line in expected}
    named = [name for name in metrics if name.startswith("locust_requests_total")]
    assert named == ['locust_requests_total{method="GET",name="/benchmark/heavy",status="200"}']


def test_unknown_scenario_is_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless"],
        cwd=ROOT,
        env=locust_environment("writes", tmp_path, None),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 1
    assert "SCENARIO=writes: choose db-test, insert, slow-query, hot-row, heavy" in done.stderr
