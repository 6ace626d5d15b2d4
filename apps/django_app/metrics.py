"""HTTP metrics of the Django service: a subclass of django-prometheus's middleware."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from django.http import HttpRequest, HttpResponse
from django_prometheus.middleware import Metrics, PrometheusBeforeMiddleware
from prometheus_client import Histogram

from apps.common.cells import observer
from apps.common.metrics import BUCKETS, http, method_of
from apps.common.workload import METRICS_PATH


class ServiceMetrics(Metrics):
    """Registers of the package's twenty metrics the one that people look for."""

    def register(self) -> None:
        """Register django_http_requests_latency_seconds_by_view_method."""
        self.requests_latency_by_view_method = self.register_metric(
            Histogram,
            "django_http_requests_latency_seconds_by_view_method",
            "Histogram of request processing time labelled by view.",
            ["view", "method"],
            buckets=BUCKETS,
        )


class MetricsMiddleware(PrometheusBeforeMiddleware):
    """Records a request once, when its answer is there.

    The package's hooks take two thread hops per request under ASGI and look up some ten label
    sets; this overrides the call itself. The base is the package's outermost middleware, as its
    other one has hooks that Django would call for each view.
    """

    metrics_cls = ServiceMetrics

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self._observers: dict[tuple[str, str], Callable[[float], None]] = {}

    def __call__(self, request: HttpRequest) -> Any:
        """Answer the request, and record it unless it is a scrape."""
        if self.async_mode:
            return self.__acall__(request)
        if request.path == METRICS_PATH:
            return self.get_response(request)
        begin = perf_counter()
        http.in_progress(1.0)
        try:
            response = self.get_response(request)
            self._record(request, response, perf_counter() - begin)
        finally:
            http.in_progress(-1.0)
        return response

    async def __acall__(self, request: HttpRequest) -> Any:
        """Do the same under ASGI."""
        if request.path == METRICS_PATH:
            return await self.get_response(request)
        begin = perf_counter()
        http.in_progress(1.0)
        try:
            response = await self.get_response(request)
            self._record(request, response, perf_counter() - begin)
        finally:
            http.in_progress(-1.0)
        return response

    def _record(self, request: HttpRequest, response: HttpResponse, seconds: float) -> None:
        http.observe(request.path, request.method or "", response.status_code, seconds)
        match = request.resolver_match
        view = (match and match.view_name) or "<unnamed view>"
        key = (view, method_of(request.method or ""))
        observe = self._observers.get(key)
        if observe is None:
            observe = observer(self.metrics.requests_latency_by_view_method.labels(*key))
            self._observers[key] = observe
        observe(seconds)
