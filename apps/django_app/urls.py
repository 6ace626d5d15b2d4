"""The Django service's routes; DJANGO_MODE chooses the views."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from apps.common import workload
from apps.django_app import database, views


def _views(mode: str) -> Any:
    if mode == "wsgi":
        return views
    if mode == "async":
        return views.AsyncViews(database.by_async_orm)
    return views.AsyncViews(database.in_thread)


_mode = settings.SERVICE.django_mode
_chosen = _views(_mode)
urlpatterns = [
    path(workload.DB_TEST_PATH[1:], require_GET(_chosen.db_test), name="db-test"),
    path(workload.INSERT_PATH[1:], require_POST(_chosen.insert), name="insert"),
    path(workload.SLOW_QUERY_PATH[1:], require_GET(_chosen.slow_query), name="slow-query"),
    path(workload.HOT_ROW_PATH[1:], require_POST(_chosen.hot_row), name="hot-row"),
    path(workload.HEAVY_PATH[1:], require_GET(_chosen.heavy), name="heavy"),
    path(workload.HEALTH_PATH[1:], require_GET(_chosen.healthz), name="healthz"),
]
if settings.SERVICE.metrics == "on":
    _metrics = views.metrics if _mode == "wsgi" else views.async_metrics
    urlpatterns.append(path(workload.METRICS_PATH[1:], _metrics, name="metrics"))
