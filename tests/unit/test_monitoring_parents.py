"""Services in containers, found by their cgroup_parent, in the formats of both cgroup versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring.exporter.containers import ContainersSource
from monitoring.exporter.parents import ParentGroups, ParentReader, postmaster
from monitoring.exporter.postgres import ConnectingSource

V1 = {
    "cpu": {
        "cpu.stat": "nr_periods {periods}\nnr_throttled {throttled}\nthrottled_time 250000000\n",
        "cpu.cfs_quota_us": "25000\n",
        "cpu.cfs_period_us": "100000\n",
    },
    "cpuacct": {"cpuacct.usage": "1500000000\n"},
    "memory": {
        "memory.usage_in_bytes": "3000000\n",
        "memory.limit_in_bytes": "536870912\n",
        "memory.stat": "cache 1\ntotal_inactive_file 1000000\n",
    },
}
#: What a group without a limit and without tasks of its own says: the parents of the containers.
V1_PARENT = {
    "cpu": {
        "cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n",
        "cpu.cfs_quota_us": "-1\n",
        "cpu.cfs_period_us": "100000\n",
    },
    "cpuacct": {"cpuacct.usage": "9000000000\n"},
    "memory": {"memory.usage_in_bytes": "3100000\n", "memory.limit_in_bytes": f"{2**63 - 4096}\n"},
}
V2 = {
    "cpu.stat": "usage_usec 1500000\nuser_usec 1\nsystem_usec 1\nnr_periods {periods}\n"
    "nr_throttled {throttled}\nthrottled_usec 250000\n",
    "cpu.max": "25000 100000\n",
    "memory.current": "3000000\n",
    "memory.max": "536870912\n",
    "memory.stat": "anon 1\ninactive_file 1000000\n",
}
V2_PARENT = {
    "cpu.stat": "usage_usec 9000000\nuser_usec 1\nsystem_usec 1\n",
    "cpu.max": "max 100000\n",
    "memory.current": "3100000\n",
    "memory.max": "max\n",
    "memory.stat": "anon 1\ninactive_file 1000000\n",
}


def write(folder: Path, files: dict[str, str], **values: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text.format(**values))
    return folder


class Cgroupfs:
    """Version 1 under the cgroupfs driver: parents below the group that the engine runs in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # As seen where an engine was started inside another group of the memory hierarchy only.
        self.below = {"cpu": "", "cpuacct": "", "memory": "engine/inner"}

    def container(self, service: str, name: str, **values: int) -> Path:
        for controller, inner in self.below.items():
            parent = self.root / controller / inner / f"lab-1-{service}.slice"
            write(parent, V1_PARENT[controller])
            write(parent / name, V1[controller] | {"cgroup.procs": ""}, **values)
        return self.root / "cpu" / f"lab-1-{service}.slice" / name

    def remove(self, service: str, name: str) -> None:
        for controller, inner in self.below.items():
            folder = self.root / controller / inner / f"lab-1-{service}.slice" / name
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()


