"""Services in containers, found by the names of their cgroups and not through Docker's socket.

Compose puts each limited service below `cgroup_parent: <prefix>-<service>.slice`. Where that folder
is, depends on the cgroup driver: cgroupfs makes it below the group in which the engine itself runs
(the root, or not), systemd nests it (`a-b.slice` is in `a.slice`). So it is looked for, once.

The parent keeps the CPU time of containers that are gone; limits, throttling and memory are the
containers' own, one folder each below it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from monitoring.exporter.cgroups import Usage, read_cgroup
from monitoring.exporter.processes import PROC, ProcessStat

SERVICES = ("postgres", "pgbouncer", "fastapi", "django", "flask")
V1_CONTROLLERS = ("cpu", "cpuacct", "memory")
#: Deeper than any engine puts its groups.
MAX_DEPTH = 8

Folders = dict[str, Path]  # `unified`, or a folder for each controller of v1
_COUNTERS = ("periods", "throttled_periods", "throttled_s")


@dataclass
class ParentGroups:
    """Finds the groups of a compose project below `root`, the host's /sys/fs/cgroup."""

    root: Path
    prefix: str
    _bases: Folders = field(default_factory=dict)

    def find(self) -> dict[str, Folders]:
        """Return the folders of each service that has containers now."""
        found = {}
        for service in SERVICES:
            folders = self._folders(service)
            if folders and containers(folders):
                found[service] = folders
        return found

    def _folders(self, service: str) -> Folders:
        found = {}
        for controller, root in self._roots().items():
            base = self._base(controller, root)
            folder = None if base is None else base / self._name(service)
            if folder is None or not folder.is_dir():
                return {}
            found[controller] = folder
        return found

    def _roots(self) -> Folders:
        if (self.root / "cgroup.controllers").is_file():
            return {"unified": self.root}
        return {name: self.root / name for name in V1_CONTROLLERS}

    def _base(self, controller: str, root: Path) -> Path | None:
        """Return the folder that holds the project's groups; they are side by side."""
        base = self._bases.get(controller)
        if base is None or not base.is_dir():
            base = _parent_of_any(root, {self._name(service) for service in SERVICES})
            if base is not None:
                self._bases[controller] = base
        return base

    def _name(self, service: str) -> str:
        return f"{self.prefix}-{service}.slice"


def _parent_of_any(root: Path, names: set[str]) -> Path | None:
    for folder, below, _ in os.walk(root):
        if names & set(below):
            return Path(folder)
        if len(Path(folder).relative_to(root).parts) >= MAX_DEPTH:
            below.clear()
    return None


def containers(folders: Folders) -> list[str]:
    """Return the names of the groups right below a service's."""
    first = next(iter(folders.values()))
    return sorted(path.name for path in first.iterdir() if path.is_dir())


@dataclass
class ParentReader:
    """Adds up the containers of each service; a counter does not fall when one is replaced."""

    _last: dict[str, dict[str, Usage]] = field(default_factory=dict)
    _gone: dict[str, Usage] = field(default_factory=dict)

    def read(self, service: str, folders: Folders) -> Usage:
        """Return the use of a service; raise FileNotFoundError where it has no container."""
        now = {}
        for name in containers(folders):
            try:
                now[name] = read_cgroup({key: path / name for key, path in folders.items()})
            except FileNotFoundError:
                continue  # ended meanwhile
        if not now:
            raise FileNotFoundError(f"no container below {next(iter(folders.values()))}")
        before = self._last.get(service, {})
        ended = [before[name] for name in before.keys() - now.keys()]
        gone = _sum([self._gone.get(service, Usage()), *ended], _COUNTERS)
        self._last[service], self._gone[service] = now, gone
        limits = _sum(now.values(), ("quota_us", "working_set_bytes", "memory_limit_bytes"))
        return replace(
            _sum([gone, *now.values()], _COUNTERS),
            cpu_s=read_cgroup(folders).cpu_s,
            quota_us=limits.quota_us,
            period_us=next(iter(now.values())).period_us,
            working_set_bytes=limits.working_set_bytes,
            memory_limit_bytes=limits.memory_limit_bytes,
        )


def _sum(usages: Iterable[Usage], names: Iterable[str]) -> Usage:
    """Add up some figures; one that nobody has stays None."""
    usages = list(usages)
    found: dict[str, float] = {}
    for name in names:
        values = [value for u in usages if (value := getattr(u, name)) is not None]
        if values:
            found[name] = sum(values)
    return Usage(**found)  # type: ignore[arg-type]


def postmaster(folders: Mapping[str, Path], proc: Path = PROC) -> int | None:
    """Return PostgreSQL's first process: the parent of its own background processes.

    None where the processes of the host are not to be seen (no `pid: host`), or none has a title.
    """
    first = next(iter(folders.values()))
    for group in containers(dict(folders)):
        for word in (first / group / "cgroup.procs").read_text().split():
            try:
                title = (proc / word / "cmdline").read_bytes()
                if title.startswith(b"postgres: ") and word != "0":
                    return ProcessStat.read(int(word), proc).parent
            except (FileNotFoundError, ProcessLookupError):
                continue
    return None
