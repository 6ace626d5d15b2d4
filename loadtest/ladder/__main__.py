"""Run one rung: start its writing processes, keep their account, say when the window is.

`started.json` appears when every process writes, with the window's edges in Unix time;
`result.json` when all have ended. SIGTERM ends the rung early: writes under way are waited for.
Exit codes: 0, 2 for bad settings or a rung that cannot be opened, with one line.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil
from pydantic import ValidationError

from loadtest.ladder import catalog, rows, writer
from loadtest.ladder.account import Account
from loadtest.ladder.exposition import LadderCollector, serve
from loadtest.ladder.settings import GeneratorSettings

BAD_INPUT = 2
#: After the window's end, so that the samples at its edges are taken under load.
TAIL_S = 0.5
POLL_S = 0.2


class RungFailed(Exception):
    """A writing process could not go on."""


class Generator:
    """The writing processes of one rung and their account."""

    def __init__(self, settings: GeneratorSettings) -> None:
        self._settings = settings
        self._count = catalog.processes(catalog.BY_NAME[settings.rung])
        self._pipes: list[Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._done: list[dict[str, Any]] = []
        self._ready = 0
        self._end = math.inf
        self._account = Account(settings.folder, settings.interval, time.time())

    def run(self) -> None:
        """Live the rung's life; raises RungFailed."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop_at(time.time()))
        self._fork()
        s = self._settings
        if s.metrics_port is not None:
            self._serve(s.metrics_port)
        seen = [psutil.Process(), *(psutil.Process(p.pid) for p in self._processes)]
        weighed = 0.0
        while self._pipes:
            self._take()
            now = time.time()
            if now - weighed > 1:
                weighed = now
                self._account.weigh(seen)
            if self._ready == self._count and self._account.due():
                self._account.line()
            if now >= self._end:
                self._tell_to_stop()
        self._account.line()
        self._account.close()
        self._write("result.json", self._result())

    def _serve(self, port: int) -> None:
        """Serve the metrics; without them the rung can be measured as well."""
        s = self._settings
        try:
            serve(port, LadderCollector(s.make(), self._account, s.target_tps))
        except OSError as error:
            print(f"ladder: no metrics on port {port}: {error.strerror}", file=sys.stderr)

    def _fork(self) -> None:
        """Start the writing processes before any thread: what is imported is shared."""
        context = multiprocessing.get_context("fork")
        for index in range(self._count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_write, args=(self._settings, index, self._count, theirs, ours), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def _take(self) -> None:
        for pipe in wait(self._pipes, POLL_S):
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except EOFError:
                raise RungFailed("a writing process ended without a word") from None
            if "second" in message:
                self._account.add(message["second"])
            elif "ready" in message:
                self._begin()
            elif "done" in message:
                self._done.append(message["done"])
                self._pipes.remove(pipe)
            else:
                raise RungFailed(message["failed"])

    def _begin(self) -> None:
        """Say when the window is, once every process writes."""
        self._ready += 1
        if self._ready < self._count:
            return
        now = time.time()
        self._account.begin(now)
        start = float(math.ceil(now + self._settings.warmup))
        end = start + self._settings.duration
        self._stop_at(end + TAIL_S)
        self._write("started.json", {"at": now, "window_start": start, "window_end": end})

    def _stop_at(self, moment: float) -> None:
        self._end = min(self._end, moment)

    def _tell_to_stop(self) -> None:
        self._end = math.inf
        for pipe in self._pipes:
            pipe.send("stop")

    def _result(self) -> dict[str, Any]:
        return {
            "rung": self._settings.rung,
            "processes": self._done,
            "highest_memory_bytes": self._account.highest_memory_bytes,
        }

    def _write(self, name: str, content: dict[str, Any]) -> None:
        path = self._settings.folder / name
        temporary = path.with_name(f".{name}")
        temporary.write_text(json.dumps(content))
        temporary.rename(path)


def _write(
    settings: GeneratorSettings, index: int, count: int, pipe: Connection, other_end: Connection
) -> None:
    """Be a writing process; without the parent's end of the pipe, so that its death is heard."""
    other_end.close()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent says when to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    writer.main(settings, index, count, pipe)


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    if arguments == ["--list"]:
        print(json.dumps(catalog.listing()))
        return 0
    if arguments[:1] == ["--rows"] and len(arguments) == 3 and all(map(str.isdigit, arguments[1:])):
        sys.stdout.writelines(rows.lines(seed=int(arguments[2]), count=int(arguments[1])))
        return 0
    if arguments:
        return _failed("known are --list and --rows COUNT SEED; settings are in the environment")
    try:
        settings = GeneratorSettings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        first = error.errors()[0]
        name = f"LADDER_{str(first['loc'][0]).upper()}: " if first["loc"] else ""
        return _failed(name + first["msg"].removeprefix("Value error, "))
    Path(settings.folder).mkdir(parents=True, exist_ok=True)
    try:
        Generator(settings).run()
    except (RungFailed, OSError) as error:
        return _failed(str(error))
    return 0


def _failed(line: str) -> int:
    print(f"ladder: {line}", file=sys.stderr, flush=True)
    return BAD_INPUT


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the metrics thread and half-opened connections are not waited for
