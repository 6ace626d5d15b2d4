"""The command of each server of the native stack, and the query that proves it ready."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import jinja2
import psycopg
from psycopg.conninfo import make_conninfo

from lab.errors import ConfigError, ServiceError
from lab.files import write_atomic
from lab.paths import ROOT
from lab.settings import Settings
from lab.stack.base import Endpoints
from lab.stack.home import Home
from lab.stack.process import Command, server_user
from lab.stack.toolchain import Toolchain

HOST = "127.0.0.1"
SERVICE_ROLE = "poolscope_service"
STATS_ROLE = "poolscope_pgbouncer_stats"
EXPORTER_ROLE = "poolscope_exporter"
DATABASE = "poolscope"
#: The variable that tells a server the token of its stack: see monitoring/identity.py.
START_TOKEN = "POOLSCOPE_START_TOKEN"
#: PgBouncer passes prepared statements through transaction pooling from this version on.
PREPARES_FROM = (1, 21)
APPS = {"fastapi": "fastapi_port", "django": "django_port", "flask": "flask_port"}


def base_env(home: Home) -> dict[str, str]:
    """Return the environment of our own Python servers: nothing of the caller's but the path."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": str(home.run)}
    return env | {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def initdb(tools: Toolchain, folder: Path, password_file: Path) -> Command:
    """Return the command that makes PostgreSQL's data in an empty folder."""
    args = [str(tools.programs["initdb"]), "-D", str(folder), "--username=postgres"]
    args += ["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-instructions"]
    args += [f"--pwfile={password_file}"]
    return Command("initdb", args, tools.env("initdb"), folder, server_user())


def postgres(tools: Toolchain, home: Home, s: Settings) -> Command:
    """Return PostgreSQL's command; its configuration is copied to where its account can read."""
    user = server_user()
    config, hba = home.run / "postgresql.conf", home.run / "pg_hba.conf"
    write_atomic(config, (ROOT / "database" / "postgresql.conf").read_text())
    values = {"auth_method": s.pgbouncer_auth_type, "addresses": ["127.0.0.1/32"]}
    write_atomic(hba, render(ROOT / "database" / "pg_hba.conf", values))
    options = {
        "config_file": config,
        "hba_file": hba,
        "listen_addresses": HOST,
        "port": s.postgres_port,
        "unix_socket_directories": "",
        "max_connections": s.postgres_max_connections,
        "shared_buffers": s.postgres_shared_buffers,
        "work_mem": s.postgres_work_mem,
        "synchronous_commit": s.postgres_synchronous_commit,
    }
    args = [str(tools.programs["postgres"]), "-D", str(home.postgres_data)]
    args += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients, as SIGTERM would.
    env = tools.env("postgres")
    return Command("postgres", args, env, home.run, user, signal.SIGINT, stop_timeout_s=30)


def pgbouncer(tools: Toolchain, home: Home, s: Settings, version: tuple[int, ...]) -> Command:
    """Return PgBouncer's command, with its configuration rendered; the user list is there."""
    user = server_user()
    values = {
        **s.model_dump(mode="json"),
        "pgbouncer_version": version,
        "database_host": HOST,
        "database_port": s.postgres_port,
        "listen_addr": HOST,
        "listen_port": s.pgbouncer_port,
        "auth_file": home.run / "userlist.txt",
        "logfile": "",
        "pidfile": "",
    }
    config = home.run / "pgbouncer.ini"
    write_atomic(config, render(ROOT / "pgbouncer" / "pgbouncer.ini", values))
    args = [str(tools.programs["pgbouncer"]), str(config)]
    # SIGTERM waits for clients from 1.23 on; PgBouncer has no state to lose.
    env = tools.env("pgbouncer")
    return Command("pgbouncer", args, env, home.run, user, signal.SIGQUIT, stop_timeout_s=5)


def service(home: Home, s: Settings, token: str) -> Command:
    """Return gunicorn's command for the chosen service; its settings are in the environment."""
    multiproc = home.run / "multiproc"
    shutil.rmtree(multiproc, ignore_errors=True)
    multiproc.mkdir()
    through = s.pgbouncer_port if s.route == "pgbouncer" else s.postgres_port
    toggles = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in s.public().items()
    }
    env = {
        **base_env(home),
        **toggles,
        START_TOKEN: token,
        "WORKERS": str(s.workers_effective),
        "DB_HOST": HOST,
        "DB_PORT": str(through),
        "DB_NAME": DATABASE,
        "DB_USER": SERVICE_ROLE,
        "DB_PASSWORD": s.service_db_password.get_secret_value(),
        "SERVICE_HOST": HOST,
        "SERVICE_PORT": str(getattr(s, APPS[s.framework])),
        "PROMETHEUS_MULTIPROC_DIR": str(multiproc),
    }
    args = [sys.executable, "-m", "gunicorn", "--config", "apps/common/gunicorn_conf.py"]
    return Command(s.framework, args, env, ROOT, stop_timeout_s=10)


