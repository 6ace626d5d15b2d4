"""Serve /metrics from the gunicorn master, so that a scrape never queues behind requests.

The master forks workers while this thread runs. A child must not inherit a lock that the thread
held, nor the listening socket, which would keep the port taken after the master is gone: so a
fork waits for a scrape under way to end, and the child closes its copy of the socket.
"""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final

from prometheus_client.registry import Collector

from apps.common.exposition import CONTENT_TYPE, exposition
from apps.common.workload import METRICS_PATH

_CLIENT_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.1

_busy = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    """Answers GET /metrics and nothing else."""

    timeout = _CLIENT_TIMEOUT_S
    collectors: tuple[Collector, ...] = ()

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != METRICS_PATH:
            self.send_error(404)
            return
        with _busy:
            body = exposition(*self.collectors)
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep scrapes out of the service's log."""


class MetricsServer:
    """Is the thread that serves /metrics; one client at a time."""

    def __init__(self, host: str, port: int, *collectors: Collector) -> None:
        handler = type("Handler", (_Handler,), {"collectors": collectors})
        self._server = HTTPServer((host, port), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True
        )
        self._owner = os.getpid()

    def start(self) -> None:
        """Begin to answer; raises OSError from the constructor where the port is taken."""
        os.register_at_fork(
            before=_busy.acquire, after_in_parent=_busy.release, after_in_child=self._forget
        )
        self._thread.start()

    def stop(self) -> None:
        """Answer the request under way, then free the port."""
        if os.getpid() != self._owner:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _forget(self) -> None:
        _busy.release()
        self._server.socket.close()
