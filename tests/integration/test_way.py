"""The way to the dashboards, as a user goes it: the address, what answers there, and load."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.paths import ROOT
from lab.stack.home import Home
from lab.stack.toolchain import Toolchain

from . import stacks
from .conftest import own_environment, remove_what_is_left
from .test_bench import LAB, lab, left_behind
from .test_grafana import STAND_IN, install

ONE = ["PRESET=smoke", "FRAMEWORK=flask", "ROUTE=direct", "WARMUP=1", "WINDOW=3", "USERS=4"]
PAGE = re.compile(r"watch (http://127\.0\.0\.1:\d+/)#(poolscope-\w+)")
BROKEN = "#!{python}\nimport sys\nsys.exit('no such theme')\n"
DEADLINE_S = 60

Isolated = Callable[..., dict[str, str]]


def until(check: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Return the first answer that is true."""
    deadline = time.monotonic() + deadline_s
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def get(url: str, **params: Any) -> httpx.Response:
    return httpx.get(url, params=params, timeout=30, trust_env=False)


def overview(page: str) -> str:
    """Return what the overview shows of the last minute, or why it does not."""
    now = time.time()
    return get(f"{page}data/poolscope-overview", **{"from": now - 60, "to": now}).text


def ask(prometheus: str, expr: str, at: float | None = None) -> list[dict[str, Any]]:
    """Return an instant query's series; PromQL's own default is now."""
    params = {"query": expr} | ({} if at is None else {"time": str(at)})
    return list(get(f"{prometheus}/api/v1/query", **params).json()["data"]["result"])


def left(env: dict[str, str]) -> dict[str, Any]:
    """Return what the state says of what was left running, its addresses by their names."""
    found = json.loads((Path(env["POOLSCOPE_HOME"]) / "run" / "up.json").read_text())
    return {**found, "lines": dict(found["lines"])}


def manifest(env: dict[str, str], run: str = "latest") -> dict[str, Any]:
    path = Path(env["POOLSCOPE_RESULTS"]) / run / "manifest.json"
    return dict(json.loads(path.read_text()))


@dataclass
class Watched:
    """A bench run that was watched while it ran."""

    env: dict[str, str]
    page: str
    early: httpx.Response
    lines: list[str]


