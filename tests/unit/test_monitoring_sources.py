"""The exporter's readers of files: cgroups, processes, the host, the cell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from monitoring.exporter.cell import CellSource
from monitoring.exporter.cgroups import Usage, read_cgroup
from monitoring.exporter.containers import ContainersSource
from monitoring.exporter.host import HostSource
from monitoring.exporter.postgres import ConnectingSource
from monitoring.exporter.processes import TICKS_PER_S, TreeReader
from monitoring.exporter.reading import Reading, Source
from monitoring.exporter.state import load_state
from tests.unit.scrapes import samples

ROOT = Path(__file__).parents[2]
V1 = Path("/sys/fs/cgroup/cpu")


class _Registered:
    """A reading as a collector, to see it as Prometheus does."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterator:
        yield from self._reading.families


def exposed(source: Source) -> dict[str, float]:
    """Return the samples of a source as `name{label="value"}` to value."""
    registry = CollectorRegistry()
    registry.register(_Registered(source.read()))
    found = samples(generate_latest(registry).decode())
    return {
        name + "".join(f"[{value}]" for _, value in sorted(labels)): number
        for (name, labels), number in found.items()
    }


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def write_state(path: Path, services: dict | None = None, cell: dict | None = None) -> Path:
    path.write_text(json.dumps({"services": services or {}, "cell": cell}))
    return path


def v2(folder: Path, cpu_max: str = "25000 100000\n", memory_max: str = "268435456\n") -> Path:
    return write(
        folder,
        cpu__stat="usage_usec 1500000\nuser_usec 1\nnr_periods 40\nnr_throttled 4\n"
        "throttled_usec 2500000\n",
        cpu__max=cpu_max,
        memory__current="1000000\n",
        memory__stat="anon 5\ninactive_file 400000\nactive_file 9\n",
        memory__max=memory_max,
    )


def v1(folder: Path, quota: str = "50000\n", limit: str = "536870912\n") -> dict[str, Path]:
    return {
        "cpu": write(
            folder / "cpu",
            cpu__stat="nr_periods 40\nnr_throttled 4\nthrottled_time 2500000000\n",
            cpu__cfs_quota_us=quota,
            cpu__cfs_period_us="100000\n",
        ),
        "cpuacct": write(folder / "cpuacct", cpuacct__usage="1500000000\n"),
        "memory": write(
            folder / "memory",
            memory__usage_in_bytes="1000000\n",
            memory__stat="inactive_file 1\ntotal_inactive_file 400000\n",
            memory__limit_in_bytes=limit,
        ),
    }


def test_read_cgroup_v2(tmp_path: Path) -> None:
    assert read_cgroup({"unified": v2(tmp_path / "g")}) == Usage(
        cpu_s=1.5,
        periods=40,
        throttled_periods=4,
        throttled_s=2.5,
        quota_us=25000,
        period_us=100000,
        working_set_bytes=600000,
        memory_limit_bytes=268435456,
    )


def test_read_cgroup_v1(tmp_path: Path) -> None:
    assert read_cgroup(v1(tmp_path)) == Usage(
        cpu_s=1.5,
        periods=40,
        throttled_periods=4,
        throttled_s=2.5,
        quota_us=50000,
        period_us=100000,
        working_set_bytes=600000,
        memory_limit_bytes=536870912,
    )


def test_read_cgroup_without_limits_has_none(tmp_path: Path) -> None:
    """Not 0, and not the huge numbers by which v1 says it."""
    usage = read_cgroup({"unified": v2(tmp_path / "g", "max 100000\n", "max\n")})
    assert (usage.quota_us, usage.memory_limit_bytes) == (None, None)
    usage = read_cgroup(v1(tmp_path, quota="-1\n", limit="9223372036854771712\n"))
    assert (usage.quota_us, usage.memory_limit_bytes) == (None, None)


def test_read_cgroup_leaves_out_controllers_that_are_off(tmp_path: Path) -> None:
    """v2 without the cpu and memory controllers still accounts CPU time."""
    folder = write(tmp_path / "g", cpu__stat="usage_usec 7000000\nuser_usec 1\n")
    assert read_cgroup({"unified": folder}) == Usage(cpu_s=7.0)
    assert read_cgroup({"cpuacct": v1(tmp_path)["cpuacct"], "memory": None}) == Usage(cpu_s=1.5)


