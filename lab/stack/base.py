"""What the runner knows of a stack: one contract, whichever way the servers are run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from lab.settings import Settings
from lab.stack.limits import Limits


@dataclass(frozen=True)
class Endpoints:
    """Where the servers of a started stack answer.

    `postgres` and `pgbouncer` are (host, port); `superuser` is libpq's connection string for the
    instrument's own counting, past PgBouncer, with its password.

    `grafana` is None where the stack has none.

    `metrics` maps a scrape job (service, postgres, poolscope, locust) to its URL; a job that does
    not run with these settings is missing. `start_token` is what our own servers among them have on
    every sample: another program on the port has not.
    """

    service: str
    metrics: dict[str, str]
    postgres: tuple[str, int]
    pgbouncer: tuple[str, int] | None
    prometheus: str | None
    superuser: str = field(repr=False)
    service_role: str
    service_password: str = field(repr=False)
    database: str
    start_token: str
    grafana: str | None = None


@dataclass(frozen=True)
class StackFacts:
    """What a manifest says of a stack; `limits` is None where limits are not enforced."""

    name: str
    versions: dict[str, str]
    limits: str | None
    limits_reason: str | None
    pgbouncer_prepares: bool

    def prepares_through(self, s: Settings) -> bool:
        """Return whether prepared statements survive this PgBouncer with these settings."""
        return s.pgbouncer_pool_mode == "session" or (
            self.pgbouncer_prepares and s.pgbouncer_max_prepared_statements > 0
        )

    def with_prepared(self, s: Settings) -> Settings | None:
        """Return settings with DB_PREPARED=auto resolved, None where the route cannot carry it.

        "auto" does not depend on the route: a service that prepares on one route only would make
        two changes at once.
        """
        prepares = self.prepares_through(s)
        if s.db_prepared == "auto":
            return s.model_copy(update={"db_prepared": "on" if prepares else "off"})
        return None if s.db_prepared == "on" and s.route == "pgbouncer" and not prepares else s

    @property
    def why_unprepared(self) -> str:
        """Say why prepared statements cannot be had through PgBouncer."""
        version = self.versions.get("pgbouncer", "?")
        return (
            f"DB_PREPARED=on through PgBouncer {version} in transaction pooling loses statements "
            "(supported from 1.21 on with PGBOUNCER_MAX_PREPARED_STATEMENTS above 0)"
        )


Event = Literal["cell_start", "window_start", "window_end", "rejected"]


@dataclass(frozen=True)
class Moment:
    """Something that happens to a cell at a Unix time; `at` may be decided in advance."""

    run_id: str
    cell_id: str
    event: Event
    at: float


@dataclass(frozen=True)
class CellResult:
    """What a finished cell was and gave; a figure that could not be had is None."""

    labels: dict[str, str]
    figures: dict[str, float | None]


@dataclass(frozen=True)
class Story:
    """How the cells of a run went so far: what dashboards mark and compare."""

    moments: tuple[Moment, ...] = ()
    results: tuple[CellResult, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return what goes into the state file of Poolscope's exporter."""
        return {
            "moments": [asdict(moment) for moment in self.moments],
            "results": [asdict(result) for result in self.results],
        }


@dataclass(frozen=True)
class Pgbench:
    """How pgbench is run, outside the limits of the database.

    Its options follow `command`; `folder` is where it sees the scripts of database/pgbench, and
    `addresses` where it finds the server of each route (host, port).
    """

    command: list[str]
    env: dict[str, str] = field(repr=False)
    folder: str
    addresses: dict[str, tuple[str, int]]


class Load(Protocol):
    """A running load generator."""

    def alive(self) -> bool:
        """Return whether it still generates load."""

    def limit(self, cpus: float) -> None:
        """Hold it back to so many cores (GENERATOR_CPUS), once all users run."""

    def stop(self) -> None:
        """Stop it; requests in flight end first."""

    def tail(self, lines: int = 20) -> str:
        """Return the end of its log."""


class Stack(Protocol):
    """Start, check and stop everything that a cell needs, and nothing that it did not start.

    `ports` are those in use, by the name of their setting; `limits` says what can be enforced.
    """

    name: str
    ports: dict[str, int]
    limits: Limits

    @property
    def grafana_url(self) -> str | None:
        """Where Grafana answers once the monitoring runs, None where there is none."""

    @property
    def state_file(self) -> Path:
        """What Poolscope's exporter reads at every scrape."""

    def keep(self, store: str) -> None:
        """Have Prometheus keep its samples in a store of this name; before it is started."""

    def prepare(self, settings: Settings) -> None:
        """Make programs, secrets, database and data ready; a second call finds them ready."""

    def keeps(self, store: str) -> bool:
        """Return whether there are samples in a store."""

    def start_database(self, settings: Settings) -> Endpoints:
        """Bring PostgreSQL, and PgBouncer where the route asks for it, to these settings."""

    def monitor(self, settings: Settings) -> Endpoints:
        """Start the monitoring beside a prepared or started database, without a service.

        Does nothing with MONITORING=off.
        """

    def look_back(self, settings: Settings, store: str) -> Endpoints:
        """Start Prometheus over kept samples, with nothing to add to them, and Grafana, alone."""

    def start(self, settings: Settings) -> Endpoints:
        """Bring the stack to these settings and return once a real query passes everywhere.

        A service process is always a fresh one. Raises ServiceError.
        """

    def ended(self) -> tuple[str, ...]:
        """Return the names of the servers that were started and run no more."""

    def announce(self, cell: dict[str, str] | None) -> None:
        """Put the cell's labels on `lab_cell_info`, or take them away."""

    def publish(self, story: Story) -> None:
        """Put moments and results of the run's cells into the state file, for the exporter."""

    def load(self, settings: Settings, folder: Path, bound_s: float) -> Load:
        """Start the load generator against the started service, its files below `folder`."""

    def pgbench(self) -> Pgbench:
        """Return how pgbench is run."""

    def facts(self) -> StackFacts:
        """Return versions, the kind of limits, and what PgBouncer can do."""

    def tails(self) -> dict[str, str]:
        """Return the end of each server's log by its name."""

    def stop(self) -> None:
        """Stop what this stack started; calling it twice does no harm."""


class LadderStack(Stack, Protocol):
    """A stack that can also be written to without a service, and crashed.

    The native one: the ladder's generator is a process of this host, without a proxy before
    PostgreSQL that would be part of what it measures.
    """

    def watched(self, load: Load, settings: Settings) -> Load:
        """Have the metrics of a load that this stack did not start scraped while it runs."""

    def kill_database(self) -> float:
        """End PostgreSQL and all its backends as a crash would; return when, in Unix time.

        `start_database` recovers it.
        """
