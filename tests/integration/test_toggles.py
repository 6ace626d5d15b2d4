"""Each toggle reaches the process that it is meant for, by that process's own word."""

from __future__ import annotations

import ast
import json
import socket
import subprocess
import sys
from typing import Any

import psycopg
import pytest

from lab.errors import ServiceError
from lab.paths import ROOT
from lab.stack import servers

from .conftest import Lab

PGBOUNCER = {
    "PGBOUNCER_POOL_MODE": ("session", "pool_mode"),
    "PGBOUNCER_MAX_CLIENT_CONN": (777, "max_client_conn"),
    "PGBOUNCER_DEFAULT_POOL_SIZE": (7, "default_pool_size"),
    "PGBOUNCER_MIN_POOL_SIZE": (2, "min_pool_size"),
    "PGBOUNCER_RESERVE_POOL_SIZE": (3, "reserve_pool_size"),
    "PGBOUNCER_QUERY_WAIT_TIMEOUT": (21, "query_wait_timeout"),
    "PGBOUNCER_CLIENT_IDLE_TIMEOUT": (901, "client_idle_timeout"),
    "PGBOUNCER_SERVER_IDLE_TIMEOUT": (611, "server_idle_timeout"),
    "PGBOUNCER_LISTEN_BACKLOG": (1234, "listen_backlog"),
    "PGBOUNCER_SO_REUSEPORT": (0, "so_reuseport"),
    "PGBOUNCER_STATS_PERIOD": (33, "stats_period"),
}
FIXED = {"log_connections": "0", "log_disconnections": "0", "log_stats": "1", "verbose": "0"}
POSTGRES = {
    "POSTGRES_MAX_CONNECTIONS": (123, "max_connections", "123"),
    "POSTGRES_SHARED_BUFFERS": ("64MB", "shared_buffers", "64MB"),
    "POSTGRES_WORK_MEM": ("3MB", "work_mem", "3MB"),
    "POSTGRES_SYNCHRONOUS_COMMIT": ("off", "synchronous_commit", "off"),
}


def test_pgbouncer_shows_every_setting(lab: Lab) -> None:
    """SHOW CONFIG has each PgBouncer toggle at a value that is not its default."""
    toggles = {name: value for name, (value, _) in PGBOUNCER.items()}
    settings, endpoints = lab.start(ROUTE="pgbouncer", **toggles)
    assert endpoints.pgbouncer is not None
    with psycopg.connect(
        host=endpoints.pgbouncer[0],
        port=endpoints.pgbouncer[1],
        dbname="pgbouncer",
        user=servers.STATS_ROLE,
        password=settings.pgbouncer_stats_password.get_secret_value(),
        autocommit=True,
        prepare_threshold=None,
        cursor_factory=psycopg.ClientCursor,
    ) as console:
        shown = {row[0]: row[1] for row in console.execute("SHOW CONFIG")}
    for value, key in PGBOUNCER.values():
        assert shown[key] == str(value), key
    for key, value in FIXED.items():
        assert shown[key] == value, key
    assert shown["ignore_startup_parameters"] == "extra_float_digits"
    assert shown["listen_addr"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("kind", "iterations", "starts"),
    [
        ("scram-sha-256", 4096, "SCRAM-SHA-256$4096:"),
        ("scram-sha-256", 16, "SCRAM-SHA-256$16:"),
        ("md5", 4096, "md5"),
    ],
)
def test_auth_type_reaches_roles_and_user_list(
    lab: Lab, kind: str, iterations: int, starts: str
) -> None:
    """Role and user list hold the same secret of the chosen kind, and logging in works."""
    settings, endpoints = lab.start(
        ROUTE="pgbouncer", PGBOUNCER_AUTH_TYPE=kind, SCRAM_ITERATIONS=iterations
    )
    with lab.sql(endpoints) as connection:
        row = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = 'poolscope_service'"
        ).fetchone()
    assert row is not None
    assert row[0].startswith(starts)
    listed = (lab.stack.home.run / "userlist.txt").read_text()
    assert row[0] in listed
    assert settings.service_db_password.get_secret_value() not in listed


def test_pgbouncer_shares_its_port_with_nobody(lab: Lab) -> None:
    """With so_reuseport it would start beside another lab's, and each would get some clients."""
    lab.start(ROUTE="direct")
    with socket.socket() as other:
        # A PgBouncer that has just ended leaves its port with sockets in TIME_WAIT.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", lab.stack.ports["pgbouncer_port"]))
        other.listen()
        with pytest.raises(ServiceError, match=r"PGBOUNCER_PORT.* was taken by another program"):
            lab.start(ROUTE="pgbouncer")


def test_postgres_shows_every_setting(lab: Lab) -> None:
    """pg_settings has each PostgreSQL toggle, and PostgreSQL listens on loopback only."""
    toggles = {name: value for name, (value, _, _) in POSTGRES.items()}
    _, endpoints = lab.start(**toggles)
    with lab.sql(endpoints) as connection:
        for _, key, expected in POSTGRES.values():
            assert connection.execute(f"SHOW {key}").fetchone() == (expected,), key
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)


