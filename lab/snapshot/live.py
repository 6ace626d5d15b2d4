"""The dashboards in a browser, following a Prometheus: `make watch`, and a run's own page.

A server on loopback that answers GET only: the page, and `data/<uid>?from&to`. A page of another
site cannot read it: nothing is allowed across origins, and a request whose Host is not this
server's own (DNS rebinding) is refused.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from rich.console import Console

from lab import page
from lab.errors import ConfigError, LabError, ServiceError
from lab.snapshot import dashboards as pages
from lab.snapshot import view
from lab.snapshot.dashboards import Dashboard
from lab.snapshot.evaluate import Evaluator, span
from lab.snapshot.frames import DashboardData
from lab.stack.home import Home
from lab.stack.ports import next_free
from lab.stack.running import prometheus_of
from lab.stack.stores import UP

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORT = 9300
INTERVAL_S = 5
#: How often a server that nobody asks looks whether it shall end.
IDLE_S = 0.5
#: Longest stretch of time that one answer covers.
LONGEST_S = 7 * 86_400
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Shown:
    """Which run a page shows, and when that began and ended; None: whatever there is, until now.

    `again` is what the page says once its server has ended.
    """

    run: str | None = None
    began: float | None = None
    ended: float | None = None
    again: str = "`make watch` has ended"

    @property
    def variables(self) -> dict[str, str]:
        """What the dashboards' variables are set to."""
        return {} if self.run is None else {"run": self.run}


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; None: the port that is free, the Prometheus that runs."""

    port: int | None = None
    prometheus: str | None = None
    shown: Shown = Shown()


def wanted(options: Mapping[str, str]) -> Wanted:
    """Return what the command's words ask for; raise ConfigError for what cannot be."""
    port = options.get("PORT")
    if port is not None and not (port.isdigit() and 1 <= int(port) <= 65535):
        raise ConfigError(f"PORT={port} is not allowed; allowed: 1 to 65535")
    url = options.get("PROMETHEUS_URL") or os.environ.get("PROMETHEUS_URL") or None
    if url and not re.match(r"https?://[^/]", url):
        raise ConfigError(f"PROMETHEUS_URL={url} is not allowed; allowed: http://host:port")
    return Wanted(None if port is None else int(port), url.rstrip("/") if url else None)


class Source:
    """The Prometheus to ask: the given one, or whichever `find_url` finds now."""

    def __init__(self, find_url: Callable[[], str | None], given: str | None = None) -> None:
        self._find_url = find_url
        self._given = given
        self._lock = threading.Lock()
        self._evaluator: Evaluator | None = None
        self.url: str | None = None

    def find(self) -> Evaluator:
        """Return an evaluator; raise ServiceError where no Prometheus runs."""
        with self._lock:
            url = self._given or self._find_url()
            if url is None:
                raise ServiceError("no Prometheus runs; `make up` or `make bench` starts one")
            if self._evaluator is None or url != self.url:
                # The old one may still be in use by another request: it closes with the program.
                self._evaluator, self.url = Evaluator(url), url
            return self._evaluator


class Server(ThreadingHTTPServer):
    """Knows the dashboards and where their data comes from."""

    daemon_threads = True

    def __init__(self, port: int, source: Source, shown: Shown) -> None:
        super().__init__((HOST, port), Handler)
        self.source = source
        self.shown = shown
        self.dashboards = {d.uid: d for d in pages.load()}
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        self.page = _page(list(self.dashboards.values()), shown).encode()

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.server_port}/"

    def data(self, uid: str, query: str) -> dict[str, Any]:
        """Return a dashboard with its data; raises LabError and ValueError (a bad stretch)."""
        asked = parse_qs(query)
        start, end = (float(asked.get(name, ["nan"])[0]) for name in ("from", "to"))
        if not 0 <= end - LONGEST_S <= start < end:
            raise ValueError("from and to have to be Unix seconds, at most a week apart")
        dashboard = self.dashboards[uid]
        over = span(start, end)
        found = self.source.find().evaluate([dashboard], over, self.shown.variables, at=end)
        return view.dashboard(dashboard, found[uid], over)