def test_read_cgroup_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no cgroup"):
        read_cgroup({"unified": tmp_path / "gone"})


@pytest.mark.skipif(
    not os.access(V1 / "cgroup.procs", os.W_OK), reason="no writable cgroup v1 on this host"
)
def test_read_cgroup_of_the_real_kernel() -> None:
    """CPU time and throttling of a process that spins under a tenth of a core."""
    folders = {c: V1.parent / c / f"poolscope-test-{os.getpid()}" for c in ("cpu", "cpuacct")}
    for folder in folders.values():
        folder.mkdir()
    try:
        (folders["cpu"] / "cpu.cfs_quota_us").write_text("10000")
        into = "".join(f"echo $$ > {folder}/cgroup.procs; " for folder in folders.values())
        spin = "import time; end = time.time() + 1\nwhile time.time() < end: pass"
        subprocess.run(["sh", "-c", f'{into} exec "$0" -c "$1"', sys.executable, spin], check=True)
        usage = read_cgroup(folders)
    finally:
        for folder in folders.values():
            folder.rmdir()
    assert usage.cpu_s == pytest.approx(0.11, abs=0.06)
    assert usage.quota_us == 10000
    assert usage.throttled_periods
    assert usage.periods
    assert usage.throttled_periods <= usage.periods
    assert usage.throttled_s
    assert usage.throttled_s > 0.3


def test_containers_have_cadvisors_names(tmp_path: Path) -> None:
    state = write_state(
        tmp_path / "state.json",
        {
            "postgres": {"pid": 1, "cgroup": {"unified": str(v2(tmp_path / "pg"))}},
            "flask": {"cgroup": {k: str(v) for k, v in v1(tmp_path).items()}, "cpus": 9},
        },
    )
    figures = exposed(ContainersSource(state))
    assert figures["container_cpu_usage_seconds_total[postgres]"] == 1.5
    assert figures["container_cpu_cfs_periods_total[postgres]"] == 40
    assert figures["container_cpu_cfs_throttled_periods_total[postgres]"] == 4
    assert figures["container_cpu_cfs_throttled_seconds_total[postgres]"] == 2.5
    assert figures["container_spec_cpu_quota[postgres]"] == 25000
    assert figures["container_spec_cpu_period[postgres]"] == 100000
    assert figures["container_memory_working_set_bytes[postgres]"] == 600000
    assert figures["container_spec_memory_limit_bytes[postgres]"] == 268435456
    # What the kernel enforces wins over what the state file says.
    assert figures["container_spec_cpu_quota[flask]"] == 50000


def test_containers_take_limits_from_the_state_file_where_the_cgroup_has_none(
    tmp_path: Path,
) -> None:
    """The limit may sit on a group above the one that is read."""
    folder = v2(tmp_path / "pg", "max 100000\n", "max\n")
    service = {"cgroup": {"unified": str(folder)}, "cpus": 0.25, "memory_bytes": 1024}
    figures = exposed(ContainersSource(write_state(tmp_path / "s.json", {"postgres": service})))
    assert figures["container_spec_cpu_quota[postgres]"] == 25000
    assert figures["container_spec_memory_limit_bytes[postgres]"] == 1024


def test_containers_of_a_service_that_is_gone_are_absent_and_the_others_stay(
    tmp_path: Path,
) -> None:
    state = write_state(
        tmp_path / "state.json",
        {
            "postgres": {"cgroup": {"unified": str(v2(tmp_path / "pg"))}},
            "flask": {"cgroup": {"unified": str(tmp_path / "gone")}},
            "django": {"pid": 2**22 + 1, "cgroup": None},
            "fastapi": {"cgroup": None},
        },
    )
    source = ContainersSource(state)
    assert {key.partition("[")[2] for key in exposed(source)} == {"postgres]"}
    problems = source.read().problems
    assert [problem.partition(":")[0] for problem in problems] == ["flask", "django", "fastapi"]


BACKENDS = """
import os, sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
for line in sys.stdin:
    # A backend for each connection, as PostgreSQL forks them; none lives longer than its work.
    for _ in range(int(line)):
        if (pid := os.fork()) == 0:
            burn(0.05)
            os._exit(0)
        os.waitpid(pid, 0)
    print("done", flush=True)
"""


