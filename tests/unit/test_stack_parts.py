"""The native stack's parts: limits, ports, processes, waiting, interrupts, the lock."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lab import interrupts
from lab.errors import ConfigError, ServiceError
from lab.settings import build
from lab.stack import limits
from lab.stack.home import Home, closed_folder, locked
from lab.stack.limits import CgroupV1, CgroupV2, Limits
from lab.stack.native import NativeStack
from lab.stack.ports import allocate, free
from lab.stack.process import Command, Process, end_recorded, recorded, tail
from lab.stack.ready import wait_until


def test_cgroup_v1_limits_are_written_as_the_kernel_reads_them(tmp_path: Path) -> None:
    """Quota is microseconds per 100 ms; no limit is -1."""
    folders = {name: tmp_path / name for name in limits.V1_CONTROLLERS}
    for folder in folders.values():
        folder.mkdir()
    group = CgroupV1(folders)
    group.limit(0.25, 300 * 2**20)
    assert (folders["cpu"] / "cpu.cfs_quota_us").read_text() == "25000"
    assert (folders["cpu"] / "cpu.cfs_period_us").read_text() == "100000"
    assert (folders["memory"] / "memory.limit_in_bytes").read_text() == "314572800"
    group.limit(None, None)
    assert (folders["cpu"] / "cpu.cfs_quota_us").read_text() == "-1"


def test_cgroup_v2_limits_are_written_as_the_kernel_reads_them(tmp_path: Path) -> None:
    """cpu.max is "quota period"; no limit is max."""
    group = CgroupV2(tmp_path)
    group.limit(1.5, 2**20)
    assert (tmp_path / "cpu.max").read_text() == "150000 100000"
    assert (tmp_path / "memory.max").read_text() == "1048576"
    group.limit(None, None)
    assert (tmp_path / "cpu.max").read_text() == "max 100000"
    assert (tmp_path / "memory.max").read_text() == "max"


def test_a_limit_that_the_kernel_refuses_is_said(tmp_path: Path) -> None:
    """Memory that is in use already cannot be taken away: one line names the server."""
    group = CgroupV2(tmp_path / "postgres")  # not there: no file of it can be written
    with pytest.raises(ServiceError, match=r"limit of postgres not set: cpu\.max refuses"):
        group.limit(0.5, None)


def test_what_a_crash_left_in_a_group_is_ended() -> None:
    """A group is removed with the processes in it, which nobody else knows of any more."""
    found = limits.detect(f"poolscope-parts-{os.getpid()}")
    if not found.parents:
        pytest.skip(f"no groups here: {found.reason}")
    group = found.group("left")
    assert group is not None
    left = subprocess.Popen(group.wrap(["sleep", "60"]))
    try:
        procs = next(iter(group.paths(left.pid).values())) + "/cgroup.procs"
        wait_until(
            lambda: assert_is(str(left.pid) in Path(procs).read_text(), True),
            "joining", 5, errors=(AssertionError,),
        )  # fmt: skip
        group.remove()
        assert left.wait(5) == -signal.SIGKILL
        assert not Path(procs).parent.exists()
    finally:
        left.kill()
        left.wait()
        found.clear()


def test_entering_a_group_runs_the_command_with_its_arguments(tmp_path: Path) -> None:
    """The shell writes its own id into each file and becomes the command, odd words included."""
    file = tmp_path / "cgroup.procs"
    args = CgroupV2(tmp_path).wrap(["printf", "%s|", "a b", "$HOME", "'"])
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert done.stdout == "a b|$HOME|'|"
    assert file.read_text().strip().isdigit()


def test_systemd_scope_runs_the_command_and_sets_its_properties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scope of the user's manager becomes the command; limits are systemd's properties."""
    said = tmp_path / "said"
    for name, ending in (("systemctl", ""), ("systemd-run", 'while [ "$1" != -- ]; do shift; done\n'
                         'shift; exec "$@"\n')):  # fmt: skip
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$0 $*" >> {said}\n{ending}')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    scope = Limits("systemd", None, name="lab").group("postgres")
    assert isinstance(scope, limits.SystemdScope)
    done = subprocess.run(scope.wrap(["echo", "a b"]), capture_output=True, text=True, check=True)
    assert done.stdout == "a b\n"
    # A server's environment has no place for the manager's address: it is given by hand.
    assert "XDG_RUNTIME_DIR=/run/user/7" in scope.wrap(["echo"])
    scope.limit(0.25, 2**20)
    run, properties = said.read_text().splitlines()
    assert f"--user --scope --quiet --collect --unit={scope.unit}" in run
    assert f"set-property {scope.unit}.scope CPUQuota=25% MemoryMax=1048576" in properties


