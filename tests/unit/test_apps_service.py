"""What gunicorn is told to run, and how settings reach the drivers."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.pool import NullPool, QueuePool

from apps.common import psycopg_connection, service, sqlalchemy_engine
from apps.common.settings import ServiceEnvironment


def settings(framework: str = "flask", **toggles: object) -> ServiceEnvironment:
    return ServiceEnvironment(framework=framework, db_password="x", **toggles)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cpus", "workers"), [("0.1", 2), ("0.5", 2), ("1.0", 3), ("1.5", 4), ("2", 5), ("64", 8)]
)
def test_auto_workers_follow_the_cpu_limit(cpus: str, workers: int) -> None:
    assert service.auto_workers(service.cpu_limit(cpus)) == workers


@pytest.mark.parametrize("cpus", ["", "none", "0", "-1", "inf", "nan"])
def test_cpu_limit_refuses_what_is_no_limit(cpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        service.cpu_limit(cpus)
    assert "APP_CPUS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("framework", "mode", "worker_class", "app"),
    [
        ("fastapi", "wsgi", "asgi", "apps.fastapi_app.main:app"),
        ("flask", "wsgi", "gthread", "apps.flask_app.main:app"),
        ("django", "wsgi", "gthread", "apps.django_app.wsgi:application"),
        ("django", "async", "asgi", "apps.django_app.asgi:application"),
        ("django", "sync_to_async", "asgi", "apps.django_app.asgi:application"),
    ],
)
def test_plan_chooses_application_and_worker_class(
    framework: str, mode: str, worker_class: str, app: str
) -> None:
    plan = service.plan(settings(framework, django_mode=mode), {})
    assert (plan.worker_class, plan.wsgi_app, plan.workers) == (worker_class, app, 3)


@pytest.mark.parametrize(
    ("framework", "worker_class"), [("fastapi", "gthread"), ("flask", "asgi"), ("django", "asgi")]
)
def test_plan_refuses_a_worker_class_that_cannot_run_the_app(
    framework: str, worker_class: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        service.plan(settings(framework, worker_class=worker_class), {})
    assert f"WORKER_CLASS={worker_class}" in capsys.readouterr().err


def test_load_names_each_wrong_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FRAMEWORK": "rails", "DB_PASSWORD": "x", "THREADS": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        service.load()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["THREADS", "FRAMEWORK"]


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"DB_PASSWORD": "hunter2"}, ["FRAMEWORK: Field required"]),
        ({"FRAMEWORK": "flask"}, ["DB_PASSWORD: Field required"]),
    ],
)
def test_load_shows_no_password(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: dict[str, str],
    lines: list[str],
) -> None:
    """Of a variable that is missing there is no value to show; the library gives all others."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        service.load()
    assert capsys.readouterr().err.splitlines() == lines


def test_engine_arguments_pool_or_connect_per_request() -> None:
    pooled = sqlalchemy_engine.engine_arguments(
        settings(db_pool_size=3, db_max_overflow=2, db_pool_timeout=1.5, db_conn_max_age=60),
        QueuePool,
    )
    assert (pooled["pool_size"], pooled["max_overflow"], pooled["pool_timeout"]) == (3, 2, 1.5)
    assert (pooled["pool_recycle"], pooled["pool_pre_ping"]) == (60, True)
    single = sqlalchemy_engine.engine_arguments(settings(db_conn_max_age=0), QueuePool)
    assert (single["poolclass"], single["pool_pre_ping"]) == (NullPool, False)
    assert "pool_size" not in single


@pytest.mark.parametrize(("prepared", "size"), [("on", 100), ("off", 0), ("auto", 0)])
def test_asyncpg_caches_statements_only_where_asked(prepared: str, size: int) -> None:
    arguments = sqlalchemy_engine.asyncpg_arguments(settings(db_prepared=prepared))
    assert arguments["statement_cache_size"] == size
    assert arguments["prepared_statement_cache_size"] == size


@pytest.mark.parametrize("route", ["direct", "pgbouncer"])
def test_statement_timeout_is_the_roles_and_the_client_gives_up_a_little_later(route: str) -> None:
    """On both routes: of a server that is silent the role's setting is no help."""
    limited, free = (settings(db_statement_timeout=ms, route=route) for ms in (1500, 0))
    asyncpg = sqlalchemy_engine.asyncpg_arguments
    assert asyncpg(limited)["command_timeout"] == 2.0
    assert asyncpg(free)["command_timeout"] is None
    assert asyncpg(limited)["server_settings"] == {"client_encoding": "UTF8"}
    assert "options" not in psycopg_connection.connect_arguments(limited)
    client_side = psycopg_connection.connection_class(limited)
    assert issubclass(client_side, psycopg_connection.DeadlineConnection)
    assert client_side.deadline_s == 2.0
    assert psycopg_connection.connection_class(free) is psycopg.Connection
