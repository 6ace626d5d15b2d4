"""What PostgreSQL's backends are doing while a rung writes: samples of pg_stat_activity."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

import psycopg

PERIOD_S = 0.1
SAMPLE = """
SELECT CASE WHEN state <> 'active' THEN 'Client:' || coalesce(wait_event, state)
            WHEN wait_event IS NULL THEN 'CPU'
            ELSE wait_event_type || ':' || wait_event END,
       count(*)
FROM pg_stat_activity
WHERE usename = %s AND backend_type = 'client backend'
GROUP BY 1
"""
#: Waits for the log: writing it, flushing it, its locks, and the files that it needs.
WAL = ("IO:WAL", "LWLock:WAL")


@dataclass
class Sampling:
    """Samples taken in the background between `start` and `stop`."""

    superuser: str = field(repr=False)
    role: str
    seen: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    failed: str | None = None

    def start(self) -> None:
        """Sample until `stop`."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the samples; `seen` is whole then."""
        self._ended.set()
        self._thread.join()

    def mean(self) -> dict[str, float]:
        """Return the mean number of backends in each state."""
        return {name: n / self.samples for name, n in sorted(self.seen.items())}

    def _run(self) -> None:
        try:
            with psycopg.connect(self.superuser, autocommit=True) as connection:
                while not self._ended.wait(PERIOD_S):
                    rows = connection.execute(SAMPLE, (self.role,)).fetchall()
                    self.samples += 1
                    self.seen.update(dict(rows))
        except psycopg.Error as error:
            self.failed = str(error).strip().splitlines()[0]


def time_in(waits: dict[str, float], lanes: int, cores: float | None) -> dict[str, float]:
    """Return where a write under way spends its time, as shares: what is left is the client's.

    `waits` are mean numbers of backends. Backends of a pool that no lane uses wait for a client
    too, so these are not counted but inferred. A backend without a wait event computes, or would
    if it had a core: `cores` is the CPU that the database really used, None where unknown.
    """
    ready = waits.get("CPU", 0.0) / lanes
    computing = ready if cores is None else min(ready, cores / lanes)
    shares = {"computing": computing, "a core": ready - computing}
    busy = {n: v / lanes for n, v in waits.items() if n != "CPU" and not n.startswith("Client:")}
    shares["WAL"] = sum(v for name, v in busy.items() if name.startswith(WAL))
    shares["other waits"] = sum(v for name, v in busy.items() if not name.startswith(WAL))
    shares["client"] = max(0.0, 1 - sum(shares.values()))
    return {name: round(value, 4) for name, value in shares.items()}
