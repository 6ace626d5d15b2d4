"""Django's settings, all from the service's environment: see ServiceEnvironment.

How connections are kept (DB_POOL):

- `persistent` under WSGI: Django's own persistent connections, one per thread, for
  DB_CONN_MAX_AGE seconds. Threads are the pool: with THREADS = DB_POOL_SIZE the budget is that
  of the other services, and there is no pool wait, as requests queue for a thread instead.
- `persistent` under ASGI or gevent: a psycopg pool of DB_POOL_SIZE + DB_MAX_OVERFLOW. There,
  each request runs in a thread (or greenlet) of its own, and Django's persistent connections
  would leak one per request.
- `psycopg`: that pool, under any worker class.
- `per-request`, or `persistent` with DB_CONN_MAX_AGE=0: connect for each request.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from apps.common import service
from apps.common.psycopg_connection import connect_arguments
from apps.common.settings import ServiceEnvironment

_service = service.load()


def _pool_options(settings: ServiceEnvironment) -> dict[str, Any] | None:
    plan = service.plan(settings, os.environ)
    threads_end = plan.worker_class in ("asgi", "gevent")
    if settings.connects_per_request or not (settings.db_pool == "psycopg" or threads_end):
        return None
    options: dict[str, Any] = {
        "min_size": 0,
        "max_size": settings.db_pool_size + settings.db_max_overflow,
        "timeout": settings.db_pool_timeout,
        # A failed attempt is answered at once and the next request tries again.
        "reconnect_timeout": 0,
    }
    if settings.db_conn_max_age:
        age_s = settings.db_conn_max_age
        options |= {"max_lifetime": age_s, "max_idle": age_s}
    return options


def _database(settings: ServiceEnvironment) -> dict[str, Any]:
    pool = _pool_options(settings)
    persistent = pool is None and not settings.connects_per_request
    backend = "measured_postgresql" if settings.metrics == "on" else "postgresql"
    return {
        "ENGINE": f"apps.django_app.{backend}",
        "NAME": settings.db_name,
        "USER": settings.db_user,
        "PASSWORD": settings.db_password,
        "HOST": settings.db_host,
        "PORT": str(settings.db_port),
        "CONN_MAX_AGE": settings.db_conn_max_age if persistent else 0,
        "CONN_HEALTH_CHECKS": settings.db_conn_health_checks,
        # Transaction pooling cannot keep a cursor open between statements.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": connect_arguments(settings)
        | {
            # Parameters apart from the statement, as the other services send them.
            "server_side_binding": True,
            "pool": pool,
        },
    }


def _is_defect(record: logging.LogRecord) -> bool:
    """Tell an unhandled exception from the 503s that Django would log at length as well."""
    return bool(record.exc_info)


SERVICE = _service
DEBUG = False
SECRET_KEY = os.urandom(32).hex()  # signs nothing: no sessions, no forms
ALLOWED_HOSTS = [
    "127.0.0.1",
    "localhost",
    "[::1]",
    *filter(None, os.environ.get("ALLOWED_HOSTS", "").split(",")),
]
ROOT_URLCONF = "apps.django_app.urls"
WSGI_APPLICATION = "apps.django_app.wsgi.application"
ASGI_APPLICATION = "apps.django_app.asgi.application"
INSTALLED_APPS = ["apps.django_app"]
MIDDLEWARE = ["apps.django_app.metrics.MetricsMiddleware"] if _service.metrics == "on" else []
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "defects": {"()": "django.utils.log.CallbackFilter", "callback": _is_defect},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "filters": ["defects"]}},
    "loggers": {"django": {"handlers": ["stderr"], "level": "ERROR", "propagate": False}},
}
DATABASES = {"default": _database(_service)}
