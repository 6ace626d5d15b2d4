"""What the gunicorn master sees: its workers, and the backlog of a real socket."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from apps.common.master_metrics import Places, backlog, in_progress, memory_bytes


def test_backlog_counts_connections_that_nobody_accepted() -> None:
    """The kernel's own count: three of at most five, then two."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(5)
        assert backlog([listening]) == (0, 5)
        for _ in range(3):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        assert backlog([listening]) == (3, 5)
        stack.enter_context(listening.accept()[0])
        assert backlog([listening]) == (2, 5)


def test_backlog_adds_up_several_sockets() -> None:
    with socket.socket() as one, socket.socket() as other:
        for listening in (one, other):
            listening.bind(("127.0.0.1", 0))
            listening.listen(4)
        assert backlog([one, other]) == (0, 8)


def test_backlog_of_no_tcp_socket_is_unknown() -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        assert backlog([listening]) is None


def test_in_progress_reads_a_workers_own_file(tmp_path: Path) -> None:
    values = MmapedDict(str(tmp_path / "gauge_livesum_17.db"))
    for name, value in (("http_requests_in_progress", 2.0), ("other", 5.0)):
        values.write_value(mmap_key(name, name, [], [], "help"), value, 0.0)
    values.close()
    assert in_progress(tmp_path, 17) == 2


def test_in_progress_of_a_worker_without_a_request_is_none_yet(tmp_path: Path) -> None:
    assert in_progress(tmp_path, 17) == 0


def test_places_give_a_new_worker_the_number_of_the_one_that_is_gone() -> None:
    """Series are as many as workers, however often MAX_REQUESTS replaces them."""
    places = Places()
    assert places.of([11, 12, 13]) == {1: 11, 2: 12, 3: 13}
    assert places.of([11, 13]) == {1: 11, 3: 13}
    assert places.of([11, 13, 14]) == {1: 11, 2: 14, 3: 13}
    assert places.of([15, 16, 17, 18]) == {1: 15, 2: 16, 3: 17, 4: 18}


def test_memory_is_the_kernels_anonymous_part_of_what_is_resident() -> None:
    with subprocess.Popen(["sleep", "60"]) as worker:
        try:
            # It may still be loading: stopped, it is the same for both.
            worker.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, worker.pid, os.WSTOPPED)
            status = Path(f"/proc/{worker.pid}/status").read_text()
            expected = re.search(r"RssAnon:\s+(\d+) kB", status)
            assert expected is not None
            assert memory_bytes(worker.pid) == int(expected[1]) * 1024
        finally:
            worker.kill()


def test_memory_of_a_worker_that_ended_is_unknown() -> None:
    """Gone while it was not waited for, and gone for good: neither is 0 bytes."""
    worker = subprocess.Popen(["true"])
    stat = Path(f"/proc/{worker.pid}/stat")
    deadline = time.monotonic() + 5
    while ") Z " not in stat.read_text():
        assert time.monotonic() < deadline
    assert memory_bytes(worker.pid) is None
    worker.wait()
    assert memory_bytes(worker.pid) is None
