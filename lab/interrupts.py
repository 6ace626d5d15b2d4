"""Ctrl-C and SIGTERM end a run at once, but never between starting a server and knowing it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_depth = 0
_pending: int | None = None


class Interrupted(BaseException):
    """A signal asked to end; carries its number. Not an Exception: nobody goes on after it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def install() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into Interrupted, raised in the main thread."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # One that is ignored stays so: that is how nohup lets a run outlive its terminal.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    # A job that a script runs in the background is started with this one ignored, and so would be
    # every server; it is how PgBouncer is told to end.
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    global _pending
    if _depth:
        _pending = number
    else:
        raise Interrupted(number)


@contextmanager
def shielded() -> Iterator[None]:
    """Hold signals back until the block has ended; they are raised then."""
    global _depth, _pending
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth and _pending is not None:
            number, _pending = _pending, None
            raise Interrupted(number)