class Systemd:
    """Version 2 under the systemd driver: `a-b-c.slice` is in `a-b.slice`, that in `a.slice`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        write(root, {"cgroup.controllers": "cpu memory\n"})

    def container(self, service: str, name: str, **values: int) -> Path:
        parent = self.root / "lab.slice" / "lab-1.slice" / f"lab-1-{service}.slice"
        write(parent, V2_PARENT)
        return write(parent / f"docker-{name}.scope", V2 | {"cgroup.procs": ""}, **values)

    def remove(self, service: str, name: str) -> None:
        parent = self.root / "lab.slice" / "lab-1.slice" / f"lab-1-{service}.slice"
        for file in (folder := parent / f"docker-{name}.scope").iterdir():
            file.unlink()
        folder.rmdir()


@pytest.fixture(params=[Cgroupfs, Systemd])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Cgroupfs | Systemd:
    return request.param(tmp_path)


def samples(source: ContainersSource) -> dict[str, float]:
    reading = source.read()
    assert not reading.problems
    return {f"{s.name}/{s.labels['name']}": s.value for f in reading.families for s in f.samples}


def test_a_service_is_read_from_its_parent_and_its_container(host):
    """CPU time is the parent's, which outlives containers; limits and memory the container's."""
    host.container("postgres", "aaa", periods=100, throttled=7)
    source = ContainersSource(Path("/none"), groups=ParentGroups(host.root, "lab-1"))
    found = samples(source)
    assert found == {
        "container_cpu_usage_seconds_total/postgres": 9.0,
        "container_cpu_cfs_periods_total/postgres": 100,
        "container_cpu_cfs_throttled_periods_total/postgres": 7,
        "container_cpu_cfs_throttled_seconds_total/postgres": 0.25,
        "container_spec_cpu_quota/postgres": 25000,
        "container_spec_cpu_period/postgres": 100000,
        "container_memory_working_set_bytes/postgres": 2000000,
        "container_spec_memory_limit_bytes/postgres": 536870912,
    }


def test_counters_do_not_fall_when_a_container_is_replaced(host):
    """What a container that is gone had counted stays in the service's counters."""
    groups, reader = ParentGroups(host.root, "lab-1"), ParentReader()
    host.container("flask", "aaa", periods=100, throttled=7)
    first = reader.read("flask", groups.find()["flask"])
    host.remove("flask", "aaa")
    host.container("flask", "bbb", periods=3, throttled=1)
    second = reader.read("flask", groups.find()["flask"])
    host.container("flask", "bbb", periods=5, throttled=1)
    third = reader.read("flask", groups.find()["flask"])
    assert [u.periods for u in (first, second, third)] == [100, 103, 105]
    assert [u.throttled_periods for u in (first, second, third)] == [7, 8, 8]
    assert second.throttled_s == 0.5
    assert second.quota_us == 25000


def test_a_service_without_a_container_is_left_out(host):
    """The engine leaves empty parents behind; other projects' groups are none of ours."""
    host.container("postgres", "aaa", periods=1, throttled=0)
    host.container("django", "bbb", periods=1, throttled=0)
    groups = ParentGroups(host.root, "lab-1")
    assert set(groups.find()) == {"postgres", "django"}
    host.remove("django", "bbb")
    assert set(groups.find()) == {"postgres"}
    assert ParentGroups(host.root, "lab").find() == {}
    assert ParentGroups(host.root, "other").find() == {}


def test_connecting_backends_are_the_children_of_the_postmaster(host, tmp_path):
    """The first process is known by its own background processes; it is no backend itself."""
    container = host.container("postgres", "aaa", periods=1, throttled=0)
    titles = {
        70: (1, b"postgres\0-c\0config_file=x\0"),
        71: (70, b"postgres: checkpointer \0"),
        72: (70, b"postgres: poolscope_service poolscope 10.0.0.3(5) authentication\0"),
        73: (70, b"postgres: poolscope_service poolscope 10.0.0.3(6) idle\0"),
        90: (1, b"psql\0-c\0SELECT 1\0"),  # a health check
    }
    (container / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in titles))
    proc = tmp_path / "proc"
    for pid, (parent, title) in titles.items():
        write(proc / str(pid), {"stat": f"{pid} (postgres) S {parent} " + "0 " * 20})
        (proc / str(pid) / "cmdline").write_bytes(title)
    groups = ParentGroups(host.root, "lab-1")
    assert postmaster(groups.find()["postgres"], proc) == 70
    for pid in titles:
        children = " ".join(str(p) for p, (parent, _) in titles.items() if parent == pid)
        write(proc / str(pid) / "task" / str(pid), {"children": children})
    (family,) = ConnectingSource(Path("/none"), proc, groups=groups).read().families
    counts = {s.labels["phase"]: s.value for s in family.samples}
    assert counts == {"initializing": 0, "authentication": 1, "startup": 0}


def test_without_the_hosts_processes_nothing_is_said_of_connects(host, tmp_path):
    """Without `pid: host` the ids are 0 or missing: no figure, rather than 0."""
    container = host.container("postgres", "aaa", periods=1, throttled=0)
    (container / "cgroup.procs").write_text("0\n0\n")
    groups = ParentGroups(host.root, "lab-1")
    assert ConnectingSource(Path("/none"), tmp_path, groups=groups).read().families == []