@pytest.mark.parametrize(
    ("shown", "kind"), [("50000 100000", "systemd"), ("max 100000", None), ("", None)]
)
def test_systemd_counts_only_where_it_limits_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, kind: str | None
) -> None:
    """Without a delegated cpu controller a scope is made, and limits nothing."""
    (tmp_path / "systemd-run").write_text(f"#!/bin/sh\necho {shown}\n")
    (tmp_path / "systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = limits._try_systemd("lab")
    assert (found.kind if isinstance(found, Limits) else None) == kind


def test_no_limits_means_no_groups() -> None:
    """Where nothing can be enforced there is no group, and the reason is kept."""
    none = Limits(None, "because")
    assert none.group("postgres") is None
    none.clear()


def test_a_taken_port_gives_way_unless_it_was_asked_for() -> None:
    """The next free port is taken, no port is given twice, and one asked for is never replaced."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = build({"POSTGRES_PORT": port, "PGBOUNCER_PORT": port})
        given = allocate(settings, set())
        assert given["postgres_port"] > port
        assert len(set(given.values())) == len(given)
        assert all(free(number) for number in given.values())
        with pytest.raises(ConfigError, match=f"POSTGRES_PORT={port} was asked for"):
            allocate(settings, {"POSTGRES_PORT"})


def test_a_port_that_was_asked_for_is_not_given_to_another() -> None:
    """A server that has to move leaves out what was asked for; one port is not asked for twice."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        if not free(port + 1):
            return
        settings = build({"POSTGRES_PORT": port, "PGBOUNCER_PORT": port + 1})
        given = allocate(settings, {"PGBOUNCER_PORT"})
        assert given["pgbouncer_port"] == port + 1
        assert given["postgres_port"] > port + 1
        both = build({"POSTGRES_PORT": port + 1, "PGBOUNCER_PORT": port + 1})
        with pytest.raises(ConfigError, match="too; choose another"):
            allocate(both, {"POSTGRES_PORT", "PGBOUNCER_PORT"})


def sleeper(name: str = "sleeper", seconds: int = 60) -> Command:
    """Return a server with a child, which does nothing."""
    script = f"sleep {seconds} & sleep {seconds}; wait"
    return Command(name, ["sh", "-c", script], {"PATH": os.environ["PATH"]}, stop_timeout_s=1)


def test_stop_ends_the_server_and_what_it_forked(tmp_path: Path) -> None:
    """No process of the tree and no record is left."""
    process = Process(sleeper(), tmp_path)
    wait_until(lambda: psutil.Process(process.pid).children()[0], "child", 5, errors=(IndexError,))
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert recorded(tmp_path) == [("sleeper", process.pid, True)]
    process.stop()
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)
    assert recorded(tmp_path) == []


def test_an_earlier_start_is_ended_but_never_a_process_that_got_its_id(tmp_path: Path) -> None:
    """A record is believed only where the creation time matches too."""
    process = Process(sleeper(), tmp_path)
    path = tmp_path / "sleeper.pid.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"created": record["created"] - 100}))
    assert end_recorded(tmp_path) == []
    assert process.alive()
    path.write_text(json.dumps(record))
    assert end_recorded(tmp_path) == ["sleeper"]
    assert not process.alive()


