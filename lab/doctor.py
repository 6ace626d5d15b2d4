"""Is this host fit for a run? What is wrong, and what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from rich.console import Console

from lab import config, env_file, host
from lab.errors import LabError
from lab.settings import PORT_FIELDS, SMALL_HOST_CORES, Settings, build, host_defaults
from lab.stack import docker, limits, state, toolchain
from lab.stack.home import Home
from lab.stack.ports import free

#: Programs, data and the samples of some runs.
DISK_BYTES = 2 * 2**30
#: Every user of the load is a connection, and so is every request in a queue.
OPEN_FILES = 4096

Finding = tuple[str, str, str]  # (ok | note | wrong, what is, what to do)


def examine(home: Home, console: Console) -> int:
    """Print every finding; return 2 where something is wrong, else 0."""
    worst = 0
    for level, what, todo in _findings(home):
        mark = {"ok": "[green]ok   [/]", "note": "[yellow]note [/]", "wrong": "[red]wrong[/]"}[
            level
        ]
        console.print(f"{mark} {what}" + (f"\n      {todo}" if todo else ""), highlight=False)
        worst = max(worst, 2 if level == "wrong" else 0)
    return worst


def _findings(home: Home) -> Iterator[Finding]:
    described = host.describe()
    yield "ok", f"{described['system']}, {described['cpu']}, kernel {described['kernel']}", ""
    yield "ok", f"Python {sys.version.split()[0]}", ""
    try:
        settings = build({**host_defaults(), **env_file.ensure()})
        config.check_combination(settings)
    except LabError as error:
        yield "wrong", str(error), "mend .env, or remove it to have it made again"
        return
    yield from _cores(settings, described["cores"])
    yield from _limits(home)
    yield from _room(home)
    yield from _ports(home, settings)
    yield from _programs(home)
    yield from _docker()


def _docker() -> Iterator[Finding]:
    try:
        engine = docker.probe()
    except LabError as error:
        yield "note", f"no compose stack here: {error}", "STACK=auto then takes the native one"
        return
    words = f"Docker {engine.version}, compose {engine.compose}, {engine.cgroups}"
    if not engine.cpu_limits:
        yield "note", words, "it cannot limit CPU time; every table will say so"
        return
    yield "ok", words, ""


def _cores(s: Settings, cores: int) -> Iterator[Finding]:
    taken = s.app_cpus + s.db_cpus + s.pgbouncer_cpus
    what = (
        f"{cores} cores; limits: service {s.app_cpus:g}, database {s.db_cpus:g}, "
        f"PgBouncer {s.pgbouncer_cpus:g}"
    )
    if taken > cores - 1:
        todo = "the generator needs a core of its own: lower APP_CPUS, DB_CPUS or PGBOUNCER_CPUS"
        yield "note", what, todo
    else:
        small = "halved by default below 4 cores" if cores < SMALL_HOST_CORES else ""
        yield "ok", what, small


def _limits(home: Home) -> Iterator[Finding]:
    found = limits.detect(home.name)
    if found.kind:
        found.clear_empty()
        yield "ok", f"CPU and memory limits by {found.kind}", ""
    else:
        yield (
            "note",
            f"CPU and memory limits cannot be enforced: {found.reason}",
            "run as root, or in a systemd user session; every table will say so",
        )


def _room(home: Home) -> Iterator[Finding]:
    there = next(p for p in (home.root, *home.root.parents) if p.exists())
    room = shutil.disk_usage(there).free
    state = "ok" if room > DISK_BYTES else "wrong"
    yield (
        state,
        f"{room / 2**30:.0f} GiB free for {home.root}",
        "" if state == "ok" else "make room",
    )
    limit = psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[0]
    if limit < OPEN_FILES:
        yield "note", f"{limit} open files per process", f"`ulimit -n {OPEN_FILES}` for many users"
    backlog = int(Path("/proc/sys/net/core/somaxconn").read_text())
    if backlog < 4096:
        yield "note", f"net.core.somaxconn is {backlog}", "it caps every listen backlog (4096)"


def _ports(home: Home, s: Settings) -> Iterator[Finding]:
    if left := state.read(home):
        yield "ok", f"the stack of `{left.command}` is running", ""
        return
    taken = [f"{n.upper()} {getattr(s, n)}" for n in PORT_FIELDS if not free(getattr(s, n))]
    if taken:
        yield "note", f"taken on 127.0.0.1: {', '.join(taken)}", "the next free port will be used"
    else:
        yield "ok", "all ports are free", ""


def _programs(home: Home) -> Iterator[Finding]:
    programs = toolchain.find(home.toolchain)
    tools = toolchain.Toolchain(programs, home.toolchain)
    for name, path in programs.items():
        yield "ok", f"{name} {tools.version(name)} ({path})", ""
    for need in toolchain.missing(programs):
        if shutil.which("apt-get"):
            yield "note", f"{need.name} is not there", "`make setup` fetches it into .lab"
        else:
            yield "wrong", f"{need.name} is not there", f"install it: {need.project}"
