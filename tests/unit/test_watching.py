"""The one address to open: Grafana's link, or the page that a run serves by itself."""

from __future__ import annotations

import httpx
import pytest
from rich.console import Console

from lab.results import Run
from lab.settings import build
from lab.snapshot import archive
from lab.stack import grafana
from lab.stack.home import Home
from lab.stack.native import NativeStack
from lab.watching import LADDER, OVERVIEW, Watching, grafana_link, look_again

RUN = "20261127-120000-quick"


@pytest.fixture
def stack(tmp_path) -> NativeStack:
    """A stack that runs nothing, on a host without Grafana."""
    found = NativeStack.open(Home(tmp_path), build({}), set())
    found.grafana = None
    return found


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=300)


def watching(tmp_path, console, **more) -> Watching:
    return Watching(Home(tmp_path), console, RUN, began=1_795_000_000.25, **more)


def test_link_follows_a_run_or_shows_all_of_one_that_has_ended():
    link = grafana_link("http://127.0.0.1:3000", OVERVIEW, RUN, 1_795_000_000.25)
    assert link == (
        f"http://127.0.0.1:3000/d/poolscope-overview?var-run={RUN}"
        "&from=1795000000250&to=now&refresh=5s"
    )
    link = grafana_link("http://127.0.0.1:3000", LADDER, RUN, 1.0, 2.5)
    assert link == f"http://127.0.0.1:3000/d/poolscope-ladder?var-run={RUN}&from=1000&to=2500"


def test_grafana_is_the_address_where_there_is_one(tmp_path, stack, console):
    stack.grafana = grafana.Grafana(tmp_path, tmp_path)
    with watching(tmp_path, console) as watched:
        where = watched.say(stack)
        assert watched.say(stack) == where
    base = f"http://127.0.0.1:{stack.ports['grafana_port']}"
    assert where == grafana_link(base, OVERVIEW, RUN, 1_795_000_000.25)
    assert console.export_text().splitlines() == [f"watch {where}"]


def test_a_grafana_that_did_not_start_gives_way_to_the_page(tmp_path, stack, console):
    stack.grafana = grafana.Grafana(tmp_path, tmp_path)
    with watching(tmp_path, console, uid=LADDER) as watched:
        first = watched.say(stack)
        stack.grafana = None
        second = watched.say(stack)
        assert second is not None
        page, _, uid = second.partition("#")
        assert uid == LADDER
        assert RUN in httpx.get(page, trust_env=False).text
    assert console.export_text().splitlines() == [f"watch {first}", f"watch {second}"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(page, trust_env=False)


def test_page_says_that_prometheus_is_not_there_yet(tmp_path, stack, console):
    with watching(tmp_path, console) as watched:
        page = str(watched.say(stack)).partition("#")[0]
        answer = httpx.get(f"{page}data/{OVERVIEW}?from=1795000000&to=1795000060", trust_env=False)
    assert answer.status_code == 503
    assert f":{stack.ports['prometheus_port']}" in answer.json()["error"]


def test_page_takes_the_next_port_where_one_is_taken(tmp_path, stack, console):
    with watching(tmp_path, console) as first, watching(tmp_path, console) as second:
        assert first.say(stack) != second.say(stack)


@pytest.mark.parametrize("without", [{"monitored": False}, {"page": False}])
def test_nothing_is_said_where_there_is_nothing_to_watch(tmp_path, stack, console, without):
    with watching(tmp_path, console, **without) as watched:
        assert watched.say(stack) is None
    assert console.export_text() == ""


def test_page_that_is_left_behind_has_a_port_that_no_server_of_the_stack_has(
    tmp_path, stack, console
):
    stack.ports = {**stack.ports, "grafana_port": 9300}
    with watching(tmp_path, console, left=True) as watched:
        where = watched.say(stack)
    assert where is not None
    assert ":9300/" not in where


def test_last_lines_of_a_run_say_how_it_is_looked_at(tmp_path, console):
    run = Run(tmp_path / RUN)
    run.folder.mkdir()
    look_again(run, console)
    assert console.export_text() == ""
    (run.folder / archive.NAME).touch()
    (run.folder / "report.html").touch()
    look_again(run, console)
    assert console.export_text().splitlines() == [
        f"look again: `make monitoring RUN={RUN}`, `make snapshot RUN={RUN}`",
        f"report {run.folder / 'report.html'}",
    ]
