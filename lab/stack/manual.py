"""A stack left running for manual use: `make up`, `down`, `status`, `logs`."""

from __future__ import annotations

import shutil
import time
from typing import Protocol

import psutil
from rich.console import Console

from lab.errors import ConfigError, ServiceError
from lab.settings import Settings
from lab.stack import project, select, state, stores
from lab.stack.base import Endpoints, Moment, Stack, Story
from lab.stack.compose import ComposeStack
from lab.stack.home import Home
from lab.stack.native import clean_up
from lab.stack.process import recorded, tail

#: How make up's stack is called where a run has its id.
RUN_ID = stores.UP
#: The interval files of each load that was put on it, below the home's run folder.
LOADS = "loads"


class Watching(Protocol):
    """Who says where to watch a stack; both return the address, None where there is none."""

    def say(self, stack: Stack) -> str | None:
        """Say it before anything is started."""

    def running(self, stack: Stack) -> str | None:
        """See to it that the address answers, once all else does."""


def up(
    home: Home,
    settings: Settings,
    asked_for: set[str],
    console: Console,
    watching: Watching,
) -> None:
    """Start the stack, print where it answers, and leave it running."""
    refuse_if_up(home)
    stack = select.open_stack(home, settings, asked_for, console, detached=True, first=watching.say)
    try:
        stack.keep(stores.UP)
        stack.prepare(settings)
        shutil.rmtree(home.run / LOADS, ignore_errors=True)
        facts = stack.facts()
        resolved = facts.with_prepared(settings)
        if resolved is None:
            raise ConfigError(f"{facts.why_unprepared}; use DB_PREPARED=auto")
        endpoints = stack.start(resolved)
        _announce(stack, settings)
        lines = _lines(settings, endpoints)
        lines += [("watch", where)] if (where := watching.running(stack)) else []
        ports, toggles = dict(stack.ports), resolved.public()
        state.write(home, state.Left(state.UP, stack.name, lines, ports, toggles, _images(stack)))
    except BaseException:
        stack.stop()
        raise
    _print(lines, console)
    console.print("`make load` puts load on it, `make down` ends it", highlight=False)


def _images(stack: Stack) -> dict[str, str]:
    return dict(stack.images.chosen) if isinstance(stack, ComposeStack) else {}


def labels(s: Settings) -> dict[str, str]:
    """Return what the stack is known by, as a run's cells are: dashboards choose by these."""
    cell_id = f"{s.framework}-{s.route}"
    return {"run_id": RUN_ID, "cell_id": cell_id, "framework": s.framework, "route": s.route}


def _announce(stack: Stack, s: Settings) -> None:
    stack.announce(labels(s))
    stack.publish(Story((Moment(RUN_ID, labels(s)["cell_id"], "cell_start", time.time()),)))


def _lines(s: Settings, endpoints: Endpoints) -> list[tuple[str, str]]:
    lines = [(f"{s.framework} ({s.route})", f"{endpoints.service}/benchmark/{s.scenario}")]
    lines += [("metrics", url) for job, url in endpoints.metrics.items() if job != "locust"]
    if endpoints.prometheus:
        lines.append(("prometheus", endpoints.prometheus))
    if endpoints.grafana:
        lines.append(("grafana", f"{endpoints.grafana}/d/poolscope-overview"))
    for name, address in (("postgres", endpoints.postgres), ("pgbouncer", endpoints.pgbouncer)):
        if address:
            lines.append((name, f"{address[0]}:{address[1]}"))
    return lines


def _print(lines: list[tuple[str, str]], console: Console) -> None:
    for name, where in lines:
        console.print(f"{name:<20} {where}", highlight=False)


def refuse_if_up(home: Home) -> None:
    """Raise ConfigError while a stack of `make up`, or `make monitoring`, runs."""
    if left := state.read(home):
        raise ConfigError(
            f"the stack of `{left.command}` is running; end it with `make down` first"
        )


def down(home: Home, console: Console) -> None:
    """End what runs; harmless where nothing does."""
    ended = [*clean_up(home), *project.take_down(home)]
    state.remove(home)
    console.print(f"ended {', '.join(ended)}" if ended else "nothing was running", highlight=False)


def status(home: Home, console: Console) -> None:
    """Print each server, its process, CPU time and memory, and the addresses of `make up`."""
    servers = recorded(home.run) if home.run.is_dir() else []
    running = [(name, pid) for name, pid, alive in servers if alive]
    containers = project.running(home)
    if not running and not containers:
        console.print("nothing is running; `make up` starts one service with its monitoring")
        return
    for name, pid in running:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        memory = sum(p.memory_info().rss for p in family) / 2**20
        console.print(
            f"{name:<20} process {pid:<8} {len(family):>3} processes {memory:>7.0f} MB",
            highlight=False,
        )
    for name, found in containers.items():
        console.print(f"{name:<20} container {found}", highlight=False)
    if left := state.read(home):
        _print(left.lines, console)


def logs(home: Home, service: str | None, lines: str, console: Console) -> None:
    """Print the end of one server's log, or of all; raise ConfigError for an unknown one."""
    if not lines.isdigit() or not int(lines):
        raise ConfigError(f"LINES={lines} is not allowed; allowed: a whole number above 0")
    found = {path.stem: tail(path, int(lines)) for path in sorted(home.run.glob("*.log"))}
    if project.recorded(home):
        found |= project.logs_of(home.name, int(lines))
    if service is not None and service not in found:
        known = ", ".join(found) or "none yet"
        raise ConfigError(f"no log of {service!r}; logs: {known}")
    for name, text in found.items():
        if service in (None, name):
            console.rule(name)
            console.print(text, highlight=False, markup=False)


def forget(home: Home) -> None:
    """Remove data and logs, and the volumes of the compose stack where it ever ran."""
    if project.recorded(home):
        raise ServiceError("containers may be left: start the Docker engine, then `make reset`")
    home.reset()
    if project.has_volumes(home):
        project.remove_volumes(home)
