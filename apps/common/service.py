"""How a service is run under gunicorn: which application, which workers, who serves /metrics."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client.multiprocess import mark_process_dead
from pydantic import ValidationError

from apps.common import gone_workers
from apps.common.master_metrics import MasterCollector
from apps.common.metrics_server import MetricsServer
from apps.common.settings import ServiceEnvironment, auto_workers

MULTIPROC_DIR: Final = "PROMETHEUS_MULTIPROC_DIR"
_APPS: Final = {
    "fastapi": "apps.fastapi_app.main:app",
    "flask": "apps.flask_app.main:app",
    "django": "apps.django_app.wsgi:application",
    "django-asgi": "apps.django_app.asgi:application",
}


@dataclass(frozen=True)
class Plan:
    """Say what gunicorn shall run."""

    settings: ServiceEnvironment
    wsgi_app: str
    workers: int
    worker_class: str
    threads: int


def load() -> ServiceEnvironment:
    """Read the settings; a mistake ends the process with one line per mistake, exit code 2."""
    try:
        return ServiceEnvironment()  # type: ignore[call-arg]  # filled from the environment
    except ValidationError as error:
        for mistake in error.errors():
            name = "_".join(map(str, mistake["loc"])).upper() or "settings"
            # Of a variable that is missing, the input is all others, the password among them.
            hidden = mistake["type"] == "missing" or "PASSWORD" in name or not mistake["loc"]
            shown = "" if hidden else f" (got {mistake['input']!r})"
            print(f"{name}: {mistake['msg']}{shown}", file=sys.stderr)
        raise SystemExit(2) from None


def plan(settings: ServiceEnvironment, environment: Mapping[str, str]) -> Plan:
    """Choose application and workers; APP_CPUS is the service's CPU limit in cores (1.0).

    Ends the process with exit code 2 where worker class and framework do not fit.
    """
    asgi = needs_asgi(settings)
    name = settings.worker_class
    if name == "auto":
        name = "asgi" if asgi else "gthread"
    if asgi != (name == "asgi"):
        kind = "ASGI" if asgi else "WSGI"
        raise SystemExit(
            _refuse(f"WORKER_CLASS={name} cannot run {settings.framework}, here a {kind} app")
        )
    key = "django-asgi" if asgi and settings.framework == "django" else settings.framework
    return Plan(
        settings=settings,
        wsgi_app=_APPS[key],
        workers=settings.workers or auto_workers(cpu_limit(environment.get("APP_CPUS", "1.0"))),
        worker_class=name,
        threads=settings.threads if name == "gthread" else 1,
    )


def needs_asgi(settings: ServiceEnvironment) -> bool:
    """Return whether the application is an ASGI one."""
    return settings.framework == "fastapi" or (
        settings.framework == "django" and settings.django_mode != "wsgi"
    )


def cpu_limit(app_cpus: str) -> float:
    """Return APP_CPUS as a number of cores; end the process with exit code 2 where it is none."""
    try:
        cpus = float(app_cpus)
    except ValueError:
        cpus = math.nan
    if not 0 < cpus < math.inf:
        raise SystemExit(_refuse(f"APP_CPUS: must be a number above 0 (got {app_cpus!r})"))
    return cpus


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


class MasterMetrics:
    """Is the metrics side of the master: gunicorn's hooks; all do nothing with METRICS=off."""

    # Of the class: both outlive a reload of the configuration.
    _server: MetricsServer | None = None
    _exits = 0

    def __init__(self, settings: ServiceEnvironment) -> None:
        self._on = settings.metrics == "on"
        self._address = (settings.service_host, settings.service_metrics_port)
        if self._on and not Path(os.environ.get(MULTIPROC_DIR, "")).is_absolute():
            raise SystemExit(
                _refuse(f"{MULTIPROC_DIR}: must name an empty folder (or set METRICS=off)")
            )

    def on_starting(self, server: Any) -> None:
        """Empty the folder: files of an earlier start would be counted again."""
        if self._on:
            folder = Path(os.environ[MULTIPROC_DIR])
            folder.mkdir(parents=True, exist_ok=True)
            for file in folder.glob("*.db"):
                file.unlink()

    def when_ready(self, server: Any) -> None:
        """Start to serve /metrics; OSError (port taken) ends the master."""
        if self._on:
            folder = Path(os.environ[MULTIPROC_DIR])
            workers = MasterCollector(server, folder, lambda: MasterMetrics._exits)
            MasterMetrics._server = MetricsServer(*self._address, workers)
            MasterMetrics._server.start()

    def child_exit(self, server: Any, worker: Any) -> None:
        """Take a gone worker's gauges out; its counters stay counted."""
        MasterMetrics._exits += 1
        if self._on:
            mark_process_dead(worker.pid)
            gone_workers.fold(Path(os.environ[MULTIPROC_DIR]), server.WORKERS)

    def on_exit(self, server: Any) -> None:
        """Free the metrics port."""
        if MasterMetrics._server is not None:
            MasterMetrics._server.stop()
            MasterMetrics._server = None
