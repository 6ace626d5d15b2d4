"""Every toggle, typed, once, and where its value comes from.

Precedence, weakest first: defaults, `.env`, the preset's settings and axes, the environment, the
command line. The first and the last three are joined per cell in `lab.config`; a `Settings` is the
result for one cell, frozen and validated.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import psutil
from pydantic import Field, GetCoreSchemaHandler, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from apps.common.settings import MAX_SEED, ServiceSettings, auto_workers
from lab.errors import ConfigError

FRAMEWORKS = ("fastapi", "django", "flask")
ROUTES = ("direct", "pgbouncer")
Scenario = Literal["db-test", "insert", "slow-query", "hot-row", "heavy"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
#: The services' paths of the scenarios, which are their `handler` labels too.
HANDLERS = tuple(f"/benchmark/{scenario}" for scenario in SCENARIOS)


@dataclass(frozen=True)
class Range:
    """Bounds that pydantic has no word for; `allowed` shows `ge` and `le` like its own."""

    ge: str
    le: str
    holds: Callable[[Any], bool]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        if not self.holds(value):
            raise ValueError(f"not between {self.ge} and {self.le}")
        return value


def kilobytes(size: str) -> int:
    """Return the kB of "128MB" (PostgreSQL's notation, powers of 1024)."""
    return int(size[:-2]) * 1024 ** ("kB", "MB", "GB").index(size[-2:])


def _postgres_size(least: str, most: str) -> Range:
    return Range(least, most, lambda size: kilobytes(least) <= kilobytes(size) <= kilobytes(most))


Port = Annotated[int, Field(ge=1, le=65535)]
#: The kernel takes no quota below 1 ms of its period of 100 ms.
LEAST_CPUS = 0.01
Cpus = Annotated[float, Field(ge=LEAST_CPUS, le=256)]
CpusOrNone = Annotated[
    float, Range(f"{LEAST_CPUS} or 0", "256", lambda n: n == 0 or LEAST_CPUS <= n <= 256)
]
PostgresSize = Annotated[str, Field(pattern=r"^[1-9][0-9]*(kB|MB|GB)$")]
Memory = Annotated[str, Field(pattern=r"^[1-9][0-9]*[kmgKMG]$")]
Image = Annotated[str, Field(pattern=r"^[a-z0-9][a-zA-Z0-9./:@_-]*$")]

#: Below this many cores the generator and three limited services do not fit side by side, so the
#: default limits are halved.
SMALL_HOST_CORES = 4


class Settings(ServiceSettings):
    """All toggles of one cell."""

    # what runs
    stack: Literal["auto", "native", "compose"] = Field(
        "auto", description="compose where a Docker engine answers, else native"
    )
    framework: Literal["fastapi", "django", "flask"] = Field("fastapi", description="service")
    scenario: Scenario = Field("db-test", description="what a request does")
    monitoring: Literal["on", "off"] = Field(
        "on", description="off leaves Prometheus and the exporters out"
    )
    watch_page: Literal["on", "off"] = Field(
        "on", description="off leaves the live page out, which a run without Grafana serves"
    )

    # load
    users: int = Field(100, ge=1, le=20_000, description="Locust users, closed loop")
    spawn_rate: int = Field(200, ge=1, le=20_000, description="users started per second")
    warmup: int = Field(5, ge=1, le=3600, description="seconds of full load before the window")
    window: int = Field(20, ge=2, le=86_400, description="measured seconds of steady load")
    repetitions: int = Field(1, ge=1, le=100, description="measurements of each combination")

    hot_row_hold_ms: int = Field(
        0, ge=0, le=10_000, description="milliseconds that hot-row's transactions keep their row"
    )

    # PgBouncer
    pgbouncer_pool_mode: Literal["session", "transaction", "statement"] = Field("transaction")
    pgbouncer_max_client_conn: int = Field(10_000, ge=1, le=100_000)
    pgbouncer_default_pool_size: int = Field(20, ge=1, le=10_000)
    pgbouncer_min_pool_size: int = Field(5, ge=0, le=10_000)
    pgbouncer_reserve_pool_size: int = Field(5, ge=0, le=10_000)
    pgbouncer_query_wait_timeout: int = Field(15, ge=0, le=3600, description="seconds")
    pgbouncer_client_idle_timeout: int = Field(0, ge=0, description="seconds; 0 = never")
    pgbouncer_server_idle_timeout: int = Field(600, ge=0, description="seconds; 0 = never")
    pgbouncer_listen_backlog: int = Field(4096, ge=1, le=65535)
    pgbouncer_so_reuseport: int = Field(1, ge=0, le=1)
    pgbouncer_max_prepared_statements: int = Field(
        200, ge=0, le=100_000, description="from PgBouncer 1.21 on; 0 = not supported"
    )
    pgbouncer_stats_period: int = Field(60, ge=1, le=3600, description="seconds")
    pgbouncer_auth_type: Literal["scram-sha-256", "md5"] = Field("scram-sha-256")
    scram_iterations: int = Field(
        4096, ge=1, le=1_000_000, description="of the roles' SCRAM secrets"
    )

    # limits
    db_cpus: Cpus = Field(0.5, description="CPU limit of PostgreSQL, in cores")
    db_memory: Memory = Field("512m")
    app_cpus: Cpus = Field(1.0, description="CPU limit of the service, in cores")
    app_memory: Memory = Field("512m")
    pgbouncer_cpus: Cpus = Field(0.5, description="CPU limit of PgBouncer, in cores")
    generator_cpus: CpusOrNone = Field(
        0, description="CPU limit of the load generator, in cores; 0 = none"
    )

    # PostgreSQL
    postgres_max_connections: int = Field(200, ge=10, le=10_000)
    postgres_shared_buffers: Annotated[PostgresSize, _postgres_size("128kB", "8191GB")] = "128MB"
    postgres_work_mem: Annotated[PostgresSize, _postgres_size("64kB", "2047GB")] = "4MB"
    postgres_synchronous_commit: Literal["on", "off", "local"] = Field("on")

    # data
    seed_users: int = Field(10_000, ge=1, le=10_000_000)
    seed_posts: int = Field(50_000, ge=1, le=10_000_000)
    seed_comments: int = Field(100_000, ge=0, le=50_000_000)
    seed: int = Field(
        42,
        ge=0,
        le=MAX_SEED,
        description="of the data, the random ids, the order of cells and the statistics",
    )

    # ports, loopback only
    postgres_port: Port = 5432
    pgbouncer_port: Port = 6432
    fastapi_port: Port = 8000
    django_port: Port = 8001
    flask_port: Port = 8002
    service_metrics_port: Port = 9101
    prometheus_port: Port = 9090
    grafana_port: Port = 3000
    postgres_exporter_port: Port = 9187
    pgbouncer_exporter_port: Port = 9127
    poolscope_exporter_port: Port = 9128
    locust_metrics_port: Port = 9646
    locust_master_port: Port = 5557

    # images of the compose stack
    postgres_image: Image = Field("postgres:17.11-bookworm", description="also gives pgbench")
    pgbouncer_image: Image = Field("poolscope/pgbouncer:local", description="built here")
    poolscope_image: Image = Field(
        "poolscope/app:local", description="services, seed, exporter and load; built here"
    )
    python_image: Image = Field(
        "python:3.11-slim-bookworm", description="what POOLSCOPE_IMAGE is built on"
    )
    prometheus_image: Image = Field("prom/prometheus:v3.5.0")
    grafana_image: Image = Field("grafana/grafana:13.2.3")
    postgres_exporter_image: Image = Field("quay.io/prometheuscommunity/postgres-exporter:v0.17.1")
    pgbouncer_exporter_image: Image = Field(
        "quay.io/prometheuscommunity/pgbouncer-exporter:v0.11.0"
    )

    # secrets, generated into .env
    postgres_password: SecretStr = SecretStr("")
    service_db_password: SecretStr = SecretStr("")
    exporter_db_password: SecretStr = SecretStr("")
    pgbouncer_stats_password: SecretStr = SecretStr("")
    grafana_admin_password: SecretStr = SecretStr("")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the caller alone; `lab.config` joins the sources, with their names."""
        return (init_settings,)

    @property
    def workers_effective(self) -> int:
        """Gunicorn workers: as set, or 2*CPU+1 of the service's limit, at least 2, at most 8."""
        return self.workers or auto_workers(self.app_cpus)

    def public(self) -> dict[str, Any]:
        """Return every toggle but the secrets, by its variable name."""
        return {
            name.upper(): value
            for name, value in self.model_dump(mode="json").items()
            if name not in SECRET_FIELDS
        }


SECRET_FIELDS = frozenset(
    name for name, field in Settings.model_fields.items() if field.annotation is SecretStr
)
PORT_FIELDS = tuple(name for name in Settings.model_fields if name.endswith("_port"))
IMAGE_FIELDS = tuple(name for name in Settings.model_fields if name.endswith("_image"))
TOGGLES = {name.upper(): field for name, field in Settings.model_fields.items()}

GROUPS: dict[str, tuple[str, ...]] = {
    "What runs": (
        *("stack", "framework", "route", "scenario", "slow_query_ms", "hot_rows"),
        "hot_row_hold_ms",
        *("metrics", "monitoring", "watch_page"),
    ),
    "Load": ("users", "spawn_rate", "warmup", "window", "repetitions"),
    "Service and database": (
        "django_mode",
        *(n for n in ServiceSettings.model_fields if n.startswith("db_")),
    ),
    "gunicorn": (
        *("workers", "worker_class", "threads", "worker_connections", "worker_timeout"),
        *("keepalive", "max_requests", "max_requests_jitter", "worker_tmp_dir"),
    ),
    "PgBouncer": (
        *(
            n
            for n in Settings.model_fields
            if n.startswith("pgbouncer_")
            and n not in ("pgbouncer_cpus", "pgbouncer_stats_password")
            and not n.endswith(("_port", "_image"))
        ),
        "scram_iterations",
    ),
    "Limits (halved by default on a host with fewer than 4 cores)": (
        *("db_cpus", "db_memory", "app_cpus", "app_memory", "pgbouncer_cpus", "generator_cpus"),
    ),
    "PostgreSQL": (
        *("postgres_max_connections", "postgres_shared_buffers", "postgres_work_mem"),
        "postgres_synchronous_commit",
    ),
    "Data": ("seed_users", "seed_posts", "seed_comments", "seed"),
    "Ports on 127.0.0.1; a taken one gives way to the next free one, unless it was changed here": (
        PORT_FIELDS
    ),
    "Images of the compose stack; `make images-offline` builds some where none can be pulled": (
        IMAGE_FIELDS
    ),
    "Secrets: generated when empty": tuple(
        name for name in Settings.model_fields if name in SECRET_FIELDS
    ),
}


#: Names of the environment that begin so are held against the toggles.
PREFIXES = ("PGBOUNCER_", "DB_", "POSTGRES_", "SCRAM_", "SEED_", "APP_", "WORKER_")
#: POSTGRES_HOST and POSTGRES_PORT are 0.85 alike, names with a letter too few 0.92 and more.
NEAR_MISS = 0.91


def check_name(name: str, source: str) -> None:
    """Raise ConfigError for a name that is no toggle, with the nearest one that is."""
    if name in TOGGLES:
        return
    near = difflib.get_close_matches(name, TOGGLES, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else ".env.example lists the toggles"
    raise ConfigError(f"unknown toggle {name} ({source}); {hint}")


def _is_near_miss(name: str) -> bool:
    """Tell a slip of the pen from another program's variable, POSTGRES_HOST or DB_PORT say."""
    return bool(difflib.get_close_matches(name, TOGGLES, n=1, cutoff=NEAR_MISS))


def from_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the toggles that the environment sets; near misses of a toggle's name are refused."""
    found = {}
    for name, value in environ.items():
        if name == "WINDOW" and "STY" in environ:
            continue  # GNU screen numbers its windows by this name
        if name in TOGGLES:
            found[name] = value
        elif name.startswith(PREFIXES) and _is_near_miss(name):
            check_name(name, "environment")
    return found


def host_defaults(cores: int | None = None) -> dict[str, Any]:
    """Return the defaults that depend on the host: CPU limits halve below four cores."""
    if (cores or psutil.cpu_count() or 1) >= SMALL_HOST_CORES:
        return {}
    names = ("DB_CPUS", "APP_CPUS", "PGBOUNCER_CPUS")
    return {name: TOGGLES[name].default / 2 for name in names}


def build(values: Mapping[str, Any], sources: Mapping[str, str] | None = None) -> Settings:
    """Validate values by variable name into Settings.

    Raises ConfigError with the variable, its value, where it came from and what is allowed.
    """
    for name in values:
        check_name(name, (sources or {}).get(name, "settings"))
    try:
        return Settings.model_validate({name.lower(): value for name, value in values.items()})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper() if first["loc"] else "settings"
        source = (sources or {}).get(name, "settings")
        if name not in TOGGLES:
            raise ConfigError(f"{name}: {first['msg']}") from None
        shown = "***" if name.lower() in SECRET_FIELDS else repr(first["input"])
        raise ConfigError(
            f"{name}={shown} ({source}) is not allowed; allowed: {allowed(name)}"
        ) from None


def allowed(name: str) -> str:
    """Say in words which values a toggle takes."""
    field: FieldInfo = TOGGLES[name]
    if get_origin(field.annotation) is Literal:
        return ", ".join(str(value) for value in get_args(field.annotation))
    kinds = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    kind = kinds.get(getattr(field.annotation, "__name__", ""), "text")
    bounds = []
    for item in field.metadata:
        for attribute, words in (("ge", "at least"), ("gt", "above"), ("le", "at most")):
            if (bound := getattr(item, attribute, None)) is not None:
                bounds.append(f"{words} {bound}")
        if pattern := getattr(item, "pattern", None):
            bounds.append(f"like {TOGGLES[name].default} ({pattern})")
    return ", ".join([kind, *bounds])
