"""Who has to answer a scrape now: a load before its metrics are there, or after, is not missed."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Collection
from pathlib import Path

from lab.files import write_atomic
from lab.stack.base import Load
from lab.stack.servers import APPS

#: The load's scrape job.
LOAD = "locust"
TIMEOUT_S = 1


class DueLoad:
    """See Load. `tell` is called once the metrics answer, and before the load is stopped.

    `alive` looks whether they do, until they do: whoever waits for a load asks it all the time.
    """

    def __init__(
        self, load: Load, answers: Callable[[], bool], tell: Callable[[bool], None]
    ) -> None:
        self._load, self._answers, self._tell = load, answers, tell
        self._told = False

    def alive(self) -> bool:
        """See Load."""
        alive = self._load.alive()
        if alive and not self._told and self._answers():
            self._told = True
            self._tell(True)
        return alive

    def limit(self, cpus: float) -> None:
        """See Load."""
        self._load.limit(cpus)

    def stop(self) -> None:
        """See Load."""
        try:
            self._tell(False)
        finally:  # also on a full disk
            self._load.stop()

    def tail(self, lines: int = 20) -> str:
        """See Load."""
        return self._load.tail(lines)


def due(answering: Collection[str], measured: bool, loading: bool) -> list[str]:
    """Return who has to answer a scrape now, as the state file of Poolscope's exporter names it.

    `answering` are the servers that are ready; `measured` says whether a service has metrics.
    """
    found = [name for name in ("postgres", "pgbouncer") if name in answering]
    if measured and not APPS.keys().isdisjoint(answering):
        found.append("service")
    return [*found, LOAD] if loading else found


def mark(state_file: Path, due: bool) -> None:
    """Say in a state file whether a load is due; all else that stands there stays.

    The load may be put on servers that another process has started, and written there.
    """
    state = json.loads(state_file.read_text(encoding="utf-8"))
    others = [name for name in state.get("due") or () if name != LOAD]
    state["due"] = [*others, LOAD] if due else others
    write_atomic(state_file, json.dumps(state, indent=1))


def serves(host: str, port: int, token: str) -> bool:
    """Return whether /metrics on a port is that of a server with this start token."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return f'start="{token}/'.encode() in connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
