"""The compose stack: the servers as containers of docker-compose.yml, by the docker command."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg

from lab.errors import ConfigError, ServiceError
from lab.files import write_atomic
from lab.interrupts import shielded
from lab.load import generator_processes
from lab.settings import Settings
from lab.stack import docker, grafana, provision, servers, stores
from lab.stack.base import Endpoints, Load, Pgbench, StackFacts, Story
from lab.stack.compose_load import ComposeLoad
from lab.stack.compose_settings import check_memory, environment, versions
from lab.stack.docker import Engine, PortTaken
from lab.stack.due_load import DueLoad, due, mark, serves
from lab.stack.home import Home
from lab.stack.images import Images
from lab.stack.limits import Limits
from lab.stack.monitoring import KEPT_CONFIG
from lab.stack.ports import allocate, next_free
from lab.stack.process import tail
from lab.stack.project import STATE_FILE, STATE_FOLDER, Project, logs_of, take_down
from lab.stack.ready import wait_until

log = logging.getLogger(__name__)

#: Beyond the native stack's 30 s: the first start of PostgreSQL makes its data.
READY_S = 90
#: How often a container that does not answer yet is looked at: it costs 30 ms of CPU.
ALIVE_S = 0.5
MONITORS = ("prometheus", "exporter", "postgres-exporter")
#: It ends where PgBouncer is not there.
PGBOUNCER_MONITOR = "pgbouncer-exporter"
LOAD = ("locust-master", "locust-worker")
#: Others may take a port between its choice and its use.
PORT_TRIES = 5
#: Inside a limited container a check would be paid from what it measures.
NO_CHECKS = "24h"
LIMITED = ("db", "app", "pgbouncer")
#: What docker-compose.yml gives to its servers.
START_TOKEN = "compose"


class ComposeStack:
    """See Stack. `detached` containers outlive this process (`make up`)."""

    name = "compose"

    def __init__(
        self,
        home: Home,
        engine: Engine,
        found: Images,
        ports: dict[str, int],
        asked_for: set[str],
        *,
        detached: bool = False,
    ) -> None:
        self.home = home
        self._asked_for = asked_for
        self._settings: Settings | None = None
        self.engine = engine
        self.ports = ports
        self.images = found
        self.project = Project(home)
        self.limits = Limits(
            f"docker ({engine.cgroups})" if engine.cpu_limits else None,
            None if engine.cpu_limits else "this Docker engine cannot limit CPU time",
        )
        self._detached = detached
        self._running: set[str] = set()
        self._answering: set[str] = set()
        self._measured = False
        self._loading = False
        self._caps: dict[str, float] = {}
        self._postgres_key: tuple[Any, ...] = ()
        self._provision_key: tuple[Any, ...] = ()
        self._provisioned = False
        self._versions: dict[str, str] | None = None
        self._cell: dict[str, str] | None = None
        self._story = Story()
        self._prometheus = {"PROMETHEUS_STORE": stores.UP}

    @classmethod
    def open(
        cls,
        home: Home,
        settings: Settings,
        asked_for: set[str],
        engine: Engine,
        found: Images,
        *,
        detached: bool = False,
    ) -> ComposeStack:
        """Take free ports, and return a stack that runs nothing yet; raise ConfigError."""
        check_memory(settings, engine)
        ports = allocate(settings, asked_for)
        return cls(home, engine, found, ports, asked_for, detached=detached)

    # --- the contract ---------------------------------------------------------------------------

    def prepare(self, settings: Settings) -> None:
        """See Stack."""
        self.home.run.mkdir(parents=True, exist_ok=True)
        for old in self.home.run.glob("*.log"):
            old.unlink()
        self.announce(None)
        self._use(settings)
        self._postgres(settings)
        self._provision(settings)

    @property
    def grafana_url(self) -> str | None:
        """See Stack."""
        port = self.ports["grafana_port"]
        return None if self.images.grafana is None else f"http://{servers.HOST}:{port}"

    def keep(self, store: str) -> None:
        """See Stack."""
        self._volume().begin(store, time.time())
        self._prometheus = {"PROMETHEUS_STORE": store}

    def keeps(self, store: str) -> bool:
        """See Stack."""
        return self._volume().holds(store)

    def start_database(self, settings: Settings) -> Endpoints:
        """See Stack."""
        self._use(settings)
        self._remove(*servers.APPS, "pgbouncer", PGBOUNCER_MONITOR)
        self._postgres(settings)
        self._provision(settings)
        if settings.route == "pgbouncer":
            self._up("pgbouncer", fresh=True)
            placed = self._placed(settings)
            self._ready(
                "pgbouncer",
                f"pgbouncer on {servers.HOST}:{placed.pgbouncer_port}",
                lambda: servers.pgbouncer_answers(placed),
            )
        self._limit(settings)
        return self._endpoints(settings)

    def monitor(self, settings: Settings) -> Endpoints:
        """See Stack."""
        self._use(settings)
        if settings.monitoring == "on":
            self._monitor(settings, served=False)
        return self._endpoints(settings)

    def look_back(self, settings: Settings, store: str) -> Endpoints:
        """See Stack."""
        self.home.run.mkdir(parents=True, exist_ok=True)
        self._prometheus = {
            "PROMETHEUS_STORE": store,
            "PROMETHEUS_CONFIG": KEPT_CONFIG.name,
            "PROMETHEUS_RETENTION": stores.KEPT_RETENTION,
        }
        self._use(settings)
        self._up("prometheus", *([grafana.NAME] if self.images.grafana else []))
        endpoints = self._endpoints(settings)
        check = partial(servers.http_answers, f"{endpoints.prometheus}/-/ready")
        self._ready("prometheus", "prometheus", check)
        self._grafana_ready(settings)
        return self._endpoints(settings)

    def start(self, settings: Settings) -> Endpoints:
        """See Stack."""
        self.start_database(settings)
        self._service(settings)
        if settings.monitoring == "on":
            if settings.route == "pgbouncer":
                self._up(PGBOUNCER_MONITOR)
            self._monitor(settings, served=settings.metrics == "on")
        else:
            self._remove(*MONITORS, PGBOUNCER_MONITOR, "grafana")
        self._limit(settings)
        return self._endpoints(settings)

    def ended(self) -> tuple[str, ...]:
        """See Stack."""
        alive = set(self.project.containers(running=True).values())
        return tuple(sorted(self._running - alive - {grafana.NAME}))  # nothing measured needs it

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
        owner = folder.stat()
        ids = (0, 0) if self.engine.rootless else (owner.st_uid, owner.st_gid)
        workers = generator_processes(settings)
        env = {
            "LOCUST_DIR": str(folder),
            "LOCUST_UID": str(ids[0]),
            "LOCUST_GID": str(ids[1]),
            "LOCUST_WORKERS": str(workers),
            "LOCUST_RUN_TIME": f"{bound_s:.0f}s",
        }
        self._use(settings)
        with shielded():
            self._up(*LOAD, fresh=True, env=env)
            self._running -= set(LOAD)  # its end is the load's to notice
            load = ComposeLoad(self.project, workers, self.home.run / "locust.log")
        port = self.ports["locust_metrics_port"]
        return DueLoad(load, partial(serves, servers.HOST, port, START_TOKEN), self._load_due)

    def pgbench(self) -> Pgbench:
        """See Stack."""
        words = ("run", "--rm", "--no-deps", "--no-TTY", "--quiet-pull", "-e", "PGPASSWORD")
        options = ("-e", "PGCONNECT_TIMEOUT", "-e", "PGSSLMODE", "-e", "LC_ALL", "-e", "LANGUAGE")
        return Pgbench(
            command=self.project.command(*words, *options, "pgbench"),
            env=dict(self.project.env),
            folder="/pgbench",
            addresses={"direct": ("postgres", 5432), "pgbouncer": ("pgbouncer", 6432)},
        )

    def facts(self) -> StackFacts:
        """See Stack."""
        if self._versions is None:
            engine = {"docker": self.engine.version, "compose": self.engine.compose}
            self._versions = versions(self.images, self.project.name) | engine
        number = tuple(int(part) for part in self._versions["pgbouncer"].split("."))
        return StackFacts(
            name=self.name,
            versions=self._versions,
            limits=self.limits.kind,
            limits_reason=self.limits.reason,
            pgbouncer_prepares=number >= servers.PREPARES_FROM,
        )

    def tails(self) -> dict[str, str]:
        """See Stack."""
        kept = {"locust": tail(self.home.run / "locust.log", 200)}
        found = {n: t for n, t in logs_of(self.project.name, 200).items() if n not in LOAD}
        return found | {name: text for name, text in kept.items() if text}

    def stop(self) -> None:
        """See Stack."""
        with shielded():
            try:
                self._quiet(*self._answering)
            finally:  # also on a full disk
                take_down(self.home)
            self._running.clear()
            self._caps.clear()

    # --- the parts ------------------------------------------------------------------------------

    def _volume(self) -> stores.Volume:
        return stores.Volume(self.project.name, self.images.chosen["PROMETHEUS_IMAGE"])

    @property
    def state_folder(self) -> Path:
        """The folder that Poolscope's exporter sees: which cell is measured."""
        return self.home.root / STATE_FOLDER

    @property
    def state_file(self) -> Path:
        """See Stack."""
        return self.state_folder / STATE_FILE

    def _write_state(self) -> None:
        """Write what Poolscope's exporter reads at every scrape; its groups it finds by itself.

        Where nothing runs it does not say who is due: a stack that is started by hand uses the same
        file, and its servers would not be asked.
        """
        self.state_folder.mkdir(parents=True, exist_ok=True)
        self.state_folder.chmod(0o755)
        answering = due(self._answering, self._measured, self._loading) if self._running else None
        state = {"due": answering, "cell": self._cell, **self._story.state()}
        write_atomic(self.state_folder / STATE_FILE, json.dumps(state))

    def _endpoints(self, settings: Settings) -> Endpoints:
        s = self._placed(settings)
        shown = grafana.url(s) if "grafana" in self._running else None
        return replace(servers.endpoints(s, START_TOKEN), grafana=shown)

    def _placed(self, settings: Settings) -> Settings:
        return settings.model_copy(update=self.ports)

    def _use(self, settings: Settings) -> None:
        """Give the compose file these settings."""
        self._settings = settings
        own = {
            "STATE_DIR": str(self.state_folder),
            "RESTART": "no",
            "HEALTH_INTERVAL": "5s" if self._detached else NO_CHECKS,
            **{f"{name.upper()}_CPUS_AT_START": "0" for name in LIMITED},
            **self.images.chosen,
            **self._prometheus,
        }
        self.project.env = environment(self.home, self._placed(settings)) | own

    def _up(
        self, *services: str, fresh: bool = False, env: Mapping[str, str] | None = None
    ) -> None:
        """Start services without their CPU limits, which come once they are ready.

        Starting (imports, recovery) is not what is measured, and would take a limited service many
        times as long.
        """
        with shielded():
            if fresh:
                self._running -= set(services)
                self._quiet(*services)
                for service in services:
                    self._caps.pop(service, None)
            for left in reversed(range(PORT_TRIES)):
                try:
                    self.project.up(*services, fresh=fresh, env=env)
                    break
                except PortTaken as error:
                    if not left or not self._move(error.port):
                        raise
            self._running |= set(services)

    def _move(self, port: int) -> bool:
        """Take the next free port for one that is taken by now, unless it was asked for."""
        name = next((name for name, given in self.ports.items() if given == port), None)
        if name is None or name.upper() in self._asked_for or self._settings is None:
            return False
        self.ports[name] = next_free(name, port + 1, self.ports.values())
        log.warning("%s %d was taken in the meantime; using %d", name.upper(), port,
                    self.ports[name])  # fmt: skip
        self._use(self._settings)
        return True

    def _remove(self, *services: str) -> None:
        there = set(services) & self._running
        if there:
            with shielded():
                self._running -= there
                self._quiet(*there)
                self.project.remove(*sorted(there))
                for service in there:
                    self._caps.pop(service, None)

    def _quiet(self, *services: str) -> None:
        """Have nobody ask these any more."""
        if not self._answering.isdisjoint(services):
            self._answering -= set(services)
            self._write_state()

    def _load_due(self, due: bool) -> None:
        self._loading = due
        mark(self.state_folder / STATE_FILE, due)

    def _ready(self, service: str, what: str, check: Callable[[], None]) -> None:
        looked = [time.monotonic(), True]

        def alive() -> bool:
            if time.monotonic() - looked[0] > ALIVE_S:
                looked[:] = [time.monotonic(), self.project.alive(service)]
            return bool(looked[1])

        try:
            wait_until(
                check,
                what,
                READY_S,
                alive=alive,
                tail=lambda: self.project.tail(service),
                errors=(OSError, psycopg.Error, httpx.HTTPError),
            )
        except ServiceError as error:
            self._refuse_if_out_of_memory(service)
            if "database files are incompatible with server" in str(error):
                raise ConfigError(
                    "the volume pg_data is of another PostgreSQL version than POSTGRES_IMAGE; "
                    "`make reset` removes it, and the data is loaded again"
                ) from None
            raise
        self._answering.add(service)
        self._write_state()

    def _refuse_if_out_of_memory(self, service: str) -> None:
        if self.project.killed_for_memory(service):
            name = "DB_MEMORY" if service == "postgres" else "APP_MEMORY"
            raise ConfigError(
                f"{service} was killed for want of memory while starting: {name}="
                f"{self.project.env[name]} is too little; raise it"
            )

    def _postgres(self, settings: Settings) -> None:
        """Start PostgreSQL, again where settings differ that it reads at its start only."""
        s = self._placed(settings)
        names = [n for n in s.public() if n.startswith("POSTGRES_") and not n.endswith("_PORT")]
        key = (*(s.public()[n] for n in names), s.pgbouncer_auth_type, s.db_memory)
        if key == self._postgres_key and self.project.alive("postgres"):
            return
        self._up("postgres", fresh=True)
        s = self._placed(settings)
        self._ready("postgres", f"postgres on {servers.HOST}:{s.postgres_port}",
                    lambda: servers.postgres_answers(s))  # fmt: skip
        self._postgres_key, self._provision_key = key, ()

    def _provision(self, settings: Settings) -> None:
        """Make database, roles, secrets and data right where the settings ask for others."""
        key = provision.key(settings)
        if key == self._provision_key:
            return
        if "postgres" in self._caps:  # loading is set-up, and not what is limited
            self._cap("postgres", self.engine.cpus)
        self.project.up("seed", fresh=True)
        container = self.project.container("seed")
        code = docker.run(["docker", "wait", container]).strip()
        said = self.project.tail("seed", 50)
        if code != "0":
            raise ServiceError(
                f"database not made ready: {said.splitlines()[-1] if said else code}"
            )
        log.log(logging.DEBUG if self._provisioned else logging.INFO, said)
        self.project.remove("seed")
        self._provision_key, self._provisioned = key, True

    def _service(self, settings: Settings) -> None:
        self._measured = settings.metrics == "on"
        self._up(settings.framework, fresh=True)
        s = self._placed(settings)
        port = getattr(s, servers.APPS[s.framework])
        url = f"http://{servers.HOST}:{port}/healthz"
        self._ready(s.framework, f"{s.framework} on {servers.HOST}:{port}",
                    lambda: servers.http_answers(url))  # fmt: skip

    def _monitor(self, settings: Settings, *, served: bool) -> None:
        """Start Prometheus and the exporters where they do not run yet.

        `served`: there is a service to be scraped.
        """
        wanted = [*MONITORS, *([grafana.NAME] if self.images.grafana else [])]
        alive = set(self.project.containers(running=True).values())
        if set(wanted) <= alive:
            return
        started = time.time()
        self._up(*wanted)
        s = self._placed(settings)
        base = f"http://{servers.HOST}:{s.prometheus_port}"
        for service, url in (
            ("exporter", f"http://{servers.HOST}:{s.poolscope_exporter_port}/metrics"),
            ("postgres-exporter", f"http://{servers.HOST}:{s.postgres_exporter_port}/"),
            ("prometheus", f"{base}/-/ready"),
        ):
            self._ready(service, service, partial(servers.http_answers, url))
        jobs = ["poolscope", *(["service"] if served else [])]
        check = partial(servers.prometheus_scrapes, base, jobs, started)
        self._ready("prometheus", "prometheus's first scrapes", check)
        self._grafana_ready(settings)

    def _grafana_ready(self, settings: Settings) -> None:
        """Wait for Grafana; it is no part of what is measured, so a run goes on without it."""
        if self.images.grafana is None:
            return
        url = f"{grafana.url(self._placed(settings))}/api/health"
        try:
            self._ready(grafana.NAME, grafana.NAME, partial(servers.http_answers, url))
        except ServiceError as error:
            log.warning("no dashboards: %s", error)
            self._remove(grafana.NAME)
            self.images = replace(self.images, grafana=None, why="it did not start")

    def _limit(self, s: Settings) -> None:
        """Set the CPU limits of the settings; memory is limited from the start."""
        if self.limits.kind is None:
            return
        wanted = {"postgres": s.db_cpus, "pgbouncer": s.pgbouncer_cpus, s.framework: s.app_cpus}
        for service, cpus in wanted.items():
            if service in self._running and self._caps.get(service) != cpus:
                self._cap(service, cpus)

    def _cap(self, service: str, cpus: float) -> None:
        docker.run(["docker", "update", "--cpus", f"{cpus:g}", self.project.container(service)])
        self._caps[service] = cpus
