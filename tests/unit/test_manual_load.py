"""`make load`: what it takes, what it tells the exporter, and its one line at the end."""

from __future__ import annotations

import json
import re
import socket

import pytest
from rich.console import Console

from lab import manual_load
from lab.errors import ConfigError
from lab.manual_load import Putting, announced, summary, wanted
from lab.settings import build
from lab.stack.home import Home
from lab.stack.native import NativeStack
from lab.stack.ports import next_free
from tests.unit.test_load_intervals import line, write

UP = {"run_id": "up", "cell_id": "flask-direct", "framework": "flask", "route": "direct"}
LOAD = UP | {"cell_id": "flask-direct-u5-1", "users": "5", "scenario": "insert"}


def by_hand(**toggles: str) -> dict[str, tuple[str, str]]:
    return {name: (value, "command line") for name, value in toggles.items()}


def test_load_takes_its_own_toggles_and_seconds():
    asked = wanted({"FOR": "120"}, by_hand(USERS="50", SCENARIO="heavy"), {})
    assert asked.length_s == 120
    assert asked.toggles == {"USERS": "50", "SCENARIO": "heavy"}
    assert wanted({}, {}, {}).length_s == manual_load.FOR_S


def test_toggles_of_the_stack_in_the_environment_are_not_the_load_s():
    overrides = {"DB_CPUS": ("1", "environment"), "USERS": ("7", "environment")}
    assert wanted({}, overrides, {}).toggles == {"USERS": "7"}


@pytest.mark.parametrize(
    ("options", "toggles", "message"),
    [
        ({"FOR": "0"}, {}, "FOR=0 is not allowed; allowed: a whole number, at least 1, at most"),
        ({"FOR": "3601"}, {}, "FOR=3601 is not allowed"),
        ({"FOR": "soon"}, {}, "FOR=soon is not allowed"),
        ({}, {"USERS": "0"}, "USERS='0' (command line) is not allowed"),
        ({}, {"SCENARIO": "nothing"}, "allowed: db-test, insert"),
        ({}, {"DB_CPUS": "1"}, "DB_CPUS cannot be changed while the stack is up; `make down`, "),
        ({}, {"ROUTE": "direct"}, "then `make up ROUTE=direct`"),
    ],
)
def test_load_refuses_in_one_line(options, toggles, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        wanted(options, by_hand(**toggles), {})


def test_load_needs_a_stack_that_is_up(tmp_path):
    with pytest.raises(ConfigError, match="no stack is up to put load on; `make up` starts one"):
        manual_load.run(Home(tmp_path), wanted({}, {}, {}), Console())


def test_a_port_of_another_program_is_refused_and_one_inside_moves():
    """Prometheus scrapes the port that it was told of, whoever is there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}, where Prometheus looks"):
            manual_load._refuse_taken({"locust_metrics_port": port, "locust_master_port": 1})
        spare = next_free("LOCUST_METRICS_PORT", 20_000, [])
        ports = {"locust_metrics_port": spare, "locust_master_port": port}
        manual_load._refuse_taken(ports)
        assert ports["locust_metrics_port"] == spare
        assert ports["locust_master_port"] not in (port, spare)


def test_announcement_leaves_the_servers_and_is_taken_back(tmp_path):
    path = tmp_path / "state.json"
    before = {"services": {"flask": {"pid": 7}}, "cell": UP, "moments": [], "results": []}
    path.write_text(json.dumps(before))
    with announced(path, UP, LOAD) as tell:
        tell.moment("window_start", 20.0)
        during = json.loads(path.read_text())
    assert during["cell"] == LOAD
    assert during["services"] == before["services"]
    assert [m["event"] for m in during["moments"]] == ["cell_start", "window_start"]
    after = json.loads(path.read_text())
    assert after == during | {"cell": UP}


def test_moments_of_the_last_loads_stay_marked(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"cell": UP, "moments": []}))
    for number in range(9):
        with announced(path, UP, LOAD | {"cell_id": f"flask-direct-u5-{number}"}):
            pass
    found = [m["cell_id"][-1] for m in json.loads(path.read_text())["moments"]]
    assert found == ["4", "5", "6", "7", "8"]


@pytest.fixture
def putting(tmp_path) -> Putting:
    stack = NativeStack(Home(tmp_path), {})
    return Putting(stack, build({"USERS": 2}), "flask-direct-u2-1", tmp_path, 3)


def test_summary_covers_the_seconds_with_all_users(tmp_path, putting):
    write(tmp_path, 1, line(10, [900]), *(line(t, [1, 2]) for t in (11, 12)))
    putting.started, putting.ended = 11.0, 13.0
    assert summary(tmp_path, putting) == (
        "flask-direct-u2-1: 4 requests in 2 s, 2.0 RPS, P95 2.0 ms, P99 2.0 ms, errors 0.0%"
    )


def test_summary_of_a_load_that_never_had_all_users_says_so(tmp_path, putting):
    write(tmp_path, 1, line(10, [1, 2], users=1), line(11, users=1))
    assert summary(tmp_path, putting).endswith("errors 0.0%, 1 of 2 users")


def test_summary_of_a_load_too_short_for_a_window_covers_all_of_it(tmp_path, putting):
    write(tmp_path, 1, line(10, [1, 2]))
    putting.started, putting.ended = 11.0, 11.0
    assert "2 requests in 1 s" in summary(tmp_path, putting)


def test_summary_without_requests_has_no_figures(tmp_path, putting):
    assert summary(tmp_path, putting) == "flask-direct-u2-1: nothing was sent"
    write(tmp_path, 1, line(10))
    assert "P95 n/a, P99 n/a, errors n/a" in summary(tmp_path, putting)
