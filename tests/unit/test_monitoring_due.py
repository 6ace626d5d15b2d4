"""Who is not due is not asked, and is not down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from lab.stack import project
from lab.stack.compose import ComposeStack
from lab.stack.docker import Engine
from lab.stack.due_load import DueLoad, due, mark
from lab.stack.home import Home
from lab.stack.images import Images
from monitoring.exporter.collector import PoolscopeCollector
from monitoring.exporter.due import Due, due_now
from monitoring.exporter.parents import ParentGroups
from monitoring.exporter.reading import Reading, gauge
from tests.unit.scrapes import samples


@dataclass
class Server:
    """A source that asks a server, which may be told to end meanwhile."""

    name: str
    problems: list[str] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None
    reads: int = 0

    def read(self) -> Reading:
        self.reads += 1
        self.meanwhile()
        return Reading([gauge(f"{self.name}_figure", "x", [], [((), 1)])], list(self.problems))


def scrape(collector: PoolscopeCollector) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(collector)
    return {
        name.removeprefix("poolscope_") + "".join(f"[{value}]" for _, value in labels): number
        for (name, labels), number in samples(generate_latest(registry).decode()).items()
        if "duration" not in name
    }


def test_collector_that_is_not_due_is_not_asked() -> None:
    bouncer, files = Server("pgbouncer"), Server("files")
    found = scrape(PoolscopeCollector([files], [bouncer], 1, due=lambda: Due(frozenset(), None)))
    assert found == {
        "files_figure": 1,
        "collector_up[files]": 1,
        "collector_due[files]": 1,
        "collector_due[pgbouncer]": 0,
    }
    assert bouncer.reads == 0


def test_collector_that_is_due_and_fails_is_down() -> None:
    bouncer = Server("pgbouncer", ["connection refused"])
    known = Due(frozenset({"pgbouncer"}), None)
    found = scrape(PoolscopeCollector([], [bouncer], 1, due=lambda: known))
    assert found["collector_up[pgbouncer]"] == 0
    assert found["collector_due[pgbouncer]"] == 1


def test_collector_whose_server_is_stopped_meanwhile_is_not_down() -> None:
    """The state says so before the server is told: what it failed to answer is nobody's fault."""
    running = {"pgbouncer"}
    bouncer = Server("pgbouncer", ["server closed the connection"], running.clear)
    collector = PoolscopeCollector([], [bouncer], 1, due=lambda: Due(frozenset(running), None))
    assert scrape(collector) == {"collector_due[pgbouncer]": 0}
    assert bouncer.reads == 1


def test_collector_reads_files_again_where_a_server_ended_meanwhile() -> None:
    """The state file named a process that was gone when it was looked at."""
    files = Server("files", ["flask: no process 17"])
    files.meanwhile = lambda: files.problems.clear() if files.reads == 2 else None
    assert scrape(PoolscopeCollector([files], [], 1))["collector_up[files]"] == 1
    broken = Server("files", ["no such file"])
    assert scrape(PoolscopeCollector([broken], [], 1))["collector_up[files]"] == 0


def test_collectors_are_all_asked_where_nobody_knows(tmp_path: Path) -> None:
    """What cannot be read is no reason to be silent."""
    found = scrape(
        PoolscopeCollector([], [Server("pgbouncer")], 1, due=lambda: due_now(tmp_path / "none"))
    )
    assert found["collector_up[pgbouncer]"] == found["collector_due[pgbouncer]"] == 1
    assert not [name for name in found if name.startswith("target_due")]


@pytest.mark.parametrize(
    ("due", "expected"), [([], (0, 0)), (["service"], (1, 0)), (["locust", "service"], (1, 1))]
)
def test_targets_are_due_as_the_state_says(
    tmp_path: Path, due: list[str], expected: tuple[int, int]
) -> None:
    state = write(tmp_path / "state.json", due=due)
    found = scrape(PoolscopeCollector([], [], 1, due=lambda: due_now(state)))
    assert (found["target_due[service]"], found["target_due[locust]"]) == expected


