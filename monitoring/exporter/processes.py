"""CPU and memory of a process and everything below it, for a host without cgroups.

The processes alive now are not enough: where each request opens a connection, PostgreSQL's
backends live for milliseconds and would be missed nearly all. When a parent has waited for its
child, the kernel adds the child's CPU time to the parent's `cutime` and `cstime`, so the whole is

    sum over the living of (utime + stime + cutime + cstime)

Not counted are children of a parent that ignores SIGCHLD, and those whose parent died first;
PostgreSQL, PgBouncer and gunicorn have neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ProcessStat:
    """The figures of /proc/PID/stat that are needed here; times in clock ticks."""

    pid: int
    parent: int
    ticks: int
    start: int

    @classmethod
    def read(cls, pid: int, proc: Path = PROC) -> ProcessStat:
        """Read one process; raise FileNotFoundError or ProcessLookupError once it is gone."""
        text = (proc / str(pid) / "stat").read_text()
        # The name in parentheses may hold blanks and parentheses itself.
        rest = text[text.rindex(")") + 2 :].split()
        return cls(pid, int(rest[1]), sum(map(int, rest[11:15])), int(rest[19]))


def children(pid: int, proc: Path = PROC) -> list[int]:
    """Return the direct children of a process, of all of its threads."""
    found: list[int] = []
    listed = False
    for task in (proc / str(pid) / "task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
            listed = True
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread ended, or the kernel has no such file
    return found if listed else [stat.pid for stat in _all(proc) if stat.parent == pid]


def _all(proc: Path) -> Iterator[ProcessStat]:
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            try:
                yield ProcessStat.read(int(entry.name), proc)
            except (FileNotFoundError, ProcessLookupError):
                continue


@dataclass
class TreeReader:
    """Reads trees of processes; its CPU figures never fall while a root lives."""

    proc: Path = PROC
    _highest: dict[tuple[int, int], int] = field(default_factory=dict)

    def read(self, pid: int) -> tuple[float, int]:
        """Return CPU seconds so far and resident bytes of the process and its descendants.

        Raises OSError if the root is gone. A parent is read before its children: a child that ends
        in between is then missing until the next reading, never counted twice. That a reading is
        not below the one before is made sure here, because a counter that falls reads as a
        restart, and its whole value as new.
        """
        root = ProcessStat.read(pid, self.proc)
        key = (root.pid, root.start)
        members = list(self._walk(root))
        ticks = max(sum(member.ticks for member in members), self._highest.get(key, 0))
        self._highest = {k: v for k, v in self._highest.items() if k[0] != pid} | {key: ticks}
        return ticks / TICKS_PER_S, self._resident_bytes(members)

    def _walk(self, root: ProcessStat) -> Iterator[ProcessStat]:
        yield root
        try:
            below = children(root.pid, self.proc)
        except (FileNotFoundError, ProcessLookupError):
            return
        for pid in below:
            try:
                child = ProcessStat.read(pid, self.proc)
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield from self._walk(child)

    def _resident_bytes(self, members: list[ProcessStat]) -> int:
        """Add up private pages, and the largest shared part once.

        Each backend counts the pages of shared_buffers that it has touched as its own resident
        ones; their plain sum would show several times what is used.
        """
        private = shared = 0
        for member in members:
            try:
                statm = (self.proc / str(member.pid) / "statm").read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            private += int(statm[1]) - int(statm[2])
            shared = max(shared, int(statm[2]))
        return (private + shared) * PAGE_BYTES
