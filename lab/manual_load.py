"""`make load`: load on what `make up` started, by the same generator and metrics as a run's."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status

from lab import config, intervals
from lab.errors import ConfigError, ResultError, ServiceError
from lab.files import write_atomic
from lab.interrupts import shielded
from lab.intervals import Interval
from lab.settings import SECRET_FIELDS, TOGGLES, Settings, build
from lab.stack import manual, select, state
from lab.stack.base import Event, Load, Moment, Stack
from lab.stack.home import Home
from lab.stack.manual import LOADS, RUN_ID
from lab.stack.ports import free, next_free
from lab.story import CELLS

#: Toggles that hold for a load alone; the others are those of the stack that is up.
OWN = ("USERS", "SPAWN_RATE", "SCENARIO", "GENERATOR_CPUS")
FOR_S, LONGEST_S = 60, 3600
POLL_S = 0.1
#: How long the generator may take until its first second is written.
START_S = 60


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for: seconds, and toggles by their names."""

    length_s: int
    toggles: dict[str, Any]
    secrets: dict[str, str]


def wanted(
    options: Mapping[str, str], overrides: Mapping[str, tuple[str, str]], env: Mapping[str, str]
) -> Wanted:
    """Return what is asked for; raise ConfigError for a word that a load does not take.

    `overrides` maps a toggle to (value, source). What the environment sets for others is theirs.
    """
    length = options.get("FOR", str(FOR_S))
    if not length.isdigit() or not 1 <= int(length) <= LONGEST_S:
        raise ConfigError(
            f"FOR={length} is not allowed; allowed: a whole number, at least 1, at most {LONGEST_S}"
        )
    for name, (value, source) in overrides.items():
        if name not in OWN and source == "command line":
            raise ConfigError(
                f"{name} cannot be changed while the stack is up; `make down`, then "
                f"`make up {name}={value}`"
            )
    given = {name: pair for name, pair in overrides.items() if name in OWN}
    sources = {name: source for name, (_, source) in given.items()}
    toggles = {name: value for name, (value, _) in given.items()}
    build(toggles, sources)
    secrets = {n.upper(): env[n.upper()] for n in SECRET_FIELDS if n.upper() in env}
    return Wanted(int(length), toggles, secrets)


def run(home: Home, asked: Wanted, console: Console) -> None:
    """Put the load on what is up, and print what it saw; raise ConfigError where nothing is up."""
    left = state.read(home)
    if left is None or left.command != state.UP or not left.ports:
        raise ConfigError("no stack is up to put load on; `make up` starts one")
    values = {name: value for name, value in left.settings.items() if name in TOGGLES}
    settings = build(values | asked.secrets | asked.toggles)
    config.check_combination(settings)
    _refuse_taken(left.ports)
    stack = select.attach(home, left)
    cell_id, folder = _cell(home, settings)
    putting = Putting(stack, settings, cell_id, folder, asked.length_s)
    if where := left.line("watch"):
        console.print(f"watch {where}", highlight=False, soft_wrap=True)
    try:
        with announced(stack.state_file, manual.labels(settings), putting.labels()) as tell:
            putting.run(tell, console)
    finally:
        console.print(summary(folder, putting), highlight=False, soft_wrap=True)


def _refuse_taken(ports: dict[str, int]) -> None:
    """Refuse a metrics port that Prometheus scrapes and that is another's by now; move the other.

    The stack's Prometheus would take another program's figures for this load's.
    """
    port = ports["locust_metrics_port"]
    if not free(port):
        raise ConfigError(
            f"127.0.0.1:{port}, where Prometheus looks for the load, is taken by another program; "
            "end it, or `make down` and `make up` again"
        )
    name = "locust_master_port"
    ports[name] = next_free(name, ports[name], [p for n, p in ports.items() if n != name])


def _cell(home: Home, s: Settings) -> tuple[str, Path]:
    """Return the name of this load and its new folder; loads since `make up` are counted."""
    number = 1 + len(list((home.run / LOADS).glob("*/")))
    cell_id = f"{s.framework}-{s.route}-u{s.users}-{number}"
    folder = home.run / LOADS / cell_id
    folder.mkdir(parents=True)
    return cell_id, folder


