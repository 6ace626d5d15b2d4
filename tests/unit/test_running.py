"""Finding the Prometheus and the Grafana that the lab runs now."""

from __future__ import annotations

import json
import os

import psutil
import pytest

from lab.settings import build
from lab.stack import state
from lab.stack.home import Home
from lab.stack.monitoring import commands
from lab.stack.running import grafana_of, prometheus_of
from lab.stack.toolchain import Toolchain


@pytest.fixture
def home(tmp_path) -> Home:
    found = Home(tmp_path)
    found.run.mkdir()
    return found


def record(home, name):
    """Record this process as a server of the home."""
    created = psutil.Process().create_time()
    text = json.dumps({"name": name, "pid": os.getpid(), "created": created})
    (home.run / f"{name}.pid.json").write_text(text)


def test_nothing_runs_where_nothing_is_recorded(home, tmp_path):
    assert prometheus_of(home) is None
    assert prometheus_of(Home(tmp_path / "nothing")) is None
    assert grafana_of(home) is None


def test_prometheus_of_a_run_is_found_by_its_own_configuration(home, programs: Toolchain):
    """A run tells nobody its addresses, but Prometheus scrapes itself."""
    settings = build({"PROMETHEUS_PORT": 9555})
    list(commands(programs, home, settings, "up", "t", {"postgres_exporter": 0}))
    assert prometheus_of(home) is None
    record(home, "prometheus")
    assert prometheus_of(home) == "http://127.0.0.1:9555"


def test_servers_of_make_up_are_found_by_what_it_printed(home):
    lines = [("prometheus", "http://127.0.0.1:9"), ("grafana", "http://127.0.0.1:3/d/poolscope-x")]
    state.write(home, state.Left(state.UP, "native", lines))
    assert prometheus_of(home) is None
    record(home, "flask")
    assert prometheus_of(home) == "http://127.0.0.1:9"
    assert grafana_of(home) == "http://127.0.0.1:3"
