"""The native stack: the same servers as ordinary processes, without Docker and without root."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg

from lab.config import memory_size
from lab.errors import ConfigError, LabError, ServiceError
from lab.files import write_atomic
from lab.interrupts import shielded
from lab.load import generator_processes, locust_command, locust_environment
from lab.paths import ROOT
from lab.settings import Settings
from lab.stack import grafana, limits, monitoring, provision, servers, stores, toolchain
from lab.stack.base import Endpoints, Load, Pgbench, StackFacts, Story
from lab.stack.due_load import DueLoad, due, mark, serves
from lab.stack.home import Home
from lab.stack.ports import allocate, free, next_free
from lab.stack.process import Command, Process, end_recorded, tail
from lab.stack.ready import wait_until

log = logging.getLogger(__name__)

READY_S = 30


class NativeStack:
    """See Stack. `detached` servers outlive this process (`make up`)."""

    name = "native"

    def __init__(
        self,
        home: Home,
        ports: dict[str, int],
        asked_for: Collection[str] = (),
        *,
        detached: bool = False,
    ) -> None:
        self.home = home
        self.ports = ports
        self._asked_for = asked_for
        self._detached = detached
        #: On all that our own servers say of themselves: see monitoring/identity.py.
        self.start_token = secrets.token_hex(4)
        self._processes: dict[str, Process] = {}
        self._started: dict[str, float] = {}
        self._answering: set[str] = set()
        self._measured = False
        self._loading = False
        self._postgres_key: tuple[Any, ...] = ()
        self._provision_key: tuple[Any, ...] = ()
        self._provisioned = False
        self._cell: dict[str, str] | None = None
        self._story = Story()
        self._store = stores.UP
        self._caps: dict[str, tuple[float, int | None]] = {}
        self.limits = limits.detect(home.name)
        self.tools: toolchain.Toolchain | None = None
        self.grafana = grafana.find()

    @classmethod
    def open(
        cls, home: Home, settings: Settings, asked_for: set[str], *, detached: bool = False
    ) -> NativeStack:
        """Take free ports, and return a stack that runs nothing."""
        return cls(home, allocate(settings, asked_for), asked_for, detached=detached)

    @classmethod
    def attached(cls, home: Home, ports: dict[str, int]) -> NativeStack:
        """Return the stack that another process left running, to put load on it."""
        stack = cls(home, ports)
        try:
            left = json.loads(stack.state_file.read_text(encoding="utf-8"))
            # By which its Prometheus knows the load as its own.
            stack.start_token = left["start_token"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{stack.state_file} says nothing of what is up; `make down`, then `make up` again"
            ) from None
        return stack

    # --- the contract ---------------------------------------------------------------------------

    def prepare(self, settings: Settings) -> None:
        """See Stack."""
        self.home.run.mkdir(parents=True, exist_ok=True)
        for old in self.home.run.glob("*.log"):
            old.unlink()
        self.tools = toolchain.ensure(self.home.toolchain)
        settings = self._placed(settings)
        provision.initialise(self.tools, self.home, settings)
        self._postgres(settings)
        self._provision(settings)

    @property
    def grafana_url(self) -> str | None:
        """See Stack."""
        port = self.ports["grafana_port"]
        return None if self.grafana is None else f"http://{servers.HOST}:{port}"

    def keep(self, store: str) -> None:
        """See Stack."""
        stores.begin(self.home.prometheus_data, store, time.time())
        self._store = store

    def keeps(self, store: str) -> bool:
        """See Stack."""
        return stores.holds(self.home.prometheus_data, store)

    def start_database(self, settings: Settings) -> Endpoints:
        """See Stack."""
        settings = self._placed(settings)
        for name in (*servers.APPS, "pgbouncer"):
            self._stop(name)
        self._postgres(settings)
        self._provision(settings)
        if settings.route == "pgbouncer":
            self._pgbouncer(settings)
        self._limit(settings)
        return self._endpoints(settings)

    def monitor(self, settings: Settings) -> Endpoints:
        """See Stack."""
        settings = self._placed(settings)
        if settings.monitoring == "on":
            self._monitor(settings, served=False)
        return self._endpoints(settings)

    def look_back(self, settings: Settings, store: str) -> Endpoints:
        """See Stack."""
        self.home.run.mkdir(parents=True, exist_ok=True)
        self.tools = toolchain.ensure(self.home.toolchain)
        settings = self._moved(self._placed(settings), ["prometheus"])
        command = monitoring.looking_back(self.tools, self.home, settings, store)
        self._run(command, limited=False)
        endpoints = self._endpoints(settings)
        check = partial(servers.http_answers, f"{endpoints.prometheus}/-/ready")
        self._ready(command.name, command.name, check)
        if self.grafana is not None:
            self._grafana(self.grafana, settings)
        return self._endpoints(settings)

    def kill_database(self) -> float:
        """See Stack."""
        return self._processes["postgres"].kill()

    def start(self, settings: Settings) -> Endpoints:
        """See Stack."""
        self.start_database(settings)
        settings = self._placed(settings)
        self._service(settings)
        if settings.monitoring == "on":
            self._monitor(settings, served=settings.metrics == "on")
        else:
            for name in (*monitoring.NAMES, grafana.NAME):
                self._stop(name)
        self._limit(settings)
        return self._endpoints(settings)

    def ended(self) -> tuple[str, ...]:
        """See Stack."""
        gone = (name for name, process in self._processes.items() if not process.alive())
        # Nothing measured needs Grafana; the load's end is the load's to notice.
        return tuple(name for name in gone if name not in (grafana.NAME, "locust"))

    def announce(self, cell: dict[str, str] | None) -> None:
        """See Stack."""
        self._cell = cell
        self._write_state()

    def publish(self, story: Story) -> None:
        """See Stack."""
        self._story = story
        self._write_state()

    def load(self, settings: Settings, folder: Path, bound_s: float) -> Load:
        """See Stack."""
        settings = self._placed(settings)
        # Its metrics could not be had, and the other program's would be there in their place.
        _refuse_taken("locust", settings, "locust_metrics_port")
        args = locust_command(
            sys.executable,
            ROOT / "loadtest" / "locustfile.py",
            f"http://{servers.HOST}:{getattr(settings, servers.APPS[settings.framework])}",
            settings.users,
            settings.spawn_rate,
            bound_s,
            stop_timeout_s=75,
            csv_prefix=folder / "locust",
            processes=generator_processes(settings),
            master_port=settings.locust_master_port,
        )
        base = servers.base_env(self.home) | {servers.START_TOKEN: self.start_token}
        env = locust_environment(settings.scenario, folder, settings.locust_metrics_port, base)
        command = Command("locust", args, env, ROOT, stop_timeout_s=90)
        # A generator that is held back is a fault to recognise: the gate rejects what it measures.
        process = self._run(command, limited=settings.generator_cpus > 0)
        return self.watched(process, settings)

    def watched(self, load: Load, settings: Settings) -> Load:
        """See LadderStack."""
        port = self._placed(settings).locust_metrics_port
        answers = partial(serves, servers.HOST, port, self.start_token)
        return DueLoad(load, answers, self._load_due)

    def pgbench(self) -> Pgbench:
        """See Stack."""
        assert self.tools is not None
        return Pgbench(
            command=[str(self.tools.programs["pgbench"])],
            env=self.tools.env("pgbench"),
            folder=str(ROOT / "database" / "pgbench"),
            addresses={
                "direct": (servers.HOST, self.ports["postgres_port"]),
                "pgbouncer": (servers.HOST, self.ports["pgbouncer_port"]),
            },
        )

    def facts(self) -> StackFacts:
        """See Stack."""
        assert self.tools is not None
        versions = {name: self.tools.version(name) for name in self.tools.programs}
        return StackFacts(
            name=self.name,
            versions=versions,
            limits=self.limits.kind,
            limits_reason=self.limits.reason,
            pgbouncer_prepares=self._pgbouncer_version() >= servers.PREPARES_FROM,
        )

    def tails(self) -> dict[str, str]:
        """See Stack."""
        logs = sorted(self.home.run.glob("*.log"))
        return {path.stem: text for path in logs if (text := tail(path, 200))}

    def stop(self) -> None:
        """See Stack."""
        failed = []
        with shielded():
            for name in reversed(list(self._processes)):
                try:
                    self._stop(name)
                except LabError as error:
                    failed.append(error)
            self.limits.clear()
        if failed:
            raise failed[0]

    # --- the parts ------------------------------------------------------------------------------

    def _placed(self, settings: Settings) -> Settings:
        return settings.model_copy(update=self.ports)

    def _endpoints(self, s: Settings) -> Endpoints:
        s = self._placed(s)  # the monitoring may have moved
        shown = grafana.url(s) if grafana.NAME in self._processes else None
        found = servers.endpoints(
            s, self.start_token, monitoring.postgres_metrics(self.start_token)
        )
        return replace(found, grafana=shown)

    def _run(self, command: Command, *, limited: bool = True) -> Process:
        """Start a server; a limited one in a group of its own, whose limits come once it is ready.

        Starting (imports, recovery) is not what is measured, and would take a limited service many
        times as long.
        """
        with shielded():
            group = self.limits.group(command.name) if limited else None
            process = Process(command, self.home.run, group, detached=self._detached)
            self._processes[command.name] = process
            self._started[command.name] = time.time()
        return process

    def _ready(self, name: str, what: str, check: Callable[[], None]) -> None:
        process = self._processes[name]
        wait_until(
            check,
            what,
            READY_S,
            alive=process.alive,
            tail=process.tail,
            errors=(OSError, psycopg.Error, httpx.HTTPError),
        )
        self._answering.add(name)
        self._write_state()

    def _stop(self, name: str) -> None:
        """End a server, and first have nobody ask it any more."""
        process = self._processes.pop(name, None)
        if process is not None:
            self._caps.pop(name, None)
            self._answering.discard(name)
            try:
                self._write_state()
            finally:  # also on a full disk
                process.stop()

    def _load_due(self, due: bool) -> None:
        self._loading = due
        mark(self.state_file, due)

    def _postgres(self, s: Settings) -> None:
        """Start PostgreSQL, again where settings differ that it reads at its start only."""
        assert self.tools is not None
        key = tuple(v for n, v in s.public().items() if n.startswith("POSTGRES_"))
        key = (*key, s.pgbouncer_auth_type)
        running = self._processes.get("postgres")
        if running is not None and running.alive() and key == self._postgres_key:
            return
        self._stop("postgres")
        command = servers.postgres(self.tools, self.home, s)
        for name in ("postgresql.conf", "pg_hba.conf"):
            self.home.own(self.home.run / name, command.user)
        self._run(command)
        self._ready("postgres", f"postgres on {servers.HOST}:{s.postgres_port}",
                    lambda: servers.postgres_answers(s))  # fmt: skip
        self._postgres_key, self._provision_key = key, ()

    def _provision(self, s: Settings) -> None:
        """Make database, roles, secrets and data right where the settings ask for others."""
        key = provision.key(s)
        if key == self._provision_key:
            return
        self._uncap("postgres")  # loading is set-up, and not what is limited
        lines = provision.run(self.home, s)
        log.log(logging.DEBUG if self._provisioned else logging.INFO, "\n".join(lines))
        self._provision_key, self._provisioned = key, True

    def _pgbouncer_version(self) -> tuple[int, ...]:
        assert self.tools is not None
        return tuple(int(part) for part in self.tools.version("pgbouncer").split("."))

    def _pgbouncer(self, s: Settings) -> None:
        assert self.tools is not None
        # With so_reuseport it would share the port with another PgBouncer, without a word.
        _refuse_taken("pgbouncer", s, "pgbouncer_port")
        command = servers.pgbouncer(self.tools, self.home, s, self._pgbouncer_version())
        self.home.own(self.home.run / "pgbouncer.ini", command.user)
        self._run(command)
        self._ready("pgbouncer", f"pgbouncer on {servers.HOST}:{s.pgbouncer_port}",
                    lambda: servers.pgbouncer_answers(s))  # fmt: skip

    def _service(self, s: Settings) -> None:
        # Another lab's service would answer in place of this one.
        _refuse_taken(s.framework, s, servers.APPS[s.framework], "service_metrics_port")
        self._measured = s.metrics == "on"
        self._run(servers.service(self.home, s, self.start_token))
        port = getattr(s, servers.APPS[s.framework])
        url = f"http://{servers.HOST}:{port}/healthz"
        self._ready(s.framework, f"{s.framework} on {servers.HOST}:{port}",
                    lambda: servers.http_answers(url))  # fmt: skip

    def _monitor(self, s: Settings, *, served: bool) -> None:
        """Start Prometheus and the exporters where they do not run yet.

        `served`: there is a service to be scraped.
        """
        assert self.tools is not None
        self._write_state()
        s = self._moved(s, monitoring.NAMES)
        renamed = False
        for command, url in monitoring.commands(
            self.tools, self.home, s, self._store, self.start_token, self._started
        ):
            running = self._processes.get(command.name)
            if running is not None and running.alive():
                if command.name == "prometheus" and renamed:
                    os.kill(running.pid, signal.SIGHUP)  # reads its configuration again
                continue
            renamed = True  # by its start, and maybe by its port
            started = time.time()
            self._run(command, limited=False)
            self._ready(command.name, command.name, partial(servers.http_answers, url))
            if command.name == "prometheus":
                jobs = ["poolscope", *(["service"] if served else [])]
                base = f"http://{servers.HOST}:{s.prometheus_port}"
                check = partial(servers.prometheus_scrapes, base, jobs, started)
                self._ready(command.name, "prometheus's first scrapes", check)
        if self.grafana is not None and grafana.NAME not in self._processes:
            self._grafana(self.grafana, s)

    def _moved(self, s: Settings, names: Collection[str]) -> Settings:
        """Give servers that do not run yet another port where theirs was taken in the meantime.

        Another lab's server would answer in place of theirs, or they could not start.
        """
        for name in names:
            running = self._processes.get(name)
            variable = f"{name}_port"
            port = self.ports[variable]
            if (running is not None and running.alive()) or free(port):
                continue
            if variable.upper() in self._asked_for:
                _refuse_taken(name, s, variable)
            self.ports[variable] = next_free(variable, port + 1, self.ports.values())
            log.warning("%s %d was taken in the meantime; using %d", variable.upper(), port,
                        self.ports[variable])  # fmt: skip
        return self._placed(s)

    def _grafana(self, found: grafana.Grafana, s: Settings) -> None:
        """Start Grafana; it is no part of what is measured, so a run goes on without it."""
        s = self._moved(s, [grafana.NAME])
        process = self._run(grafana.command(found, self.home, s), limited=False)
        where = grafana.url(s)
        try:
            wait_until(
                partial(servers.http_answers, f"{where}/api/health"),
                f"grafana on {where}",
                grafana.READY_S,
                alive=process.alive,
                tail=process.tail,
                errors=(OSError, httpx.HTTPError),
            )
        except ServiceError as error:
            log.warning("no dashboards: %s", error)
            self._stop(grafana.NAME)
            self.grafana = None

    def _limit(self, s: Settings) -> None:
        """Set the limits of the settings, and tell the exporter where to read their use."""
        wanted: dict[str, tuple[float, int | None]] = {
            "postgres": (s.db_cpus, memory_size(s.db_memory)),
            "pgbouncer": (s.pgbouncer_cpus, None),
            s.framework: (s.app_cpus, memory_size(s.app_memory)),
        }
        for name, (cpus, memory) in wanted.items():
            process = self._processes.get(name)
            if process is not None and process.group is not None:
                process.group.limit(cpus, memory)
                self._caps[name] = (cpus, memory)
        self._write_state()

    def _uncap(self, name: str) -> None:
        group = self._processes[name].group
        if group is not None:
            group.limit(None, None)
            self._caps.pop(name, None)

    @property
    def state_file(self) -> Path:
        """See Stack."""
        return self.home.run / "state.json"

    def _write_state(self) -> None:
        """Write what Poolscope's exporter reads at every scrape."""
        services = {}
        for name in ("postgres", "pgbouncer", *servers.APPS):
            process = self._processes.get(name)
            if process is None or name not in self._answering:
                continue
            cpus, memory = self._caps.get(name, (None, None))
            services[name] = {
                "pid": process.pid,
                "cgroup": process.group.paths(process.pid) if process.group else None,
                "cpus": cpus,
                "memory_bytes": memory,
            }
        state = {
            "services": services,
            "start_token": self.start_token,
            "due": due(services, self._measured, self._loading),
            "cell": self._cell,
            **self._story.state(),
        }
        write_atomic(self.state_file, json.dumps(state, indent=1))


def _refuse_taken(name: str, s: Settings, *ports: str) -> None:
    """Raise ServiceError where a port that was free at the start is another program's now."""
    for variable in ports:
        port = getattr(s, variable)
        if not free(port):
            raise ServiceError(
                f"{name} cannot start: {servers.HOST}:{port} ({variable.upper()}) was taken by "
                "another program in the meantime; start again"
            )


def clean_up(home: Home) -> list[str]:
    """End the recorded processes of this home and remove its groups; return the names ended."""
    ended = end_recorded(home.run) if home.run.is_dir() else []
    limits.detect(home.name).clear()
    return ended
