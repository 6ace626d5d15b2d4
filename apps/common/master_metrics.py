"""What only the gunicorn master can see: its workers, their use, and the backlog.

The backlog of a listening socket is asked of the socket itself (TCP_INFO): of /proc/net/tcp the
whole would have to be read, a line for each connection of the host, at the service's expense.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.registry import Collector

PROC: Final = Path("/proc")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
#: The gauge of metrics.py, which opens files where it is imported.
_IN_PROGRESS: Final = "http_requests_in_progress"
#: struct tcp_info: eight bytes, then 32-bit numbers. Of a socket that listens, the fifth of them
#: (tcpi_unacked) is the number of connections not yet accepted, the sixth (tcpi_sacked) the most.
_TCP_INFO: Final = struct.Struct("=8x4x4x4x4xII")


class Listener(Protocol):
    """A listening socket as gunicorn wraps it."""

    sock: socket.socket


class Arbiter(Protocol):
    """The part of gunicorn's master that is looked at."""

    WORKERS: dict[int, object]
    LISTENERS: list[Listener]


class MasterCollector(Collector):
    """Looks at the master at each scrape; nothing is done for it in the request path."""

    def __init__(self, arbiter: Arbiter, folder: Path, exits: Callable[[], int]) -> None:
        self._arbiter = arbiter
        self._folder = folder
        self._exits = exits
        self._places = Places()

    def describe(self) -> list[Metric]:
        """Say nothing beforehand: there are no workers yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give workers and backlog as of now."""
        pids = list(self._arbiter.WORKERS)
        busy = sum(in_progress(self._folder, pid) > 0 for pid in pids)
        yield GaugeMetricFamily("service_workers", "Worker processes.", value=len(pids))
        yield GaugeMetricFamily(
            "service_workers_busy", "Workers with a request under way.", value=busy
        )
        yield CounterMetricFamily(
            "service_worker_restarts",
            "Workers that ended, each replaced by a new one: MAX_REQUESTS, timeouts, crashes.",
            value=self._exits(),
        )
        yield self._memory(pids)
        found = backlog(listener.sock for listener in self._arbiter.LISTENERS)
        if found is None:
            return
        waiting, most = found
        yield GaugeMetricFamily(
            "service_listen_backlog_connections",
            "Connections that no worker has accepted yet.",
            value=waiting,
        )
        yield GaugeMetricFamily(
            "service_listen_backlog_max_connections",
            "Connections that may wait to be accepted.",
            value=most,
        )

    def _memory(self, pids: Iterable[int]) -> Metric:
        family = GaugeMetricFamily(
            "service_worker_memory_bytes",
            "Memory of each worker, without pages of files, which all share.",
            labels=["worker"],
        )
        for place, pid in self._places.of(pids).items():
            if (size := memory_bytes(pid)) is not None:
                family.add_metric([str(place)], size)
        return family


class Places:
    """Numbers the workers from 1 on; one that takes another's place gets its number.

    Process ids would make a new series of each worker that MAX_REQUESTS replaces.
    """

    def __init__(self) -> None:
        self._pids: dict[int, int] = {}

    def of(self, pids: Iterable[int]) -> dict[int, int]:
        """Return the process of each number that is taken now."""
        pids = list(pids)
        kept = {place: pid for place, pid in self._pids.items() if pid in pids}
        free = (place for place in count(1) if place not in kept)
        new = [pid for pid in pids if pid not in kept.values()]
        self._pids = kept | dict(zip(free, new, strict=False))
        return dict(sorted(self._pids.items()))


def memory_bytes(pid: int, proc: Path = PROC) -> int | None:
    """Return a process's memory without pages of files (its RssAnon); None once it is gone.

    Programs and libraries are mapped by all workers, and RSS counts them once for each. The exact
    division of shared pages by the kernel (PSS) takes 0.6 ms per worker and scrape, with a lock on
    the worker's memory, against 15 us: too much for what is being measured. What is left in here of
    the pages of the master is little: a Django worker had 44 MiB so, PSS 40, RSS 56.
    """
    try:
        words = (proc / str(pid) / "statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    resident, of_files = int(words[1]), int(words[2])
    # One that ended, and that the master has not waited for yet, has none.
    return (resident - of_files) * PAGE_BYTES if resident else None


def in_progress(folder: Path, pid: int) -> float:
    """Return the requests that one worker has under way; 0 before its first request."""
    path = folder / f"gauge_livesum_{pid}.db"
    try:
        values = list(MmapedDict.read_all_values_from_file(str(path)))
    except FileNotFoundError:
        return 0
    return sum(value for key, value, *_ in values if f'"{_IN_PROGRESS}"' in key)


def backlog(sockets: Iterable[socket.socket]) -> tuple[int, int] | None:
    """Return how many connections wait to be accepted and how many may, of all sockets together.

    None where the kernel does not say.
    """
    waiting = most = 0
    for listening in sockets:
        try:
            info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        except OSError:
            return None
        found = _TCP_INFO.unpack(info)
        waiting, most = waiting + found[0], most + found[1]
    return waiting, most
