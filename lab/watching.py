"""The one address to open: Grafana's, as a link to the run, or that of a page which is served here.

A run serves its page from a thread of its own; what is left running (`make up`, `make monitoring`)
leaves a server of its own beside the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlencode

import httpx
from rich.console import Console

from lab.errors import ServiceError
from lab.interrupts import shielded
from lab.paths import ROOT
from lab.results import Run
from lab.settings import Settings
from lab.snapshot import archive, live
from lab.stack import select, servers
from lab.stack.base import Stack
from lab.stack.home import Home
from lab.stack.ports import next_free
from lab.stack.process import Command, Process
from lab.stack.ready import wait_until
from lab.stack.stores import UP

log = logging.getLogger(__name__)

OVERVIEW, LADDER = "poolscope-overview", "poolscope-ladder"
#: Seconds until a page's server answers: it imports, and reads the dashboards.
READY_S = 30


def grafana_link(base: str, uid: str, run_id: str, began: float, ended: float | None = None) -> str:
    """Return a link to a run's dashboard: following it, or over all of one that has ended."""
    to = {"to": "now", "refresh": "5s"} if ended is None else {"to": round(ended * 1000)}
    query = urlencode({"var-run": run_id, "from": round(began * 1000), **to})
    return f"{base}/d/{uid}?{query}"


class LeftPage:
    """A live page's server that outlives this process; its port is known before it is started."""

    def __init__(self, home: Home, stack: Stack, shown: live.Shown) -> None:
        self._home = home
        self._stack = stack
        self._shown = shown
        self._process: Process | None = None
        self._port = live.PORT
        self.place()

    @property
    def url(self) -> str:
        """Where it answers once it is started."""
        return f"http://{live.HOST}:{self._port}/"

    def place(self) -> None:
        """Take the next port that is free by now."""
        self._port = next_free("PORT", self._port, self._stack.ports.values())

    def start(self) -> None:
        """Start it and wait until it answers; raise ServiceError."""
        args = live.command(self._port, prometheus_url(self._stack), self._shown)
        command = Command("watch", args, servers.base_env(self._home), ROOT)
        with shielded():  # what is started is recorded
            process = self._process = Process(command, self._home.run, detached=True)

        def answers() -> None:
            servers.http_answers(self.url)
            if not process.alive():
                raise ConnectionError("another program answers there")

        wait_until(
            answers,
            f"the live page on {self.url}",
            READY_S,
            alive=process.alive,
            tail=process.tail,
            errors=(OSError, httpx.HTTPError),
        )

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.stop()


def prometheus_url(stack: Stack) -> str:
    """Return where the stack's Prometheus answers once it runs."""
    return f"http://{servers.HOST}:{stack.ports['prometheus_port']}"


@dataclass
class Watching:
    """Says where to watch a run; `ended` is when one that is only looked at again did.

    `page`: serve one where the stack has no Grafana. `left`: it outlives this process.
    """

    home: Home
    console: Console
    run_id: str
    uid: str = OVERVIEW
    monitored: bool = True
    page: bool = True
    left: bool = False
    began: float = field(default_factory=time.time)
    ended: float | None = None
    _said: str | None = None
    _page: live.Background | LeftPage | None = None

    def __enter__(self) -> Watching:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._page is not None and (error is not None or not self.left):
            self._page.close()

    def say(self, stack: Stack) -> str | None:
        """Print and return the address, where it is another than before; None where there is none.

        To be called before the servers start and again when they run: a Grafana that did not start
        gives way to the page.
        """
        where = self._address(stack) if self.monitored else None
        if where != self._said and where is not None:
            self.console.print(f"watch {where}", highlight=False, soft_wrap=True)
        self._said = where
        return where

    def running(self, stack: Stack) -> str | None:
        """Do as `say`, now that the servers run: a page that is left behind is started."""
        if isinstance(self._page, LeftPage):
            self._page.place()  # the servers took their time to start
        where = self.say(stack)
        if isinstance(self._page, LeftPage):
            try:
                self._page.start()
            except ServiceError as error:  # what runs is worth more than a page of it
                log.warning("no live page: %s", error)
                self._page.close()
                self._page, where = None, None
        return where

    def _address(self, stack: Stack) -> str | None:
        if base := stack.grafana_url:
            return grafana_link(base, self.uid, self.run_id, self.began, self.ended)
        if self._page is None and self.page:
            self._page = self._open(stack)
        return None if self._page is None else f"{self._page.url}#{self.uid}"

    def _open(self, stack: Stack) -> live.Background | LeftPage | None:
        begun: float | None = self.began
        again = f"`make monitoring RUN={self.run_id}` shows it again"
        if self.run_id == UP:  # it may go on for days, of which the last minutes matter
            begun, again = None, "`make up` starts it again"
        shown = live.Shown(self.run_id, begun, self.ended, f"the server has ended; {again}")
        if self.left:
            return LeftPage(self.home, stack, shown)
        source = live.Source(lambda: prometheus_url(stack))
        return live.in_background(source, shown, stack.ports.values())


@contextmanager
def stack_of_run(
    home: Home, run: Run, cells: Sequence[Settings], asked_for: set[str], console: Console,
    title: str, uid: str = OVERVIEW,
) -> Iterator[Stack]:  # fmt: skip
    """Hold the prepared and watched stack of a run, whose first words say where to watch it.

    `cells` are the settings of its cells in their order. It is stopped at the end.
    """
    first = cells[0]
    watching = Watching(
        home, console, run.run_id, uid,
        monitored=any(s.monitoring == "on" for s in cells), page=first.watch_page == "on",
    )  # fmt: skip
    with watching:
        stack = select.open_stack(home, first, asked_for, console, first=watching.say)
        try:
            console.print(f"run {run.run_id}: {title}", highlight=False)
            stack.keep(run.run_id)
            stack.prepare(first)
            stack.monitor(first)
            watching.say(stack)
            yield stack
        finally:
            stack.stop()


def look_again(run: Run, console: Console) -> None:
    """Say how a run that has ended is looked at."""
    report = run.folder / "report.html"
    if (run.folder / archive.NAME).is_file():  # else it ran without Prometheus
        commands = f"`make monitoring RUN={run.run_id}`, `make snapshot RUN={run.run_id}`"
        console.print(f"look again: {commands}", highlight=False, soft_wrap=True)
    if report.is_file():
        console.print(f"report {report}", highlight=False, soft_wrap=True)
