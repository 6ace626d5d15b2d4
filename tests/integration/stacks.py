"""What the tests of a stack need beyond its contract, for each stack: kill a server, look inside.

POOLSCOPE_TEST_STACK=compose runs the tests marked `stack` against containers.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Protocol

import psutil

from lab.settings import Settings
from lab.stack import docker, images, limits, project
from lab.stack.compose import ComposeStack
from lab.stack.compose_settings import build
from lab.stack.home import Home
from lab.stack.native import NativeStack

TEST_STACK = os.environ.get("POOLSCOPE_TEST_STACK", "native")
CGROUPS = Path("/sys/fs/cgroup")


class Servers(Protocol):
    """The servers of a started stack."""

    exporter: str

    def kill(self, name: str) -> None:
        """End a server as a crash would."""

    def bring_back(self, name: str, settings: Settings) -> None:
        """Start a killed server again."""

    def workers(self, framework: str) -> set[int]:
        """Return the worker processes of the service."""

    def cpu_s(self, name: str) -> float | None:
        """Return what the kernel says of a server's CPU time; None where this test cannot ask."""


class NativeServers:
    """See Servers."""

    exporter = "poolscope_exporter"

    def __init__(self, stack: NativeStack) -> None:
        self._stack = stack

    def kill(self, name: str) -> None:
        psutil.Process(self._stack._processes[name].pid).kill()

    def bring_back(self, name: str, settings: Settings) -> None:
        settings = self._stack._placed(settings)
        self._stack._stop(name)
        if name == "postgres":
            self._stack._postgres(settings)
            self._stack._limit(settings)
        else:
            self._stack._pgbouncer(settings)

    def workers(self, framework: str) -> set[int]:
        master = psutil.Process(self._stack._processes[framework].pid)
        return {child.pid for child in master.children()}

    def cpu_s(self, name: str) -> float | None:
        return _usage(f"{self._stack.home.name}/{name}")


class ComposeServers:
    """See Servers."""

    exporter = "exporter"

    def __init__(self, stack: ComposeStack) -> None:
        self._project = stack.project

    def kill(self, name: str) -> None:
        docker.run(["docker", "kill", self._project.container(name)])

    def bring_back(self, name: str, settings: Settings) -> None:
        docker.run(["docker", "start", self._project.container(name)])

    def workers(self, framework: str) -> set[int]:
        name = self._project.container(framework)
        master = docker.run(["docker", "inspect", "--format", "{{.State.Pid}}", name]).strip()
        rows = docker.run(["docker", "top", name, "-eo", "pid,ppid"]).splitlines()[1:]
        return {int(row.split()[0]) for row in rows if row.split()[1] == master}

    def cpu_s(self, name: str) -> float | None:
        return _usage(f"{self._project.name}-{name}.slice")


def _usage(group: str) -> float | None:
    for pattern in (f"cpuacct/{group}", f"cpuacct/*/{group}", f"cpuacct/*/*/{group}"):
        for folder in CGROUPS.glob(pattern):
            return int((folder / "cpuacct.usage").read_text()) / 1e9
    return None


def open_stack(home: Home, settings: Settings) -> tuple[NativeStack | ComposeStack, Servers]:
    """Return the stack that is tested, and a way to its servers."""
    if TEST_STACK == "native":
        native = NativeStack.open(home, settings, set())
        return native, NativeServers(native)
    found = images.resolve(home, settings, lambda service: build(home, settings, service))
    compose = ComposeStack.open(home, settings, set(), docker.probe(), found)
    return compose, ComposeServers(compose)


def left_behind(home: Home) -> list[str]:
    """Return the processes, groups, containers and networks that still belong to a home."""
    mark = str(home.root.parent)
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
        if process.pid != psutil.Process().pid and any(mark in word for word in words):
            found.append(f"{process.pid} {process.name()}")
    for parent in limits.detect(home.name).parents.values():
        found += [str(child) for child in parent.glob("*/")]
    limits.detect(home.name).clear()
    if TEST_STACK == "compose":
        found += [*_labelled(home, "ps", "--all"), *_labelled(home, "network", "ls")]
        for depth in ("*", "*/*", "*/*/*"):
            found += [str(path) for path in CGROUPS.glob(f"{depth}/{home.name}-*.slice")]
    return found


def volumes(home: Home) -> list[str]:
    """Return the volumes of a home's compose project."""
    return _labelled(home, "volume", "ls")


def _labelled(home: Home, *words: str) -> list[str]:
    label = f"label={project.LABEL}={home.name}"
    done = subprocess.run(
        ["docker", *words, "--quiet", "--filter", label],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()