def test_a_server_dies_with_the_lab(tmp_path: Path) -> None:
    """When the lab is killed, the kernel ends its servers."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from lab.stack.process import Command, Process\n"
        "p = Process(Command('x', ['sleep', '60'], {'PATH': '/usr/bin:/bin'}), Path(sys.argv[1]))\n"
        "print(p.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    wait_until(lambda: assert_is(child.name(), "sleep"), "exec", 5, errors=(AssertionError,))
    parent.kill()
    parent.wait()
    gone, _ = psutil.wait_procs([child], timeout=5)
    assert gone


def assert_is(found: str, wanted: str) -> None:
    """Fail unless both are the same."""
    assert found == wanted


def test_waiting_says_the_last_error_and_the_log() -> None:
    """After the deadline, or at once when the process ended, the message says what was seen."""

    def never() -> None:
        raise OSError("connection refused")

    with pytest.raises(ServiceError, match=r"x not ready after 0\.1 s: connection refused"):
        wait_until(never, "x", 0.1)
    began = time.monotonic()
    with pytest.raises(ServiceError, match=r"x ended while starting; the end of its log:\nboom"):
        wait_until(never, "x", 30, alive=lambda: False, tail=lambda: "boom")
    assert time.monotonic() - began < 5


def test_tail_is_the_end_of_a_log(tmp_path: Path) -> None:
    """The last lines are given, of a missing file none."""
    path = tmp_path / "log"
    assert tail(path) == ""
    path.write_text("\n".join(map(str, range(100))))
    assert tail(path, 2) == "98\n99"


def test_a_signal_waits_for_a_shielded_block() -> None:
    """Inside the block nothing is raised; after it the signal is."""
    before = signal.getsignal(signal.SIGTERM)
    interrupts.install()
    done = []

    @interrupts.shielded()
    def whole() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("whole")

    try:
        with pytest.raises(interrupts.Interrupted) as raised:
            whole()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, before if number == signal.SIGTERM else signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert done == ["whole"]
    assert raised.value.exit_code == 143


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    """A second holder is told who has it; afterwards it is free."""
    tmp_path.chmod(0o755)
    home = Home(tmp_path / "home")
    if closed_folder(home.root) is not None and os.geteuid() == 0:
        home = Home(Path("/tmp") / f"poolscope-lock-{os.getpid()}")
    with (
        locked(home, "make bench"),
        pytest.raises(ConfigError, match=rf"in use by `make bench` \(process {os.getpid()}\)"),
        locked(home, "make up"),
    ):
        pass
    with locked(home, "make up"):
        pass
    (home.root / "lock").unlink()
    home.root.rmdir()


def test_a_closed_folder_on_the_way_is_found(tmp_path: Path) -> None:
    """A folder that others may not enter is named, also for a path that is not there yet."""
    (tmp_path / "closed").mkdir(mode=0o700)
    assert closed_folder(tmp_path / "closed" / "deep" / "er") is not None
    assert closed_folder(Path("/usr/bin")) is None


def test_monitoring_moves_from_a_port_that_was_taken_in_the_meantime(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another lab may be faster between the choice of a port and its use."""
    settings = build({})
    stack = NativeStack.open(Home(tmp_path), settings, set())
    first = dict(stack.ports)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["prometheus_port"]))
        taken.listen()
        placed = stack._moved(settings, ["prometheus", "poolscope_exporter"])
    assert placed.prometheus_port == stack.ports["prometheus_port"] > first["prometheus_port"]
    assert placed.prometheus_port not in first.values()
    assert placed.poolscope_exporter_port == first["poolscope_exporter_port"]
    assert f"PROMETHEUS_PORT {first['prometheus_port']} was taken" in caplog.text


def test_monitoring_keeps_to_a_port_that_was_asked_for(tmp_path: Path) -> None:
    settings = build({})
    stack = NativeStack.open(Home(tmp_path), settings, set())
    asked = NativeStack(Home(tmp_path), stack.ports, {"PROMETHEUS_PORT"})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stack.ports["prometheus_port"]))
        taken.listen()
        placed = settings.model_copy(update=stack.ports)
        with pytest.raises(ServiceError, match="was taken by another program in the meantime"):
            asked._moved(placed, ["prometheus"])