def test_statement_timeout_reaches_the_session_on_both_routes(lab: Lab) -> None:
    """A service's session has DB_STATEMENT_TIMEOUT, directly and through PgBouncer."""
    for route in ("direct", "pgbouncer"):
        settings, endpoints = lab.start(ROUTE=route, DB_STATEMENT_TIMEOUT=12345)
        address = endpoints.pgbouncer if route == "pgbouncer" else endpoints.postgres
        assert address is not None
        with psycopg.connect(
            host=address[0],
            port=address[1],
            dbname=endpoints.database,
            user=endpoints.service_role,
            password=settings.service_db_password.get_secret_value(),
            prepare_threshold=None,
        ) as session:
            assert session.execute("SHOW statement_timeout").fetchone() == ("12345ms",), route


GUNICORN = {
    "WORKERS": (3, "workers"),
    "THREADS": (5, "threads"),
    "WORKER_CONNECTIONS": (321, "worker_connections"),
    "WORKER_TIMEOUT": (44, "timeout"),
    "KEEPALIVE": (9, "keepalive"),
    "MAX_REQUESTS": (4321, "max_requests"),
    "MAX_REQUESTS_JITTER": (123, "max_requests_jitter"),
    "WORKER_TMP_DIR": ("/tmp", "worker_tmp_dir"),
}


def test_gunicorn_has_every_setting(lab: Lab) -> None:
    """Gunicorn's own print of its configuration has each toggle, in the service's environment."""
    settings = lab.settings(
        FRAMEWORK="flask", WORKER_CLASS="gthread", **{n: v for n, (v, _) in GUNICORN.items()}
    )
    command = servers.service(lab.stack.home, settings, lab.stack.start_token)
    printed = subprocess.run(
        [*command.args, "--print-config"],
        env=command.env, cwd=command.cwd, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    shown = dict(
        (part.strip() for part in line.split("=", 1))
        for line in printed.splitlines()
        if "=" in line
    )
    for value, key in GUNICORN.values():
        assert shown[key] == str(value), key
    assert shown["worker_class"] == "gthread"
    assert ast.literal_eval(shown["bind"]) == [f"127.0.0.1:{settings.flask_port}"]


DJANGO_LIVE = """
import json, django
from django.conf import settings
django.setup()
database = settings.DATABASES["default"]
kept = {k: database.get(k) for k in ("CONN_MAX_AGE", "CONN_HEALTH_CHECKS", "HOST", "PORT")}
options = database["OPTIONS"]
pool = options.get("pool")
kept["pool"] = pool if isinstance(pool, bool) or pool is None else {
    k: v for k, v in pool.items() if isinstance(v, (int, float))}
kept["connect_timeout"] = options.get("connect_timeout")
kept["server_side_binding"] = options.get("server_side_binding")
print(json.dumps(kept))
"""


def django_live(lab: Lab, **toggles: Any) -> dict[str, Any]:
    """Return Django's live database settings, read in a process started like the service."""
    command = servers.service(lab.stack.home, lab.settings(FRAMEWORK="django", **toggles), "t")
    env = command.env | {"DJANGO_SETTINGS_MODULE": "apps.django_app.settings"}
    done = subprocess.run(
        [sys.executable, "-c", DJANGO_LIVE],
        env=env, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def test_django_has_every_setting(lab: Lab) -> None:
    """Django's live settings have the connection toggles, for each kind of pool."""
    shown = django_live(lab, DB_CONN_MAX_AGE=77, DB_CONN_HEALTH_CHECKS=False, DB_CONNECT_TIMEOUT=4)
    assert shown["CONN_MAX_AGE"] == 77
    assert shown["CONN_HEALTH_CHECKS"] is False
    assert shown["connect_timeout"] == 4
    assert shown["server_side_binding"] is True
    assert django_live(lab, DB_POOL="per-request")["CONN_MAX_AGE"] == 0
    pooled = django_live(
        lab, DB_POOL="psycopg", DB_POOL_SIZE=6, DB_MAX_OVERFLOW=3, DB_POOL_TIMEOUT=2.5
    )
    assert pooled["CONN_MAX_AGE"] == 0
    assert pooled["pool"]["max_size"] == 9
    assert pooled["pool"]["timeout"] == 2.5


def test_limits_reach_the_groups(lab: Lab) -> None:
    """The groups of the limited servers have the quota and the memory of the settings."""
    if lab.stack.limits.kind is None:
        return  # the run says so; test_limits.py checks that it does
    lab.start(ROUTE="pgbouncer", DB_CPUS=0.3, APP_CPUS=0.7, PGBOUNCER_CPUS=0.2, APP_MEMORY="300m")
    state = json.loads((lab.stack.home.run / "state.json").read_text())["services"]
    assert {n: s["cpus"] for n, s in state.items()} == {
        "postgres": 0.3,
        "pgbouncer": 0.2,
        "fastapi": 0.7,
    }
    assert state["fastapi"]["memory_bytes"] == 300 * 1024**2
