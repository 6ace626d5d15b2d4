"""The pool of the Django service while the database is down."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from apps.django_app.postgresql.base import ServicePool

#: A request that nobody tells waits so long: far beyond what a busy host needs for the rest.
POOL_TIMEOUT_S, SOON_S = 60, 20


class Refused(psycopg.Connection[Any]):
    """Is a connection that cannot be opened."""

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Any:
        """Refuse, as a server that is down."""
        raise psycopg.OperationalError("connection refused")


class LatecomerHandler(logging.Handler):
    """Lets a request come when an attempt has failed and the pool has not given up yet.

    psycopg's pool says "error connecting" exactly then, from the thread that connects.
    """

    def __init__(self, pool: ServicePool, attempt: int) -> None:
        super().__init__()
        self.errors: list[BaseException] = []
        self.threads: list[threading.Thread] = []
        self._pool = pool
        self._until = attempt

    def emit(self, record: logging.LogRecord) -> None:
        """Start the request at the wanted attempt; return when it waits at the pool."""
        if not record.msg.startswith("error connecting"):
            return
        self._until -= 1
        if self._until != 0:
            return
        thread = threading.Thread(target=self.ask)
        thread.start()
        self.threads.append(thread)
        deadline = time.monotonic() + SOON_S
        while not self._pool.get_stats().get("requests_waiting"):
            assert time.monotonic() < deadline, "the request does not wait"
            time.sleep(0.001)

    def ask(self) -> None:
        """Ask for a connection and keep the error."""
        try:
            self._pool.getconn()
        except psycopg.Error as error:
            self.errors.append(error)


@pytest.fixture
def refused() -> Iterator[ServicePool]:
    with ServicePool(
        connection_class=Refused,
        min_size=0,
        max_size=4,
        timeout=POOL_TIMEOUT_S,
        reconnect_timeout=0,
        open=False,
    ) as pool:
        yield pool


@pytest.mark.parametrize("attempt", [1, 2])
def test_the_pool_tells_a_request_that_comes_while_it_gives_up(
    refused: ServicePool, attempt: int
) -> None:
    log = logging.getLogger("psycopg.pool")
    latecomer = LatecomerHandler(refused, attempt)
    log.addHandler(latecomer)
    begin = time.monotonic()
    try:
        with pytest.raises(psycopg.OperationalError, match="connection refused"):
            refused.getconn()
        deadline = begin + SOON_S
        while not latecomer.threads and time.monotonic() < deadline:
            time.sleep(0.01)
        for thread in latecomer.threads:
            thread.join()
    finally:
        log.removeHandler(latecomer)
    assert [str(error) for error in latecomer.errors] == ["connection refused"]
    assert time.monotonic() - begin < POOL_TIMEOUT_S


def test_the_pool_tries_again_for_the_next_request(refused: ServicePool) -> None:
    for _ in range(20):
        with pytest.raises(psycopg.OperationalError, match="connection refused"):
            refused.getconn()
