"""Serve the exporter until SIGTERM or SIGINT; `python -m monitoring.exporter`."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from pydantic import ValidationError

from monitoring.exporter.cell import CellSource
from monitoring.exporter.collector import PoolscopeCollector
from monitoring.exporter.containers import ContainersSource
from monitoring.exporter.due import due_now
from monitoring.exporter.host import HostSource
from monitoring.exporter.parents import ParentGroups
from monitoring.exporter.pgbouncer import PgbouncerSource
from monitoring.exporter.postgres import ConnectingSource, PostgresSource
from monitoring.exporter.reading import Source
from monitoring.exporter.settings import ExporterSettings
from monitoring.identity import StartedRegistry

BAD_INPUT = 2
NAME = "poolscope_exporter"
log = logging.getLogger("poolscope.exporter")


def build_collector(settings: ExporterSettings) -> PoolscopeCollector:
    """Return the collector with every source that the settings ask for."""
    groups = None
    if settings.cgroup_prefix:
        groups = ParentGroups(settings.cgroup_root, settings.cgroup_prefix)
    local: list[Source] = [
        ContainersSource(settings.state_file, groups=groups),
        HostSource(),
        CellSource(settings.state_file, optional=groups is not None),
        ConnectingSource(settings.state_file, groups=groups),
    ]
    remote: list[Source] = []
    if postgres := settings.postgres_conninfo():
        remote.append(PostgresSource(postgres))
    if pgbouncer := settings.pgbouncer_conninfo():
        remote.append(PgbouncerSource(pgbouncer))
    due = partial(due_now, settings.state_file, groups)
    return PoolscopeCollector(local, remote, settings.deadline_s, due=due)


def build_registry(settings: ExporterSettings) -> CollectorRegistry:
    """Return what is served: every source, and this process's own use."""
    registry = StartedRegistry(NAME)
    registry.register(build_collector(settings))
    for own in (GCCollector, PlatformCollector, ProcessCollector):
        own(registry=registry)
    return registry


def serve(settings: ExporterSettings, registry: CollectorRegistry, stop: threading.Event) -> None:
    """Answer scrapes until the event is set; raise OSError if the port cannot be had."""
    server, thread = start_http_server(settings.port, settings.host, registry)
    log.info("serving http://%s:%d/metrics", settings.host, server.server_port)
    stop.wait()
    server.shutdown()
    server.server_close()
    thread.join()


def main() -> int:
    """Run the exporter; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = ExporterSettings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        for item in error.errors():
            print(f"EXPORTER_{str(item['loc'][0]).upper()}: {item['msg']}", file=sys.stderr)
        return BAD_INPUT
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    try:
        serve(settings, build_registry(settings), stop)
    except OSError as error:
        print(f"cannot serve on {settings.host}:{settings.port}: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