class Announcement:
    """What the exporter is told of a load: which cell runs, and its moments."""

    def __init__(self, path: Path, cell_id: str) -> None:
        self._path = path
        self._cell_id = cell_id

    def moment(self, event: Event, at: float) -> None:
        """Tell of a moment of the load; those of earlier ones are marked for a while too."""
        moments = [*self._read()["moments"], asdict(Moment(RUN_ID, self._cell_id, event, at))]
        cells = list(dict.fromkeys(m["cell_id"] for m in moments))[-CELLS:]
        self._write(moments=[m for m in moments if m["cell_id"] in cells])

    def cell(self, labels: Mapping[str, str]) -> None:
        """Tell which cell runs."""
        self._write(cell=dict(labels))

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self._path.read_text(encoding="utf-8")))

    def _write(self, **changed: Any) -> None:
        # Which servers run and what limits them stands in it too, and stays.
        write_atomic(self._path, json.dumps(self._read() | changed, indent=1))


@contextlib.contextmanager
def announced(path: Path, up: Mapping[str, str], load: Mapping[str, str]) -> Iterator[Announcement]:
    """Announce a load in place of what `make up` said, until the block has ended."""
    announcement = Announcement(path, load["cell_id"])
    try:
        announcement.cell(load)
        announcement.moment("cell_start", time.time())
        yield announcement
    finally:
        announcement.cell(up)


@dataclass
class Putting:
    """One load; `started` is the first second with all users throughout, None until it comes."""

    stack: Stack
    settings: Settings
    cell_id: str
    folder: Path
    length_s: int
    started: float | None = None
    ended: float | None = None

    def labels(self) -> dict[str, str]:
        """Return what dashboards know the load by."""
        s = self.settings
        return {
            "run_id": RUN_ID, "cell_id": self.cell_id, "framework": s.framework, "route": s.route,
            "users": str(s.users), "scenario": s.scenario,
        }  # fmt: skip

    def run(self, tell: Announcement, console: Console) -> None:
        """Load for its seconds; raise ServiceError where the generator ends before."""
        s = self.settings
        status = Status(f"{self.cell_id} starting", console=console)
        load = None
        try:
            with shielded():  # what is started is known, and ended below
                # Its own bound is for the case that this process is killed.
                load = self.stack.load(s, self.folder, self.length_s + START_S)
            if console.is_terminal:
                status.start()
            self._follow(load, tell, status)
        finally:
            status.stop()
            try:
                if self.started is not None:
                    self.ended = float(math.floor(time.time()))
                    tell.moment("window_end", self.ended)
            finally:
                if load is not None:
                    load.stop()

    def _follow(self, load: Load, tell: Announcement, status: Status) -> None:
        follower = intervals.IntervalFollower(self.folder)
        begun = time.time()
        until = begun + START_S
        first: Interval | None = None
        while time.time() < until:
            if not load.alive():
                raise ServiceError(f"locust ended in mid-load; the end of its log:\n{load.tail()}")
            time.sleep(max(0.0, min(POLL_S, until - time.time())))
            seen = follower.poll()
            if seen is None:
                continue
            if first is None:
                first, until = seen, seen.start + self.length_s
            if self.started is None and seen.users >= self.settings.users:
                self.started = float(seen.start + 1)
                if self.settings.generator_cpus:
                    load.limit(self.settings.generator_cpus)
                tell.moment("window_start", self.started)
            status.update(_line(self.cell_id, seen, until - time.time()))
        if first is None:
            raise ServiceError(
                f"locust has sent nothing after {START_S} s; the end of its log:\n{load.tail()}"
            )


def _line(cell_id: str, seen: Interval, left_s: float) -> str:
    p95 = "" if seen.p95_ms is None else f", P95 {seen.p95_ms:,.1f} ms"
    return f"{cell_id} {seen.users} users {seen.rps:,.0f} RPS{p95}  {max(0.0, left_s):.0f} s left"


def summary(folder: Path, putting: Putting) -> str:
    """Return one line on what a load saw, over the seconds with all users where there are any."""
    try:
        seen = intervals.read(folder)
        if not seen:
            return f"{putting.cell_id}: nothing was sent"
        start, end = float(seen[0].start), seen[-1].end
        if putting.started and putting.ended and putting.ended > putting.started:
            start, end = putting.started, putting.ended
        found = intervals.merge(seen, start, end)
    except ResultError:
        return f"{putting.cell_id}: it ended within its first second, so there are no figures"
    times = [
        f"{name} {'n/a' if value is None else f'{value:,.1f} ms'}"
        for name, value in (("P95", found.p95_ms), ("P99", found.p99_ms))
    ]
    errors = "n/a" if found.error_rate is None else f"{found.error_rate:.1%}"
    users = putting.settings.users
    over = "" if found.users_max >= users else f", {found.users_max} of {users} users"
    return (
        f"{putting.cell_id}: {found.attempts:,} requests in {found.window_s:.0f} s, "
        f"{found.rps:,.1f} RPS, {', '.join(times)}, errors {errors}{over}"
    )
