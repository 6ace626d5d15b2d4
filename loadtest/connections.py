"""Two corrections of geventhttpclient, so that a request is one request and a user one connection.

Each was seen with geventhttpclient 2.6.1; tests/integration/test_load.py holds both.
"""

from __future__ import annotations

import select

import geventhttpclient.client
from gevent.monkey import get_original
from geventhttpclient.connectionpool import ConnectionPool

# gevent replaces select.poll by one that runs the event loop; this is the plain system call.
_poll = get_original("select", "poll")


def correct_http_client() -> None:
    """Install both corrections in this process; before the first user starts."""
    ConnectionPool._is_socket_alive = _is_idle  # type: ignore[method-assign, assignment]
    geventhttpclient.client._may_retry_after_send_error = _never_resend


def _is_idle(_pool: ConnectionPool, sock: object) -> bool:
    """Say whether a kept connection may carry the next request: open, with nothing to read.

    The original asks select(), which refuses file descriptors from 1024 on and so takes every such
    connection for dead: from about 1,000 users on, some connect anew for each request. It also
    yields to the other users between the start of the clock and the sending of the request, which
    adds the generator's own queue to the latency.
    """
    descriptor = sock.fileno() if sock is not None else -1  # type: ignore[attr-defined]
    if descriptor < 0:
        return False
    poller = _poll()
    poller.register(descriptor, select.POLLIN)
    return not poller.poll(0)


def _never_resend(method: str) -> bool:
    """Refuse to send a request again whose connection closed before an answer.

    The original resends a GET in silence, up to pool size + 1 times: the failure is then seen
    nowhere, its latency is that of several requests, and client and server counts differ.
    """
    return False
