"""CPU and memory limits by cgroup v2, cgroup v1 or systemd-run, whichever the user may use.

Formats: Linux kernel, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/; quota is microseconds
of CPU per period of 100 ms, as Docker's --cpus sets it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lab.errors import ServiceError

PERIOD_US = 100_000
V1_CONTROLLERS = ("cpu", "cpuacct", "memory")
#: By which systemd-run finds the user's manager.
SYSTEMD_VARIABLES = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
#: Half a core, as a process of version 2 reads its own group's limit; without the controller a
#: scope is made all the same.
PROBE_CPUS = 0.5
PROBE = 'cat "/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/cpu.max"'
#: How long what is left in a group may take to end: a throttled process ends in its turn only.
LEFT_S, POLL_S = 10.0, 0.02


class Group(Protocol):
    """A control group of one server."""

    def wrap(self, args: list[str]) -> list[str]:
        """Return a command that enters the group and then becomes `args`."""

    def limit(self, cpus: float | None, memory_bytes: int | None) -> None:
        """Set the limits; None is unlimited."""

    def paths(self, pid: int) -> dict[str, str]:
        """Return the folders of the group by controller, `unified` for version 2."""

    def remove(self) -> None:
        """Remove the group, and end what is left in it."""


@dataclass(frozen=True)
class CgroupV1:
    """A group in each of the hierarchies cpu, cpuacct and memory."""

    folders: dict[str, Path]

    def wrap(self, args: list[str]) -> list[str]:
        """See Group."""
        files = [str(folder / "cgroup.procs") for folder in dict.fromkeys(self.folders.values())]
        return _entering(files, args)

    def limit(self, cpus: float | None, memory_bytes: int | None) -> None:
        """See Group."""
        quota = -1 if cpus is None else round(cpus * PERIOD_US)
        _write(self.folders["cpu"] / "cpu.cfs_period_us", PERIOD_US)
        _write(self.folders["cpu"] / "cpu.cfs_quota_us", quota)
        _write(self.folders["memory"] / "memory.limit_in_bytes", memory_bytes or -1)

    def paths(self, pid: int) -> dict[str, str]:
        """See Group."""
        return {name: str(folder) for name, folder in self.folders.items()}

    def remove(self) -> None:
        """See Group."""
        for folder in dict.fromkeys(self.folders.values()):
            _remove(folder)


@dataclass(frozen=True)
class CgroupV2:
    """A group in the unified hierarchy."""

    folder: Path

    def wrap(self, args: list[str]) -> list[str]:
        """See Group."""
        return _entering([str(self.folder / "cgroup.procs")], args)

    def limit(self, cpus: float | None, memory_bytes: int | None) -> None:
        """See Group."""
        quota = "max" if cpus is None else round(cpus * PERIOD_US)
        _write(self.folder / "cpu.max", f"{quota} {PERIOD_US}")
        _write(self.folder / "memory.max", memory_bytes or "max")

    def paths(self, pid: int) -> dict[str, str]:
        """See Group."""
        return {"unified": str(self.folder)}

    def remove(self) -> None:
        """See Group."""
        _remove(self.folder)


@dataclass
class SystemdScope:
    """A transient scope of the user's systemd, which owns a delegated part of the hierarchy."""

    unit: str
    manager: list[str] = field(default_factory=lambda: ["--user"])

    def wrap(self, args: list[str]) -> list[str]:
        """See Group."""
        scope = ["--scope", "--quiet", "--collect", f"--unit={self.unit}"]
        accounting = ["-p", "CPUAccounting=yes", "-p", "MemoryAccounting=yes"]
        # A server's own environment does not say where the user's manager is.
        bus = [f"{name}={os.environ[name]}" for name in SYSTEMD_VARIABLES if name in os.environ]
        run = ["systemd-run", *self.manager, *scope, *accounting, "--", *args]
        return ["env", *bus, *run] if bus else run

    def limit(self, cpus: float | None, memory_bytes: int | None) -> None:
        """See Group."""
        properties = [
            f"CPUQuota={'' if cpus is None else f'{cpus * 100:g}%'}",
            f"MemoryMax={memory_bytes or 'infinity'}",
        ]
        command = ["systemctl", *self.manager, "--runtime", "set-property", f"{self.unit}.scope"]
        done = subprocess.run([*command, *properties], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServiceError(f"limits of {self.unit} not set: {done.stderr.strip()}")

    def paths(self, pid: int) -> dict[str, str]:
        """See Group."""
        line = next(
            line
            for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
            if line.startswith("0::")
        )
        return {"unified": f"{_unified_mount()}{line.removeprefix('0::')}"}

    def remove(self) -> None:
        """See Group: systemd removes a scope by itself when its last process ends."""


@dataclass(frozen=True)
class Limits:
    """What this user can enforce on this host.

    `kind` is None where nothing can be, and `reason` says why.
    """

    kind: str | None
    reason: str | None
    parents: dict[str, Path] = field(default_factory=dict)
    name: str = "poolscope"

    def group(self, service: str) -> Group | None:
        """Make the group of a service, without limits yet; None where there can be none."""
        if self.kind == "systemd":
            return SystemdScope(f"{self.name}-{service}-{os.getpid()}")
        folders = {name: parent / service for name, parent in self.parents.items()}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        if self.kind == "cgroup v1":
            return CgroupV1(folders)
        return CgroupV2(folders["unified"]) if self.kind == "cgroup v2" else None

    def clear_empty(self) -> None:
        """Remove the groups that finding out made, where no other start of the lab uses them."""
        for parent in dict.fromkeys(self.parents.values()):
            with contextlib.suppress(OSError):
                parent.rmdir()

    def clear(self) -> None:
        """Remove this checkout's groups, also those an earlier crash left, with what runs in them.

        Only for who holds the home's lock.
        """
        for parent in dict.fromkeys(self.parents.values()):
            for child in parent.glob("*/") if parent.is_dir() else ():
                _remove(child)
            _remove(parent)


def detect(name: str) -> Limits:
    """Find out, by trying, how limits can be enforced here for groups below `name`."""
    reasons = []
    for attempt in (_try_v2, _try_v1, _try_systemd):
        found = attempt(name)
        if isinstance(found, Limits):
            return found
        reasons.append(found)
    return Limits(None, "; ".join(reasons), name=name)


def _try_v2(name: str) -> Limits | str:
    mount = _unified_mount()
    if mount is None:
        return "no cgroup v2 is mounted"
    parent = mount / name
    try:
        if not {"cpu", "memory"} <= set((mount / "cgroup.controllers").read_text().split()):
            return "cgroup v2 has no cpu and memory controllers"
        (mount / "cgroup.subtree_control").write_text("+cpu +memory")
        parent.mkdir(exist_ok=True)
        (parent / "cgroup.subtree_control").write_text("+cpu +memory")
    except OSError as error:
        with contextlib.suppress(OSError):
            parent.rmdir()
        return f"cgroup v2 not writable ({error.strerror})"
    return Limits("cgroup v2", None, {"unified": parent}, name)


def _try_v1(name: str) -> Limits | str:
    parents: dict[str, Path] = {}
    for mount, fstype, options in _mounts():
        for controller in set(V1_CONTROLLERS) & set(options.split(",")):
            if fstype == "cgroup":
                parents[controller] = mount / name
    if set(parents) != set(V1_CONTROLLERS):
        return "no cgroup v1 hierarchies for cpu, cpuacct and memory"
    try:
        for parent in parents.values():
            parent.mkdir(exist_ok=True)
    except OSError as error:
        return f"cgroup v1 not writable ({error.strerror})"
    return Limits("cgroup v1", None, parents, name)


def _try_systemd(name: str) -> Limits | str:
    if shutil.which("systemd-run") is None:
        return "systemd-run is not there"
    quota = ["-p", f"CPUQuota={PROBE_CPUS:.0%}"]
    command = ["systemd-run", "--user", "--scope", "--quiet", *quota, "sh", "-c", PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except subprocess.TimeoutExpired:
        return "systemd-run --user did not answer"
    if done.returncode:
        return f"systemd-run --user: {(done.stderr.strip().splitlines() or ['failed'])[0]}"
    if done.stdout.split()[:1] != [str(round(PROBE_CPUS * PERIOD_US))]:
        return "the user's systemd may not limit CPU (no cpu controller delegated to it)"
    return Limits("systemd", None, name=name)


def _mounts() -> list[tuple[Path, str, str]]:
    """Return (mount point, type, super options) of every mount; see proc_pid_mountinfo(5)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fstype, _, options = right.split(" ", 2)
        found.append((Path(left.split()[4]), fstype, options))
    return found


def _unified_mount() -> Path | None:
    return next((mount for mount, fstype, _ in _mounts() if fstype == "cgroup2"), None)


def _entering(files: list[str], args: list[str]) -> list[str]:
    """Return a shell that writes its own id into the files and becomes `args`."""
    script = (
        'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ > "$1"; shift; n=$((n-1)); done; exec "$@"'
    )
    return ["sh", "-ec", script, "sh", str(len(files)), *files, *args]


def _write(path: Path, value: object) -> None:
    try:
        path.write_text(str(value))
    except OSError as error:  # memory that is in use already, say
        raise ServiceError(
            f"limit of {path.parent.name} not set: {path.name} refuses {value} "
            f"({error.strerror}); raise its *_CPUS or *_MEMORY"
        ) from None


def _remove(folder: Path) -> None:
    """Remove a group, and end what a server that crashed left in it: PostgreSQL's backends, say."""
    deadline = time.monotonic() + LEFT_S
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if time.monotonic() > deadline:
                raise ServiceError(f"cgroup {folder} still has processes") from error
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(POLL_S)