def write(path: Path, **content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_servers_are_due_while_the_state_names_them(tmp_path: Path) -> None:
    """A state that does not say who is due names the services that run."""
    services = {"postgres": {"pid": 1}, "pgbouncer": {"pid": 2}}
    state = write(tmp_path / "a.json", services=services)
    assert due_now(state) == Due(frozenset(services), None)
    state = write(tmp_path / "b.json", services=services, due=["postgres", "locust"])
    assert due_now(state) == Due(frozenset({"postgres"}), frozenset({"locust"}))


def test_servers_in_containers_are_due_while_their_group_is_there(tmp_path: Path) -> None:
    """Whatever a state says that an earlier run has left, and also where there is none."""
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "lab-postgres.slice" / "docker-1.scope").mkdir(parents=True)
    (tmp_path / "lab-pgbouncer.slice").mkdir()
    groups = ParentGroups(tmp_path, "lab")
    assert due_now(tmp_path / "none", groups) == Due(frozenset({"postgres"}), None)
    state = write(tmp_path / "state.json", due=["postgres", "pgbouncer", "service"])
    assert due_now(state, groups) == Due(frozenset({"postgres"}), frozenset({"service"}))
    state = write(tmp_path / "other.json", due=[])
    assert due_now(state, groups) == Due(frozenset(), frozenset())


@pytest.mark.parametrize(
    ("answering", "measured", "loading", "expected"),
    [
        (set(), True, False, []),
        ({"postgres", "prometheus"}, True, False, ["postgres"]),
        ({"postgres", "pgbouncer", "flask"}, True, True,
         ["postgres", "pgbouncer", "service", "locust"]),
        ({"postgres", "flask"}, False, False, ["postgres"]),
    ],
)  # fmt: skip
def test_stack_says_who_is_due(
    answering: set[str], measured: bool, loading: bool, expected: list[str]
) -> None:
    """With METRICS=off no service has metrics."""
    assert due(answering, measured, loading) == expected


def test_load_is_marked_in_a_state_that_another_process_wrote(tmp_path: Path) -> None:
    """What runs, and all else that it says, stays: the load is put on it from outside."""
    services = {"postgres": {"pid": 1}}
    state = write(tmp_path / "state.json", services=services, due=["postgres", "service"])
    for _ in range(2):
        mark(state, True)
        assert due_now(state).targets == {"service", "locust"}
    mark(state, False)
    assert json.loads(state.read_text()) == {"services": services, "due": ["postgres", "service"]}
    mark(write(state, cell=None, due=None), True)
    assert due_now(state).targets == {"locust"}


def test_state_of_containers_that_are_gone_names_nobody(tmp_path: Path) -> None:
    """A stack that is started by hand reads the same file, and nobody writes it then."""
    home = Home(tmp_path)
    project._forget_due(home)
    path = tmp_path / project.STATE_FOLDER / project.STATE_FILE
    path.parent.mkdir()
    write(path, cell={"run_id": "r"}, due=["service"])
    project._forget_due(home)
    assert json.loads(path.read_text()) == {"cell": {"run_id": "r"}, "due": None}
    assert due_now(path).targets is None


class FakeLoad:
    """A load that notes what happens to it."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def alive(self) -> bool:
        return True

    def limit(self, cpus: float) -> None:
        self._events.append(f"limit {cpus}")

    def stop(self) -> None:
        self._events.append("stopped")

    def tail(self, lines: int = 20) -> str:
        return f"{lines} lines"


def test_load_is_due_from_its_first_answer_until_it_is_stopped() -> None:
    events: list[str] = []
    answers = iter((False, False, True))
    load = DueLoad(FakeLoad(events), lambda: next(answers), lambda due: events.append(f"due {due}"))
    assert all(load.alive() for _ in range(5))
    load.limit(0.5)
    assert load.tail(3) == "3 lines"
    load.stop()
    assert events == ["due True", "limit 0.5", "due False", "stopped"]


def test_compose_stack_writes_who_is_due_before_it_stops_them(tmp_path: Path) -> None:
    """And of a stack that runs nothing it says nothing: one started by hand reads the same file."""
    engine = Engine("28", "2", 2, 2**32, "cgroupfs", cpu_limits=True, rootless=False)
    stack = ComposeStack(Home(tmp_path), engine, Images({}, None), {}, set())
    file = tmp_path / project.STATE_FOLDER / project.STATE_FILE

    def said() -> list[str] | None:
        found = json.loads(file.read_text())["due"]
        return None if found is None else list(found)

    stack.announce(None)
    assert said() is None
    stack._running |= {"postgres", "pgbouncer", "flask"}
    stack._measured = True
    for server in ("postgres", "pgbouncer", "flask"):
        stack._ready(server, server, lambda: None)
    stack._load_due(True)
    assert said() == ["postgres", "pgbouncer", "service", "locust"]
    stack._load_due(False)
    stack._quiet("flask", "pgbouncer", "prometheus")
    assert said() == ["postgres"]
    stack._running.clear()
    stack.announce(None)
    assert said() is None
