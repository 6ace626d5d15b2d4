"""A delay that is put in one place shows in its own part of the latency budget and in no other.

What is put in is known by construction: a longer statement, a queue at one pool, or a proxy that
holds bytes back. The client's mean grows by it; the part must take nine tenths of that growth,
and every other may move by a tenth of it at most.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.diagnosis import diagnose_record
from lab.diagnosis.budget import leaves
from lab.paths import ROOT
from lab.settings import Settings
from lab.stack import native, servers
from lab.stack.home import Home
from lab.stack.process import Command

from .conftest import Lab
from .test_cell import measure

DELAY_S = 0.1
#: Nothing queues: as many threads and connections as anybody could want.
BASE: dict[str, Any] = {
    "FRAMEWORK": "flask", "ROUTE": "direct", "SCENARIO": "slow-query", "SLOW_QUERY_MS": 50,
    "USERS": 3, "WORKERS": 1, "THREADS": 8, "DB_POOL_SIZE": 8, "APP_CPUS": 1.0, "DB_CPUS": 0.5,
    "WARMUP": 1, "WINDOW": 4,
}  # fmt: skip
PGBOUNCER: dict[str, Any] = {
    "ROUTE": "pgbouncer", "PGBOUNCER_DEFAULT_POOL_SIZE": 8, "PGBOUNCER_MIN_POOL_SIZE": 0,
    "PGBOUNCER_RESERVE_POOL_SIZE": 0,
}  # fmt: skip
PER_REQUEST = {"DB_CONN_MAX_AGE": 0}
#: What the service imports first: its answer is made when the connection has been given back.
SLOW_ANSWER = f"""\
import time
from apps.common import workload

answer = workload.slow_query_answer

def slow(rows, ms):
    time.sleep({DELAY_S})
    return answer(rows, ms)

workload.slow_query_answer = slow
"""


class Proxy:
    """Passes bytes on: `opening_s` later for a connection's first, `sending_s` later for each."""

    def __init__(self, port: int, opening_s: float = 0.0, sending_s: float = 0.0) -> None:
        self._upstream, self._opening_s, self._sending_s = port, opening_s, sending_s
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._opening_s)
        there, upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
        await asyncio.gather(
            self._pass(reader, upstream, self._sending_s), self._pass(there, writer, 0.0)
        )

    @staticmethod
    async def _pass(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                if delay_s:
                    await asyncio.sleep(delay_s)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # one side has gone; the other is told by closing
        finally:
            writer.close()

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


Inject = Callable[[pytest.MonkeyPatch, Path], Any]


@contextmanager
def nothing(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Inject by settings alone."""
    yield


def _to_database(**delays: float) -> Inject:
    """Return what puts a proxy between the service and its database."""

    @contextmanager
    def inject(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
        made, original = [], servers.service

        def service(home: Home, s: Settings, token: str) -> Command:
            command = original(home, s, token)
            made.append(Proxy(int(command.env["DB_PORT"]), **delays))
            return replace(command, env={**command.env, "DB_PORT": str(made[-1].port)})

        patch.setattr(servers, "service", service)
        yield
        for proxy in made:
            proxy.close()

    return inject


@contextmanager
def before_the_service(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Put a proxy between the load generator and the service."""
    made, original = [], native.locust_command

    def locust(python: str, file: Path, host: str, *args: Any, **kwargs: Any) -> list[str]:
        made.append(Proxy(int(host.rpartition(":")[2]), sending_s=DELAY_S))
        return original(python, file, f"http://127.0.0.1:{made[-1].port}", *args, **kwargs)

    patch.setattr(native, "locust_command", locust)
    yield
    for proxy in made:
        proxy.close()


@contextmanager
def in_the_service(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Make the service itself slow where it writes its answer."""
    (folder / "sitecustomize.py").write_text(SLOW_ANSWER)
    original = servers.service

    def service(home: Home, s: Settings, token: str) -> Command:
        command = original(home, s, token)
        return replace(command, env={**command.env, "PYTHONPATH": f"{folder}:{ROOT}"})

    patch.setattr(servers, "service", service)
    yield


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Inject]] = {
    "executing": ({}, {"SLOW_QUERY_MS": 150}, nothing),
    "pool-wait": ({}, {"DB_POOL_SIZE": 1}, nothing),
    "pgbouncer-wait": (PGBOUNCER, {"PGBOUNCER_DEFAULT_POOL_SIZE": 1}, nothing),
    "connecting": (PER_REQUEST, {}, _to_database(opening_s=DELAY_S)),
    "database-rest": ({}, {}, _to_database(sending_s=DELAY_S)),
    "outside": ({}, {}, before_the_service),
    "own": ({}, {}, in_the_service),
}


@pytest.fixture(scope="module")
def bases() -> dict[str, dict[str, float]]:
    """Budgets without a delay, by the settings that they are of."""
    return {}


@pytest.mark.parametrize("part", CASES)
def test_delay_shows_in_its_own_part(
    lab: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bases: dict[str, dict[str, float]],
    scratch: Path,
    part: str,
) -> None:
    base, more, inject = CASES[part]
    key = repr(base)
    if key not in bases:
        bases[key] = budget(lab, tmp_path / "before", {**BASE, **base})
    try:
        with inject(monkeypatch, scratch):
            after = budget(lab, tmp_path / "after", {**BASE, **base, **more})
    finally:
        monkeypatch.undo()
    grown = {name: ms - bases[key][name] for name, ms in after.items()}
    whole = grown.pop("whole")
    assert whole > 50
    assert grown.pop(part) >= 0.9 * whole, (part, bases[key], after)
    for name, ms in grown.items():
        assert abs(ms) <= 0.1 * whole, (name, bases[key], after)


def budget(lab: Lab, folder: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Return the parts of a cell's mean latency, and the whole."""
    record = measure(lab, folder, **settings)
    found = diagnose_record(record).budget
    assert found.complete, (record.reject_reasons, found)
    assert found.total_ms is not None
    print(settings, {part.name: round(part.ms, 2) for part in leaves(found)})
    return {part.name: part.ms for part in leaves(found)} | {"whole": found.total_ms}