def render(template: Path, values: Mapping[str, object]) -> str:
    """Return a template's text; a name without a value is an error."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.keep_trailing_newline = True
    return environment.from_string(template.read_text(encoding="utf-8")).render(values)


def version_in(output: str, program: str) -> str:
    """Return the first number with dots of a program's own word on its version."""
    found = re.search(r"\d+(\.\d+)+", output)
    if found is None:
        raise ServiceError(f"{program} --version failed: {output.strip()}")
    return found.group()


def endpoints(s: Settings, token: str, postgres_metrics: str = "/metrics") -> Endpoints:
    """Return where the servers of a stack with these ports and this start token answer."""

    def url(port: int, path: str = "") -> str:
        return f"http://{HOST}:{port}{path}"

    metrics = {"locust": url(s.locust_metrics_port, "/metrics")}
    if s.metrics == "on":
        metrics["service"] = url(s.service_metrics_port, "/metrics")
    if s.monitoring == "on":
        metrics["poolscope"] = url(s.poolscope_exporter_port, "/metrics")
        metrics["postgres"] = url(s.postgres_exporter_port, postgres_metrics)
    return Endpoints(
        service=url(getattr(s, APPS[s.framework])),
        metrics=metrics,
        postgres=(HOST, s.postgres_port),
        pgbouncer=(HOST, s.pgbouncer_port) if s.route == "pgbouncer" else None,
        prometheus=url(s.prometheus_port) if s.monitoring == "on" else None,
        superuser=superuser(s),
        service_role=SERVICE_ROLE,
        service_password=s.service_db_password.get_secret_value(),
        database=DATABASE,
        start_token=token,
    )


def superuser(s: Settings) -> str:
    """Return the connection string of the instrument's own connection, past PgBouncer."""
    return make_conninfo(
        host=HOST,
        port=s.postgres_port,
        dbname=DATABASE,
        user="postgres",
        password=s.postgres_password.get_secret_value(),
        application_name="poolscope-lab",
        connect_timeout=5,
    )


def postgres_answers(s: Settings) -> None:
    """Run a query on PostgreSQL, in the database that is there from the start.

    Raises ConfigError where the data was made with another password than `.env` has.
    """
    try:
        with psycopg.connect(superuser(s), dbname="postgres") as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise ConfigError(
                "PostgreSQL's data was made with another POSTGRES_PASSWORD than .env has; put it "
                "back, or `make reset`: the data is then loaded again"
            ) from None
        raise


def pgbouncer_answers(s: Settings) -> None:
    """Run a query through PgBouncer, as the service will."""
    with psycopg.connect(
        host=HOST,
        port=s.pgbouncer_port,
        dbname=DATABASE,
        user=SERVICE_ROLE,
        password=s.service_db_password.get_secret_value(),
        connect_timeout=5,
        prepare_threshold=None,
        autocommit=True,
    ) as connection:
        connection.execute("SELECT 1")


def http_answers(url: str) -> None:
    """Get a URL; raise OSError or httpx.HTTPError unless it answers 200."""
    httpx.get(url, timeout=5, trust_env=False).raise_for_status()


def prometheus_scrapes(url: str, jobs: Sequence[str], since: float) -> None:
    """Ask Prometheus whether each job was scraped after `since`; raise OSError while one was not.

    `jobs` are those of our own servers: their port's samples are taken where they are this lab's.
    It answers at once but finds its targets some 5 s later: a first window would lack samples.
    """
    found = httpx.get(
        # Samples are kept over starts of a run: the last of an earlier one is found for a while.
        f"{url}/api/v1/query",
        params={"query": f"timestamp(poolscope_start_time_seconds) >= {since}"},
        timeout=5,
        trust_env=False,
    )
    scraped = {series["metric"]["job"] for series in found.json()["data"]["result"]}
    if waiting := set(jobs) - scraped:
        raise OSError(f"no scrape of {', '.join(sorted(waiting))} yet")
