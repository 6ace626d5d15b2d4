"""The live page over a real Prometheus, which goes away and comes back."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from lab.paths import ROOT
from lab.snapshot import dashboards, live
from lab.snapshot.evaluate import Evaluator, span
from lab.stack.toolchain import Toolchain
from monitoring.signals import EVALUATION_INTERVAL_S

CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
DEADLINE_S = 60


@dataclass
class Server:
    """A Prometheus that scrapes itself, on one port whenever it runs."""

    tools: Toolchain
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        rules = ROOT / "monitoring" / "prometheus" / "rules" / "signals.yml"
        config = self.folder / "prometheus.yml"
        config.write_text(CONFIG.format(rules=rules, port=self.port))
        args = [str(self.tools.programs["prometheus"]), f"--config.file={config}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error"]  # fmt: skip
        self.process = subprocess.Popen(
            args, env=self.tools.env("prometheus"), cwd=self.folder, stderr=subprocess.DEVNULL
        )
        # In every point of the panels' grid's newest step, not only just now.
        wait(lambda: self.series(f"poolscope:exporter_up offset {2 * EVALUATION_INTERVAL_S}s"))

    def series(self, expr: str) -> bool:
        try:
            answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expr}, trust_env=False)
            return bool(answer.json()["data"]["result"])
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None


def wait(check) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def prometheus(programs: Toolchain, tmp_path_factory) -> Iterator[Server]:
    server = Server(programs, tmp_path_factory.mktemp("prometheus"), free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def watch(prometheus: Server, tmp_path: Path) -> Iterator[str]:
    """The watch server's address, following the tests' Prometheus."""
    source = live.Source(lambda: None, prometheus.url)
    with live.open_server(live.Wanted(port=None), source) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_evaluator_asks_every_query_of_every_dashboard(prometheus):
    """Prometheus takes every expression; what it samples of itself is there."""
    now = time.time()
    found = dashboards.load()
    evaluator = Evaluator(prometheus.url)
    try:
        data = evaluator.evaluate(found, span(now - 60, now), {"run": "none"})
    finally:
        evaluator.close()
    assert [p.error for d in data.values() for p in d.panels.values() if p.error] == []
    own = data["poolscope-monitoring"].panels.values()
    assert any(not panel.empty for panel in own)


def test_live_page_survives_prometheus_s_restart(visit, watch, prometheus, monkeypatch):
    opened = visit(f"{watch}/", hash_="#poolscope-monitoring")
    page = opened.page
    page.wait_for_selector(".state.on", timeout=30_000)
    page.evaluate("Poolscope.drawAll()")
    opened.until("Poolscope.charts.size > 0")
    prometheus.stop()
    try:
        page.wait_for_selector(".state.lost", timeout=60_000)
        assert "no answer since" in page.locator("#state").text_content()
        assert page.evaluate("Poolscope.charts.size") > 0
    finally:
        prometheus.start()
    page.wait_for_selector(".state.on", timeout=60_000)
    # A browser notes each failed request by itself; that is the only thing it may note.
    noted = [c for c in opened.complaints if "503" not in c]
    opened.complaints[:] = noted


def test_page_of_a_run_that_has_ended_shows_all_of_it_and_asks_once(visit, prometheus):
    """No "connecting", no pause, no polling; each choice counts from the run's end."""
    ended = time.time() - 2
    shown = live.Shown("20261127-120000-quick", ended - 40, ended)
    server = live.in_background(live.Source(lambda: None, prometheus.url), shown)
    assert server is not None
    try:
        opened = visit(server.url, hash_="#poolscope-monitoring")
        page = opened.page
        assert page.locator("#state").text_content() == "ended"
        page.wait_for_load_state("networkidle")
        choices = page.locator("#length option").all_text_contents()
        assert choices[:2] == ["the run", "last 5 min"]
        assert page.locator("#pause").is_hidden()
        page.wait_for_timeout((live.INTERVAL_S + 1) * 1000)
        page.select_option("#length", "300")
        page.wait_for_load_state("networkidle")
        assert page.locator("#state").text_content() == "ended"
    finally:
        server.close()
    asked = [url.partition("?")[2] for url in opened.requests if "/data/" in url]
    end = math.ceil(ended)
    begin = math.floor(ended - 40)
    assert asked == [f"from={begin}&to={end}", f"from={end - 300}&to={end}"]


def test_page_of_a_run_follows_it_from_its_start(visit, prometheus):
    began = time.time() - 40
    source = live.Source(lambda: None, prometheus.url)
    server = live.in_background(source, live.Shown("20261127-120000-quick", began))
    assert server is not None
    try:
        opened = visit(server.url, hash_="#poolscope-monitoring")
        opened.page.wait_for_selector(".state.on", timeout=30_000)
        assert opened.page.locator("#length").input_value() == "run"
        assert "live, every" in opened.page.locator("#state").text_content()
    finally:
        server.close()
    first = next(url for url in opened.requests if "/data/" in url)
    assert f"from={math.floor(began)}&" in first


def test_watch_serves_its_own_page_only(watch):
    """Only GET, only its own host's name, nothing for another origin."""
    with httpx.Client(base_url=watch, trust_env=False) as client:
        answer = client.get("/")
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert client.get("/", headers={"Host": "rebound.example"}).status_code == 403
        assert client.get("/data/nothing").status_code == 404
        assert client.get("/../etc/passwd").status_code == 404
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert client.request(method, "/").status_code == 501
        for query in ("", "?from=1", "?from=x&to=y", "?from=5&to=1", "?from=nan&to=nan"):
            assert client.get(f"/data/poolscope-overview{query}").status_code == 400


def test_watch_without_a_prometheus_says_so(tmp_path):
    source = live.Source(lambda: None)
    with live.open_server(live.Wanted(), source) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/data/poolscope-overview"
        now = time.time()
        answer = httpx.get(url, params={"from": now - 60, "to": now}, trust_env=False)
        server.shutdown()
        thread.join()
    assert answer.status_code == 503
    assert "no Prometheus runs" in answer.json()["error"]


def test_watch_ends_with_130_on_ctrl_c(tmp_path):
    env = {**os.environ, "POOLSCOPE_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    port = free_port()
    command = [sys.executable, "-m", "lab", "watch", f"PORT={port}"]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().strip() == f"http://127.0.0.1:{port}/"
        assert "no Prometheus runs" in process.stdout.readline()
        taken = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True,
                               check=False)  # fmt: skip
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert taken.returncode == 2
    assert f"lab: PORT={port} was asked for" in taken.stderr