@pytest.fixture
def postmaster() -> Iterator[subprocess.Popen[str]]:
    """A process that forks a short-lived child for each of the number it is told."""
    command = [sys.executable, "-c", BACKENDS]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def tell(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def test_tree_counts_backends_that_lived_between_two_scrapes(
    postmaster: subprocess.Popen[str],
) -> None:
    """The connect-per-request case: not one of them is alive when it is looked at."""
    reader = TreeReader()
    tell(postmaster, 0)
    before, _ = reader.read(postmaster.pid)
    tell(postmaster, 10)
    after, resident = reader.read(postmaster.pid)
    assert 0.45 <= after - before < 0.8  # 10 times 50 ms, give or take the clock's ticks
    assert resident > 1_000_000


def test_tree_counts_living_descendants(postmaster: subprocess.Popen[str]) -> None:
    """The test itself is the root: the fixture's process and its children are below it."""
    reader = TreeReader()
    tell(postmaster, 0)
    before, _ = reader.read(os.getpid())
    tell(postmaster, 4)
    after, _ = reader.read(os.getpid())
    assert after - before >= 0.15


def fake_process(proc: Path, pid: int, parent: int, ticks: tuple[int, ...], start: int = 1) -> Path:
    """Write what the reader needs of one process."""
    folder = proc / str(pid)
    (folder / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
    fields = ["S", str(parent), *["0"] * 9, *map(str, ticks), *["0"] * 4, str(start)]
    (folder / "stat").write_text(f"{pid} (postgres: a (b) c) {' '.join(fields)}\n")
    (folder / "statm").write_text("1000 300 200 0 0 0 0\n")
    return folder


def test_tree_never_falls_when_a_child_is_missed(tmp_path: Path) -> None:
    """A counter that falls reads as a restart, and its whole value as new."""
    fake_process(tmp_path, 10, 1, (100, 0, 0, 0))
    child = fake_process(tmp_path, 11, 10, (40, 10, 0, 0))
    (tmp_path / "10" / "task" / "10" / "children").write_text("11 ")
    reader = TreeReader(tmp_path)
    assert reader.read(10)[0] == 150 / TICKS_PER_S
    shutil.rmtree(child)  # gone after its parent was read: not yet in the parent's figures
    assert reader.read(10)[0] == 150 / TICKS_PER_S
    fake_process(tmp_path, 10, 1, (100, 0, 45, 12))
    assert reader.read(10)[0] == 157 / TICKS_PER_S


def test_tree_starts_anew_with_another_process_of_the_same_pid(tmp_path: Path) -> None:
    fake_process(tmp_path, 10, 1, (100, 0, 0, 0), start=5)
    reader = TreeReader(tmp_path)
    assert reader.read(10)[0] == 100 / TICKS_PER_S
    fake_process(tmp_path, 10, 1, (3, 0, 0, 0), start=6)
    assert reader.read(10)[0] == 3 / TICKS_PER_S


def test_tree_finds_children_where_the_kernel_does_not_list_them(tmp_path: Path) -> None:
    """Without CONFIG_PROC_CHILDREN, by everybody's parent."""
    fake_process(tmp_path, 10, 1, (1, 0, 0, 0))
    fake_process(tmp_path, 11, 10, (2, 0, 0, 0))
    fake_process(tmp_path, 12, 11, (4, 0, 0, 0))
    fake_process(tmp_path, 13, 1, (8, 0, 0, 0))
    assert TreeReader(tmp_path).read(10)[0] == 7 / TICKS_PER_S


def test_tree_counts_shared_memory_once(tmp_path: Path) -> None:
    fake_process(tmp_path, 10, 1, (1, 0, 0, 0))
    fake_process(tmp_path, 11, 10, (1, 0, 0, 0))
    page = os.sysconf("SC_PAGE_SIZE")
    assert TreeReader(tmp_path).read(10)[1] == (100 + 100 + 200) * page


def test_connecting_counts_the_titles_below_the_postmaster(tmp_path: Path) -> None:
    titles = (
        b"postgres: checkpointer \0\0",
        b"postgres: service poolscope 127.0.0.1(4242) authentication\0\0\0",
        b"postgres: service poolscope 127.0.0.1(4243) authentication\0",
        b"postgres: service poolscope 127.0.0.1(4244) startup\0",
        b"postgres: service poolscope 127.0.0.1(4245) idle\0",
        b"/usr/lib/postgresql/15/bin/postgres\0-D\0data\0",
        b"",
    )
    fake_process(tmp_path, 10, 1, (1, 0, 0, 0))
    for number, title in enumerate(titles):
        (fake_process(tmp_path, 100 + number, 10, (1, 0, 0, 0)) / "cmdline").write_bytes(title)
    state = write_state(tmp_path / "state.json", {"postgres": {"pid": 10}})
    assert exposed(ConnectingSource(state, tmp_path)) == {
        "pg_connecting_backends[initializing]": 1,
        "pg_connecting_backends[authentication]": 2,
        "pg_connecting_backends[startup]": 1,
    }


@pytest.mark.parametrize("services", [{}, {"postgres": {"pid": None}}])
def test_connecting_is_absent_without_a_pid(tmp_path: Path, services: dict) -> None:
    """Never 0: nobody has looked."""
    state = write_state(tmp_path / "state.json", services)
    assert exposed(ConnectingSource(state)) == {}


def test_host_has_node_exporters_names(tmp_path: Path) -> None:
    write(
        tmp_path,
        stat="cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 1 200 3000 5 0 7 11 90 0\nintr 1 2\n",
        loadavg="0.52 0.20 0.10 1/200 4242\n",
    )
    figures = exposed(HostSource(tmp_path))
    assert figures["node_cpu_seconds_total[0][idle]"] == 3000 / TICKS_PER_S
    assert figures["node_cpu_seconds_total[0][steal]"] == 11 / TICKS_PER_S
    assert figures["node_load1"] == 0.52
    assert len(figures) == 9


def test_host_reads_this_machine() -> None:
    figures = exposed(HostSource())
    assert figures["node_cpu_seconds_total[0][idle]"] > 0
    assert len(figures) == 1 + 8 * (os.cpu_count() or 1)


def test_cell_info_has_the_cells_settings_as_labels(tmp_path: Path) -> None:
    cell = {
        "run_id": "r1",
        "users": 100,
        "pool-size": "8",
        "DB_CONN_HEALTH_CHECKS": True,
        "x": None,
    }
    source = CellSource(write_state(tmp_path / "s.json", cell=cell))
    info, *others = source.read().families
    (sample,) = info.samples
    assert not any(family.samples for family in others)
    assert sample.value == 1
    assert sample.labels == {
        "run_id": "r1",
        "users": "100",
        "pool_size": "8",
        "DB_CONN_HEALTH_CHECKS": "true",
        "x": "",
    }


def test_cell_info_is_absent_between_cells(tmp_path: Path) -> None:
    assert exposed(CellSource(write_state(tmp_path / "s.json"))) == {}


def test_cell_moments_and_results_are_exposed(tmp_path: Path) -> None:
    """A figure that could not be had has no series, and is not 0."""
    path = tmp_path / "s.json"
    moment = {"run_id": "r1", "cell_id": "c1", "event": "window_start", "at": 1795192316.5}
    labels = {"run_id": "r1", "cell_id": "c1", "status": "accepted"}
    result = {"labels": labels, "figures": {"rps": 12.5, "p95_seconds": None}}
    path.write_text(json.dumps({"moments": [moment], "results": [result]}))
    _, moments, results = CellSource(path).read().families
    assert [(s.labels["event"], s.value) for s in moments.samples] == [
        ("window_start", 1795192316.5)
    ]
    assert [(s.labels, s.value) for s in results.samples] == [({**labels, "figure": "rps"}, 12.5)]


def test_state_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    path = write_state(tmp_path / "s.json", cell={"cell_id": "a"})
    first = load_state(path)
    assert load_state(path) is first
    new = write_state(tmp_path / "new.json", cell={"cell_id": "b"})
    new.replace(path)
    assert load_state(path).cell == {"cell_id": "b"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "file: Invalid JSON"), ('{"services": {"a": {"pid": 0}}}', "services.a.pid")],
)
def test_state_file_that_makes_no_sense_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as caught:
        load_state(path)
    assert str(path) in str(caught.value)
