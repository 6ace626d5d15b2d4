"""The native stack's Prometheus and exporters.

A port may be another lab's: `token` is on every sample of our own servers, and in the path of
postgres_exporter, which has no such label.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab.files import write_atomic
from lab.paths import ROOT
from lab.settings import Settings
from lab.stack import servers, stores
from lab.stack.home import Home
from lab.stack.process import Command
from lab.stack.toolchain import Toolchain
from monitoring.signals import EVALUATION_INTERVAL_S, SCRAPE_INTERVAL_S

NAMES = ("prometheus", "postgres_exporter", "poolscope_exporter")
KEPT_CONFIG = ROOT / "monitoring" / "prometheus" / "kept.yml"


def commands(
    tools: Toolchain, home: Home, s: Settings, store: str, token: str,
    started: Mapping[str, float],
) -> Iterator[tuple[Command, str]]:  # fmt: skip
    """Yield each server's command and the URL that answers once it is ready.

    `started` says since when (Unix time) each server runs: Prometheus, the last one, is told of
    those before it.
    """
    host = servers.HOST
    exporter = f"http://{host}:{s.postgres_exporter_port}{postgres_metrics(token)}"
    yield _postgres_exporter(tools, home, s, token), exporter
    yield _own_exporter(home, s, token), f"http://{host}:{s.poolscope_exporter_port}/metrics"
    ready = f"http://{host}:{s.prometheus_port}/-/ready"
    yield _prometheus(tools, home, s, store, token, started), ready


def postgres_metrics(token: str) -> str:
    """Return the path of postgres_exporter's metrics."""
    return f"/metrics/{token}"


def _postgres_exporter(tools: Toolchain, home: Home, s: Settings, token: str) -> Command:
    args = [
        str(tools.programs["postgres_exporter"]),
        f"--web.listen-address={servers.HOST}:{s.postgres_exporter_port}",
        f"--web.telemetry-path={postgres_metrics(token)}",
        # With these a scrape costs the database 4.7 ms of CPU instead of 2.6: all of pg_settings,
        # and the size of every database, which nothing here asks for.
        "--disable-settings-metrics",
        "--no-collector.database",
        "--log.level=warn",
    ]
    env = tools.env("postgres_exporter") | {
        "DATA_SOURCE_URI": f"{servers.HOST}:{s.postgres_port}/{servers.DATABASE}?sslmode=disable",
        "DATA_SOURCE_USER": servers.EXPORTER_ROLE,
        "DATA_SOURCE_PASS": s.exporter_db_password.get_secret_value(),
    }
    return Command("postgres_exporter", args, env, home.run)


def _own_exporter(home: Home, s: Settings, token: str) -> Command:
    def dsn(port: int, user: str, database: str) -> str:
        return f"host={servers.HOST} port={port} user={user} dbname={database} connect_timeout=2"

    env = servers.base_env(home) | {
        servers.START_TOKEN: token,
        "EXPORTER_HOST": servers.HOST,
        "EXPORTER_PORT": str(s.poolscope_exporter_port),
        "EXPORTER_STATE_FILE": str(home.run / "state.json"),
        "EXPORTER_POSTGRES_DSN": dsn(s.postgres_port, servers.EXPORTER_ROLE, servers.DATABASE),
        "EXPORTER_POSTGRES_PASSWORD": s.exporter_db_password.get_secret_value(),
        "EXPORTER_PGBOUNCER_DSN": dsn(s.pgbouncer_port, servers.STATS_ROLE, "pgbouncer"),
        "EXPORTER_PGBOUNCER_PASSWORD": s.pgbouncer_stats_password.get_secret_value(),
    }
    args = [sys.executable, "-m", "monitoring.exporter"]
    return Command("poolscope_exporter", args, env, ROOT)


def _instance(name: str, started: Mapping[str, float]) -> str:
    return f"{name}-{started[name] * 1000:.0f}"


def _prometheus(
    tools: Toolchain, home: Home, s: Settings, store: str, token: str,
    started: Mapping[str, float],
) -> Command:  # fmt: skip
    ports = {
        "service": s.service_metrics_port,
        "poolscope": s.poolscope_exporter_port,
        "locust": s.locust_metrics_port,
        "postgres": s.postgres_exporter_port,
        "prometheus": s.prometheus_port,
    }
    values = {
        "scrape_interval_s": SCRAPE_INTERVAL_S,
        "evaluation_interval_s": EVALUATION_INTERVAL_S,
        "targets": {job: [f"{servers.HOST}:{port}"] for job, port in ports.items()},
        "start_token": token,
        "instances": {"postgres": _instance("postgres_exporter", started)},
        "paths": {"postgres": postgres_metrics(token)},
        "rule_files": [str(ROOT / "monitoring" / "prometheus" / "rules" / "*.yml")],
    }
    config = home.run / "prometheus.yml"
    template = ROOT / "monitoring" / "prometheus" / "prometheus.yml"
    write_atomic(config, servers.render(template, values))
    return _over(tools, home, s, config, store, stores.RETENTION)


def looking_back(tools: Toolchain, home: Home, s: Settings, store: str) -> Command:
    """Return Prometheus's command over kept samples: it scrapes nothing and evaluates no rule."""
    return _over(tools, home, s, KEPT_CONFIG, store, stores.KEPT_RETENTION)


def _over(
    tools: Toolchain, home: Home, s: Settings, config: Path, store: str, retention: str
) -> Command:
    folder = home.prometheus_data / store
    folder.mkdir(parents=True, exist_ok=True)
    args = [
        str(tools.programs["prometheus"]),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}",
        f"--storage.tsdb.retention.time={retention}",
        f"--query.lookback-delta={stores.LOOKBACK_S}s",
        f"--web.listen-address={servers.HOST}:{s.prometheus_port}",
        "--log.level=warn",
    ]
    return Command("prometheus", args, tools.env("prometheus"), home.run)
