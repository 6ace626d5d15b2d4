"""One writing process: its lanes, its pace, and what it tells the process that started it."""

from __future__ import annotations

import asyncio
import logging
import time
from math import floor
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from loadtest.ladder import rows
from loadtest.ladder.contract import Rung, describe, fate
from loadtest.ladder.settings import GeneratorSettings
from loadtest.ladder.tally import Tally

#: Seconds before a refused batch is sent again; doubled up to the second one.
RETRY_FIRST_S, RETRY_MOST_S = 0.05, 1.0
#: How long writes under way may take to end once the writer was told to stop.
DRAIN_S = 20.0


class Pace:
    """The intended start of each write: a fixed rate, or as soon as a lane is free."""

    def __init__(self, writes_per_s: float | None) -> None:
        self._rate = writes_per_s
        self._began = time.perf_counter()
        self._taken = 0

    async def next(self, stopped: asyncio.Event) -> float | None:
        """Wait for the next start and return when it was meant to be; None when stopped first."""
        if self._rate is None:
            # A rung that never waits would otherwise hear of nothing, its end included.
            await asyncio.sleep(0)
            return None if stopped.is_set() else time.perf_counter()
        due = self._began + self._taken / self._rate
        self._taken += 1
        late = time.perf_counter() - due
        if late < 0:
            try:
                await asyncio.wait_for(stopped.wait(), -late)
            except TimeoutError:
                return due
        else:
            await asyncio.sleep(0)
        return None if stopped.is_set() else due

    def queue_length(self) -> int:
        """Return how many writes are due and not yet begun."""
        if self._rate is None:
            return 0
        due = floor((time.perf_counter() - self._began) * self._rate) + 1
        return max(0, due - self._taken)


class Writer:
    """The lanes of one process."""

    def __init__(
        self, settings: GeneratorSettings, index: int, processes: int, pipe: Connection
    ) -> None:
        self._settings = settings
        self._index = index
        self._rung: Rung = settings.make()
        self._pipe = pipe
        kept = settings.folder / f"acknowledged-{index}.bin"
        self._tally = Tally(kept if settings.keep_acknowledgements else None)
        self._rate = None
        if settings.target_tps is not None:
            self._rate = settings.target_tps / self._rung.batch / processes

    async def run(self) -> None:
        """Open, write until told to stop, close; what was written goes through the pipe."""
        rung, settings = self._rung, self._settings
        bodies, made_s, per_row_s = rows.make(settings.seed, rung.form, rung.batch)
        self._keys = rows.Keys(bodies, self._index)
        self._stopped = asyncio.Event()
        try:
            began = time.perf_counter()
            await rung.open()
            opened_s = time.perf_counter() - began
            opened = rung.connecting.count
            asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._stopped.set)
            self._send(ready=True)
            self._pace = Pace(self._rate)
            telling = asyncio.create_task(self._tell())
            await self._write()
            telling.cancel()
        finally:
            await rung.close()
        for second in self._tally.finish():
            self._send(second=second.message() | self._state())
        self._send(
            done={
                "base": self._keys.base,
                "next": self._keys.next,
                "acknowledged_rows": self._tally.acknowledged_rows,
                "unknown": self._tally.unknown,
                "not_written": self._tally.not_written,
                "bodies_s": made_s,
                "making_us_per_row": per_row_s * 1e6,
                "open_s": opened_s,
                "opened": opened,
            }
        )

    async def _write(self) -> None:
        lanes = [asyncio.create_task(self._lane()) for _ in range(self._rung.lanes)]
        stopped = asyncio.create_task(self._stopped.wait())
        # A lane ends only by being told to, or by a fault of this program.
        await asyncio.wait([*lanes, stopped], return_when=asyncio.FIRST_COMPLETED)
        _, late = await asyncio.wait(lanes, timeout=DRAIN_S)
        for lane in late:
            lane.cancel()
        stopped.cancel()
        ended = await asyncio.gather(*lanes, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _lane(self) -> None:
        """Write batch after batch; one that was refused is sent again until it is written."""
        tally, rung = self._tally, self._rung
        while (due := await self._pace.next(self._stopped)) is not None:
            batch = self._keys.take(rung.batch)
            wait_s = RETRY_FIRST_S
            while True:
                try:
                    await rung.write(batch)
                except asyncio.CancelledError:
                    tally.failed(batch, "no answer until the end", "unknown")
                    raise
                except Exception as error:  # noqa: BLE001  # counted and told with its words
                    what = fate(error)
                    tally.failed(batch, describe(error), what)
                    if what == "unknown":
                        break
                    await self._pause(wait_s)
                    wait_s = min(2 * wait_s, RETRY_MOST_S)
                    if self._stopped.is_set():
                        tally.given_up(batch)
                        break
                else:
                    tally.acknowledged(batch, time.perf_counter() - due)
                    break

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return

    async def _tell(self) -> None:
        """Tell of each second when it is over, for ever; a late one still holds only its own."""
        while True:
            now = time.time()
            await asyncio.sleep(floor(now) + 1 - now)
            for second in self._tally.close_until(int(time.time())):
                self._send(second=second.message() | self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "process": self._index,
            "queue": self._pace.queue_length(),
            "connects": self._rung.connecting.count,
            "connect_s": self._rung.connecting.seconds,
            "cpu_s": time.process_time(),
            "cpu_at": time.time(),
        }

    def _send(self, **message: Any) -> None:
        self._pipe.send(message)


def main(settings: GeneratorSettings, index: int, processes: int, pipe: Connection) -> None:
    """Be one writing process; an error of opening goes through the pipe."""
    # Its pool reports every failed attempt to open a connection, which the tally does already.
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Writer(settings, index, processes, pipe).run())
    except BrokenPipeError:
        return  # nobody is there to be told
    except Exception as error:  # noqa: BLE001  # told to the parent, which ends with it
        pipe.send({"failed": describe(error)})