class Handler(BaseHTTPRequestHandler):
    """One request; anything but GET is refused by the base class."""

    server: Server
    server_version = "poolscope"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    #: Seconds until an idle connection is given up.
    timeout = 60

    def do_GET(self) -> None:
        """Answer the page or a dashboard's data."""
        if self.headers.get("Host") not in self.server.names:
            self._json(HTTPStatus.FORBIDDEN, {"error": "another host's name"})
            return
        parts = urlsplit(self.path)
        if parts.path == "/":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif (uid := unquote(parts.path).removeprefix("/data/")) in self.server.dashboards:
            self._data(uid, parts.query)
        else:
            self._json(HTTPStatus.NOT_FOUND, {"error": "not here"})

    def _data(self, uid: str, query: str) -> None:
        try:
            self._json(HTTPStatus.OK, self.server.data(uid, query))
        except ValueError as error:
            self._json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except LabError as error:
            self._json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)})

    def _json(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        self._answer(status, "application/json", text.encode())

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep requests out of the terminal, unless asked for."""
        log.debug(format, *args)


def watch(home: Home, asked: Wanted, console: Console) -> None:
    """Serve until a signal ends it; raise ConfigError where the port cannot be had."""
    source = Source(lambda: prometheus_of(home), asked.prometheus)
    with open_server(asked, source) as server:
        console.print(server.url, highlight=False)
        try:
            source.find()
            console.print(f"following Prometheus at {source.url}; Ctrl-C ends it", highlight=False)
        except ServiceError as error:
            console.print(f"{error}; the page waits for it, Ctrl-C ends it", highlight=False)
        server.serve_forever(poll_interval=IDLE_S)


def open_server(asked: Wanted, source: Source, taken: Collection[int] = ()) -> Server:
    """Return a listening server, on the asked port or on the next free one that is not `taken`."""
    port = asked.port or next_free("PORT", PORT, taken)
    while True:
        try:
            return Server(port, source, asked.shown)
        except OSError:
            if asked.port is not None:
                raise ConfigError(
                    f"PORT={port} was asked for, but {HOST}:{port} is taken; choose another or "
                    "leave it out"
                ) from None
            port = next_free("PORT", port + 1, taken)  # another program was faster


class Background:
    """A server in a thread of this process, until `close`; it does nothing while nobody asks."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.url
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": IDLE_S}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def in_background(source: Source, shown: Shown, taken: Collection[int] = ()) -> Background | None:
    """Serve a page on the next free port; a run goes on without one that cannot be had."""
    try:
        return Background(open_server(Wanted(shown=shown), source, taken))
    except LabError as error:
        log.warning("no live page: %s", error)
        return None


def command(port: int, prometheus: str, shown: Shown) -> list[str]:
    """Return the command line of a server that serves one page until it is told to end."""
    text = json.dumps([port, prometheus, asdict(shown)])
    return [sys.executable, "-m", "lab.snapshot.live", text]


def _main() -> None:
    port, prometheus, shown = json.loads(sys.argv[1])
    source = Source(lambda: None, prometheus)
    with open_server(Wanted(port, shown=Shown(**shown)), source) as server:
        server.serve_forever(poll_interval=IDLE_S)


def _page(dashboards: list[Dashboard], shown: Shown) -> str:
    """Return the page without data: it asks for it at once."""
    over = span(0, 1)
    empty = [view.dashboard(d, DashboardData({}), over) for d in dashboards]
    name = "live" if shown.run in (None, UP) else f"run {shown.run}"
    live = {"interval_s": INTERVAL_S, "longest_s": LONGEST_S, **asdict(shown)}
    return page.render(
        "dashboards.html.j2",
        name,
        {"name": name, "dashboards": empty, "live": live, "local": True},
        notes=["Drag over a chart to look closer, double-click to go back."],
        live=True,
    )


if __name__ == "__main__":
    _main()
