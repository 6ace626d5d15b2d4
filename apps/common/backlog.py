"""The listen backlog of gunicorn's ASGI workers.

asyncio calls listen() on the shared socket anew, with its own default of 100 (loop.create_server;
gunicorn hands it no other), which would undo gunicorn's `backlog` for FastAPI and Django's async
modes only: a burst of connections would be refused by one service and queue in the others.
"""

from __future__ import annotations

import asyncio
from typing import Any

#: Between looks at whether the worker listens by now; nothing else in its life tells.
POLL_S = 0.01


def keep(worker: Any, backlog: int) -> None:
    """Let a worker with an event loop listen with gunicorn's backlog once it listens at all."""
    loop = getattr(worker, "loop", None)
    if loop is not None:
        worker.backlog_task = loop.create_task(_listen_again(worker, backlog))


async def _listen_again(worker: Any, backlog: int) -> None:
    while len(worker.servers) < len(worker.sockets):
        await asyncio.sleep(POLL_S)
    for listener in worker.sockets:
        listener.sock.listen(backlog)
