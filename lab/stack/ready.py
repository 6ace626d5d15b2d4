"""Waiting for a server: a real query, a deadline, and the last error in the message."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from lab.errors import ServiceError

T = TypeVar("T")

POLL_S = 0.02


def wait_until(
    check: Callable[[], T],
    what: str,
    deadline_s: float,
    *,
    alive: Callable[[], bool] = lambda: True,
    tail: Callable[[], str] = str,
    errors: tuple[type[Exception], ...] = (OSError,),
) -> T:
    """Call `check` until it returns without one of `errors`; return what it returned.

    Raises ServiceError after `deadline_s` seconds, or at once when `alive` says the process ended,
    with the last error and the tail of the log.
    """
    end = time.monotonic() + deadline_s
    while True:
        try:
            return check()
        except errors as error:
            last = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        if not alive():
            raise ServiceError(f"{what} ended while starting{_with(tail())}")
        if time.monotonic() > end:
            raise ServiceError(f"{what} not ready after {deadline_s:g} s: {last}{_with(tail())}")
        time.sleep(
            POLL_S
        )  # the one wait between two tries; never a guess at how long a start takes


def _with(tail: str) -> str:
    return f"; the end of its log:\n{tail}" if tail else ""