@pytest.fixture(scope="module")
def watched(programs: Toolchain) -> Iterator[Watched]:
    """Run a bench, and look at its page from its first line on."""
    folder = Path(tempfile.mkdtemp(prefix="poolscope-test-"))
    folder.chmod(0o755)
    env = own_environment(folder, programs)
    process = subprocess.Popen(
        [*LAB, "bench", *ONE], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    found = PAGE.fullmatch(first)
    try:
        assert found, first
        early = get(found[1])
        until(lambda: "flask-direct-u4-r1" in overview(found[1]))
        rest = process.stdout.read().splitlines()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(DEADLINE_S)
    yield Watched(env, found[1], early, rest)
    remove_what_is_left(folder)


@pytest.mark.stack
def test_first_line_of_a_bench_is_an_address_that_answers(watched: Watched) -> None:
    """Where no Grafana is, it is the run's own page: at once, with the run's figures soon."""
    run = manifest(watched.env)["run_id"]
    assert watched.early.status_code == 200
    assert f'"run":"{run}"' in watched.early.text
    with pytest.raises(httpx.ConnectError):
        get(watched.page)


@pytest.mark.stack
def test_last_lines_of_a_bench_name_what_shows_it_again(watched: Watched) -> None:
    """A dead link is not the last word."""
    run = manifest(watched.env)["run_id"]
    report = Path(watched.env["POOLSCOPE_RESULTS"]) / run / "report.html"
    assert watched.lines[-2:] == [
        f"look again: `make monitoring RUN={run}`, `make snapshot RUN={run}`",
        f"report {report}",
    ]
    assert report.is_file()


@pytest.mark.stack
def test_monitoring_shows_a_run_that_has_ended(watched: Watched) -> None:
    """Prometheus answers for the run, scrapes nothing, adds nothing; `down` ends all of it."""
    env, kept = watched.env, manifest(watched.env)
    done = lab(env, "monitoring")
    try:
        assert done.returncode == 0, done.stderr
        found = PAGE.fullmatch(done.stdout.splitlines()[0])
        assert found, done.stdout
        prometheus = left(env)["lines"]["prometheus"]
        ended = kept["finished_at"]
        cells = ask(prometheus, "last_over_time(lab_cell_info[10m])", ended)
        assert {one["metric"]["run_id"] for one in cells} == {kept["run_id"]}
        targets = get(f"{prometheus}/api/v1/targets").json()["data"]["activeTargets"]
        rules = get(f"{prometheus}/api/v1/rules").json()["data"]["groups"]
        assert (targets, rules) == ([], [])
        page = get(found[1]).text
        assert f'"ended":{ended}' in page
        data = f"{found[1]}data/{found[2]}"
        answer = get(data, **{"from": kept["started_at"], "to": ended})
        assert any(p.get("series") for p in answer.json()["panels"])
        assert f"watch                {found[0].split()[1]}" in lab(env, "status").stdout
        refused = lab(env, "bench", *ONE)
        assert refused.returncode == 2
        assert (
            "the stack of `make monitoring` is running; end it with `make down`" in refused.stderr
        )
        assert lab(env, "load").returncode == 2
    finally:
        down = lab(env, "down")
    assert "prometheus" in down.stdout
    assert not left_behind(env)
    if stacks.TEST_STACK == "native":
        samples_gone(env, kept["run_id"])


def samples_gone(env: dict[str, str], run: str) -> None:
    """Refuse a run whose samples are gone, with what is left of it."""
    store = Home(Path(env["POOLSCOPE_HOME"])).prometheus_data / run
    store.rename(store.with_name("aside"))
    done = lab(env, "monitoring", f"RUN={run}")
    store.with_name("aside").rename(store)
    assert done.returncode == 2
    assert done.stderr == (
        f"lab: Prometheus has no samples of run {run} any more; `make snapshot RUN={run}` shows "
        "what its dashboards showed\n"
    )
    assert done.stdout == ""


@pytest.mark.stack
def test_a_run_sees_its_own_samples_only(watched: Watched) -> None:
    """A limit of the run before, minutes ago, is in no answer: it gave -500% of connections."""
    env, before = watched.env, manifest(watched.env)["run_id"]
    done = lab(env, "bench", *ONE, "POSTGRES_MAX_CONNECTIONS=60")
    assert done.returncode in (0, 3), done.stderr
    seen = {}
    for run in (before, manifest(env)["run_id"]):
        assert lab(env, "monitoring", f"RUN={run}").returncode == 0
        try:
            prometheus = left(env)["lines"]["prometheus"]
            ended = manifest(env, run)["finished_at"]
            found = [
                ask(prometheus, f"{how}_over_time(pg_settings_max_connections[1h])", ended)
                for how in ("min", "max")
            ]
            seen[run] = [one["value"][1] for series in found for one in series]
        finally:
            lab(env, "down")
    assert list(seen.values()) == [["200", "200"], ["60", "60"]]


def test_grafana_of_the_host_is_the_first_line(isolated: Isolated, tmp_path: Path) -> None:
    """A link to the run, which answers before the first cell; after it, the same for the past."""
    env = isolated(GRAFANA_HOME=str(install(tmp_path / "grafana", STAND_IN)))
    process = subprocess.Popen(
        [*LAB, "bench", *ONE], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(
        r"watch (http://127\.0\.0\.1:\d+)/d/poolscope-overview"
        r"\?var-run=(\d{8}-\d{6}-smoke)&from=(\d{13})&to=now&refresh=5s\n",
        line,
    )
    assert found, line
    # pgbench's first ceiling is said once Grafana is ready.
    until(lambda: "pgbench" in process.stdout.readline())
    assert get(f"{found[1]}/api/health").status_code == 200
    process.communicate(timeout=120)
    kept = manifest(env)
    assert found[2] == kept["run_id"]
    assert abs(int(found[3]) / 1000 - kept["started_at"]) < DEADLINE_S
    done = lab(env, "monitoring")
    assert lab(env, "down").returncode == 0
    began, ended = (round(kept[name] * 1000) for name in ("started_at", "finished_at"))
    words = f"/d/poolscope-overview?var-run={kept['run_id']}&from={began}&to={ended}"
    assert done.stdout.splitlines()[0].endswith(words), done.stderr
    assert not left_behind(env)


def test_page_stands_in_for_a_grafana_that_does_not_start(
    isolated: Isolated, tmp_path: Path
) -> None:
    """`up` says so, and leaves a page's server beside the others, which `down` ends."""
    env = isolated(GRAFANA_HOME=str(install(tmp_path / "grafana", BROKEN)))
    try:
        up = lab(env, "up", "FRAMEWORK=flask")
        assert up.returncode == 0, up.stderr
        first, *others = (line for line in up.stdout.splitlines() if line.startswith("watch http"))
        assert "/d/poolscope-overview?var-run=up&" in first
        assert "no dashboards" in up.stderr
        found = PAGE.fullmatch(others[0])
        assert found, up.stdout
        assert '"run":"up"' in get(found[1]).text
        status = lab(env, "status").stdout
        assert re.search(r"^watch +process ", status, re.MULTILINE)
        assert f"{found[1]}#{found[2]}" in status
        assert lab(env, "logs", "SERVICE=watch").returncode == 0
    finally:
        down = lab(env, "down")
    assert "watch" in down.stdout
    assert not left_behind(env)


@pytest.mark.parametrize("off", ["WATCH_PAGE=off", "MONITORING=off"])
def test_nothing_is_said_where_nothing_is_to_be_watched(isolated: Isolated, off: str) -> None:
    env = isolated()
    process = subprocess.Popen(
        [*LAB, "bench", *ONE, off], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert first.startswith("stack native")


@pytest.fixture
def up(isolated: Isolated) -> Iterator[dict[str, str]]:
    """A stack that `make up` started."""
    env = isolated()
    try:
        done = lab(env, "up", "FRAMEWORK=flask")
        assert done.returncode == 0, done.stderr
        yield env
    finally:
        lab(env, "down")


def state(env: dict[str, str]) -> dict[str, Any]:
    """Return what Poolscope's exporter is told."""
    home = Path(env["POOLSCOPE_HOME"])
    folder = home / ("run" if stacks.TEST_STACK == "native" else "compose")
    return dict(json.loads((folder / "state.json").read_text()))


def cell(prometheus: str) -> dict[str, str]:
    """Return the labels of the one cell that Prometheus knows of now."""
    found = ask(prometheus, "lab_cell_info")
    return dict(found[0]["metric"]) if len(found) == 1 else {}


@pytest.mark.stack
def test_load_on_what_is_up_is_seen_named_and_bounded(up: dict[str, str]) -> None:
    """Its figures are in Prometheus and in its line, and agree; then nothing of it is left."""
    before, prometheus = state(up), left(up)["lines"]["prometheus"]
    process = subprocess.Popen(
        [*LAB, "load", "USERS=4", "FOR=15"], env=up, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    until(lambda: cell(prometheus).get("cell_id") == "flask-direct-u4-1")
    users = until(lambda: ask(prometheus, "sum(locust_users) == 4"))
    live = lab(up, "diagnose", "LIVE=1")
    refused = lab(up, "load")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert users
    assert live.stdout.startswith("flask-direct-u4-1, by http://"), live.stderr
    assert "is in use by `make load`" in refused.stderr
    line = output.splitlines()[-1]
    found = re.fullmatch(
        r"flask-direct-u4-1: ([\d,]+) requests in (\d+) s, ([\d,.]+) RPS, P95 [\d.]+ ms, "
        r"P99 [\d.]+ ms, errors 0\.0%",
        line,
    )
    assert found, output
    length = int(found[2])
    assert 10 <= length <= 15
    after = state(up)
    assert {**after, "moments": []} == {**before, "moments": []}
    moments = {m["event"]: m["at"] for m in after["moments"] if m["cell_id"].endswith("u4-1")}
    assert moments["window_end"] - moments["window_start"] == length
    rate = ask(
        prometheus, f"sum(increase(locust_requests_total[{length}s]))", moments["window_end"]
    )
    counted = float(rate[0]["value"][1])
    assert counted == pytest.approx(float(found[1].replace(",", "")), rel=0.15)


@pytest.mark.stack
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_load_ends_at_once_on_a_signal(up: dict[str, str], number: signal.Signals) -> None:
    """No process, no announcement, and the stack goes on; the next load has another name."""
    before, prometheus = state(up), left(up)["lines"]["prometheus"]
    process = subprocess.Popen(
        [*LAB, "load", "USERS=4", "FOR=600", "SCENARIO=slow-query"], env=up, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    # With four users and 100 ms each, some seconds' worth.
    until(lambda: ask(prometheus, "sum(locust_requests_total) > 100"))
    process.send_signal(number)
    output, complaint = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert complaint == f"lab: load ended by {number.name}\n"
    assert re.match(r"flask-direct-u4-1: \d+ requests in ", output.splitlines()[-1])
    home = Path(up["POOLSCOPE_HOME"])
    assert not [entry for entry in stacks.left_behind(Home(home)) if "locust" in entry]
    assert "locust" not in lab(up, "status").stdout
    assert state(up)["cell"] == before["cell"]
    again = lab(up, "load", "USERS=4", "FOR=3")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1].startswith("flask-direct-u4-2: ")
