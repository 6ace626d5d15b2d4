"""Every toggle that a service takes, typed, once.

The services read them from their environment. The instrument derives its own settings class from
this one, so that a toggle's name, default and range stand in one place.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def auto_workers(cpus: float) -> int:
    """Return the workers for a CPU limit in cores: 2 * CPU + 1, at least 2, at most 8.

    Source of the rule: https://docs.gunicorn.org/en/stable/design.html#how-many-workers
    """
    return max(2, min(8, int(2 * cpus) + 1))


class ServiceSettings(BaseSettings):
    """Toggles of the services under test; the environment wins over the defaults."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    route: Literal["direct", "pgbouncer"] = Field(
        "direct", description="service to PostgreSQL, or through PgBouncer"
    )
    django_mode: Literal["wsgi", "async", "sync_to_async"] = Field(
        "wsgi", description="Django under WSGI, ASGI with the async ORM, or ASGI with threads"
    )
    slow_query_ms: int = Field(
        100, ge=0, le=10_000, description="milliseconds that slow-query's statement sleeps"
    )
    hot_rows: int = Field(
        1, ge=1, le=1000, description="rows that hot-row's updates spread over; 1 = all the same"
    )
    metrics: Literal["on", "off"] = Field(
        "on", description="off takes the instrumentation out of the service"
    )

    db_pool: Literal["persistent", "per-request", "psycopg"] = Field(
        "persistent",
        description="keep connections, connect for each request, or Django's psycopg pool",
    )
    db_conn_max_age: int = Field(
        600, ge=0, description="seconds a persistent connection may live; 0 = connect per request"
    )
    db_conn_health_checks: bool = Field(
        True, description="SELECT 1 when a kept connection is checked out"
    )
    # libpq makes 2 s of 1 s
    db_connect_timeout: int = Field(10, ge=2, le=300, description="seconds")
    db_statement_timeout: int = Field(
        30000, ge=0, le=3_600_000, description="milliseconds; 0 = none"
    )
    db_pool_size: int = Field(
        8,
        ge=1,
        le=1000,
        description="connections per worker; no effect, as the next two, where Django keeps one per"
        " thread: DB_POOL=persistent under gthread or sync",
    )
    db_max_overflow: int = Field(0, ge=0, le=1000, description="connections per worker beyond it")
    db_pool_timeout: float = Field(
        10, gt=0, le=300, description="seconds a request may queue for a connection"
    )
    db_prepared: Literal["auto", "on", "off"] = Field(
        "auto", description="prepared statements; auto = on where every route can"
    )

    workers: int = Field(
        0, ge=0, le=64, description="gunicorn workers; 0 = 2*APP_CPUS+1, at least 2, at most 8"
    )
    worker_class: Literal["auto", "sync", "gthread", "gevent", "asgi"] = Field(
        "auto", description="auto = asgi for FastAPI and Django's ASGI modes, else gthread"
    )
    threads: int = Field(8, ge=1, le=256, description="threads per gthread worker")
    worker_connections: int = Field(
        1000, ge=1, le=100_000, description="connections per gthread or gevent worker"
    )
    worker_timeout: int = Field(60, ge=1, le=3600, description="seconds")
    keepalive: int = Field(5, ge=0, le=3600, description="seconds")
    max_requests: int = Field(
        10000, ge=0, description="requests until a worker is replaced; 0 = never (benchmarks)"
    )
    max_requests_jitter: int = Field(1000, ge=0)
    worker_tmp_dir: str = Field("/dev/shm")

    @property
    def connects_per_request(self) -> bool:
        """Whether each request opens a connection of its own."""
        return self.db_pool == "per-request" or (
            self.db_pool == "persistent" and self.db_conn_max_age == 0
        )


#: What PostgreSQL's bigint holds: the seed is kept beside the data.
MAX_SEED = 2**63 - 1
#: Where each route's server listens unless DB_PORT says otherwise.
ROUTE_PORTS = {"direct": 5432, "pgbouncer": 6432}


class ServiceEnvironment(ServiceSettings):
    """The toggles and where the database is: what a service process is started with.

    `db_prepared` arrives resolved from the instrument; a service started by hand with "auto"
    prepares nothing, which is right on every route and PgBouncer version.
    """

    framework: Literal["fastapi", "django", "flask"]
    db_host: str = "127.0.0.1"
    db_port: int = Field(5432, ge=1, le=65535, description="6432 by default through PgBouncer")
    db_name: str = "poolscope"
    db_user: str = "poolscope_service"
    db_password: str = Field(repr=False)
    seed: int = Field(42, ge=0, le=MAX_SEED, description="of the random ids")
    seed_users: int = Field(10_000, ge=1, description="users in the database: ids 1 to N")
    seed_posts: int = Field(50_000, ge=1, description="posts in the database: ids 1 to N")
    service_port: int = Field(8000, ge=1, le=65535)
    service_metrics_port: int = Field(9101, ge=1, le=65535)
    service_host: str = Field("127.0.0.1", description="0.0.0.0 in a container")

    @model_validator(mode="before")
    @classmethod
    def _port_follows_route(cls, values: dict[str, Any]) -> dict[str, Any]:
        port = ROUTE_PORTS.get(values.get("route", "direct"))
        return values if port is None else {"db_port": port, **values}

    @model_validator(mode="after")
    def _pool_kind_fits(self) -> ServiceEnvironment:
        if self.db_pool == "psycopg" and self.framework != "django":
            raise ValueError(
                f"DB_POOL=psycopg is Django's own pool; FRAMEWORK={self.framework} pools through "
                "SQLAlchemy: use DB_POOL=persistent"
            )
        return self
