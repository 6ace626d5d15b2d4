"""gunicorn's settings, all from the service's environment: see ServiceEnvironment.

Started as `gunicorn --config apps/common/gunicorn_conf.py`, from any folder. gunicorn reads this
file again on SIGHUP, so what must outlive that is kept in `service.MasterMetrics`, not here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))

from apps.common import backlog as listening  # noqa: E402
from apps.common import service, workload  # noqa: E402 - the path has to be set first

_plan = service.plan(service.load(), os.environ)
_metrics = service.MasterMetrics(_plan.settings)

chdir = str(_ROOT)
wsgi_app = _plan.wsgi_app
bind = [f"{_plan.settings.service_host}:{_plan.settings.service_port}"]
backlog = 4096
workers = _plan.workers
worker_class = _plan.worker_class
threads = _plan.threads
worker_connections = _plan.settings.worker_connections
timeout = _plan.settings.worker_timeout
graceful_timeout = min(5, _plan.settings.worker_timeout)
keepalive = _plan.settings.keepalive
max_requests = _plan.settings.max_requests
max_requests_jitter = _plan.settings.max_requests_jitter if max_requests else 0
worker_tmp_dir = _plan.settings.worker_tmp_dir
# Two masters under one HOME would share the socket, and the second would take it over.
control_socket_disable = True
preload_app = False
accesslog = None
errorlog = "-"
loglevel = "info"
proc_name = f"poolscope-{_plan.settings.framework}"

on_starting = _metrics.on_starting
when_ready = _metrics.when_ready
child_exit = _metrics.child_exit


def post_fork(server: object, worker: Any) -> None:
    """Tell the worker its number: its random ids then are the same in every run."""
    workload.worker_number = worker.age


def post_worker_init(worker: object) -> None:
    """Keep the backlog, which asyncio would undo."""
    listening.keep(worker, backlog)


on_exit = _metrics.on_exit
