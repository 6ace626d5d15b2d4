"""The service under test: workers, backlog, CPU, memory, answers."""

from __future__ import annotations

from monitoring.dashboards.panel import (
    Dashboard,
    Panel,
    Query,
    Row,
    growing,
    heat,
    limits,
    lines,
    now,
    of_signal,
    scoped,
    signal,
)

SERVICES = 'name=~"fastapi|django|flask"'

WORKERS = Row(
    "Workers and backlog",
    (
        lines(
            "Workers",
            "Processes that live, and those with a request under way when they were looked at. All"
            " busy and a backlog: requests queue for a worker. Runbook:"
            " monitoring/runbooks/workers-or-backlog.md.",
            signal("service_workers", "alive"),
            signal("service_workers_busy", "busy"),
        ),
        lines(
            "Backlog",
            "Connections that the kernel accepted and no worker has taken: the queue that the"
            " client sees and the service does not.",
            signal("service_backlog_connections", "connections"),
        ),
        lines(
            "Requests under way",
            "Inside the service. With async workers far above the number of workers; with sync"
            " ones at most one per worker and thread.",
            signal("server_requests_in_progress", "inside the service"),
            signal("client_users", "users"),
        ),
    ),
)

CPU = Row(
    "CPU and memory",
    (
        of_signal(
            "timeseries",
            "CPU against its limit",
            "1 is the limit. At 1 with the database below: the service is the bottleneck, and more"
            " connections bring nothing. Runbook: monitoring/runbooks/service-cpu.md.",
            "service_cpu_ratio",
            "{{name}}",
        ),
        of_signal(
            "timeseries",
            "Throttling",
            "Share of enforcement periods in which the service's CPU limit ran out.",
            "service_throttled_ratio",
            "{{name}}",
            max=1,
        ),
        lines(
            "Memory",
            "Of all workers together, and the limit (no line: none is enforced). At the limit the"
            " kernel kills a worker.",
            Query(scoped(f"poolscope:memory_working_set_bytes{{{SERVICES}}}"), "{{name}}"),
            Query(scoped(f"poolscope:memory_limit_bytes{{{SERVICES}}}"), "limit of {{name}}"),
            unit="bytes",
        ),
        lines(
            "CPU by service, in cores",
            "Who uses the CPU: the service, PgBouncer, PostgreSQL.",
            signal("cpu_cores", by="name"),
            stack=True,
            width=12,
        ),
        Panel(
            "bargauge",
            "Memory, share of limit",
            "By service; empty where no limit is enforced.",
            (now(signal("memory_used_ratio", by="name")),),
            unit="percentunit",
            max=1,
            steps=limits("memory_used_ratio"),
            width=12,
        ),
    ),
)

ANSWERS = Row(
    "Answers",
    (
        lines(
            "By status, as the service counts",
            "200 and 201 are good; 503 is a pool that gave up, 500 an error of the service.",
            signal("server_requests_by_status_per_second", by="status"),
            unit="reqps",
            stack=True,
        ),
        lines(
            "By status, as the client counts",
            "A status of 0 is no answer at all: refused, reset or timed out.",
            signal("client_requests_by_status_per_second", by="status"),
            unit="reqps",
            stack=True,
        ),
        of_signal(
            "timeseries",
            "Server errors",
            "Share of answers of 500 and above.",
            "server_failures_ratio",
        ),
        lines(
            "Latency inside the service",
            "From the worker taking the request to its answer.",
            signal("server_latency_p50_seconds", "P50"),
            signal("server_latency_p95_seconds", "P95"),
            signal("server_latency_p99_seconds", "P99"),
            unit="s",
            width=12,
        ),
        lines(
            "Mean latency: where it is spent",
            "Of the client's mean: inside the service, of that waiting for a connection, opening"
            " one, and the statement. Client less server is the backlog.",
            signal("client_latency_mean_seconds", "client"),
            signal("server_latency_mean_seconds", "server"),
            signal("pool_wait_mean_seconds", "pool wait"),
            signal("operation_mean_seconds", "statement"),
            unit="s",
            width=12,
        ),
        heat(
            "Latency inside the service",
            "Each column is a moment, each row a duration, the colour how many requests. Bands:"
            " different kinds of requests, or requests that were throttled.",
            "http_request_duration_seconds",
            '{handler=~"/benchmark/.*"}',
        ),
        heat(
            "Latency as users see it",
            "The same buckets, seen by the client. A band that is only here is the backlog.",
            "locust_request_duration_seconds",
        ),
    ),
)

NAMES = "django_http_requests_latency_seconds_by_view_method_bucket"
VIEWS = '{view!~"healthz.*|metrics.*"}'


def _latency(q: float) -> Query:
    """Return a quantile of django-prometheus's own histogram, in which health checks are not."""
    rate = f"sum by (le) {growing(NAMES, VIEWS)}"
    return Query(scoped(f"histogram_quantile({q:g}, {rate}) >= 0"), f"P{q * 100:g}")


def _django(counter: str, legend: str) -> Query:
    return Query(scoped(f"sum{growing(f'{counter}_total')}"), legend)


DJANGO = Row(
    "Django, by the names that django-prometheus gives (empty where another service runs)",
    (
        lines(
            "django_db_new_connections_total",
            "Connections per second that Django opened, by django-prometheus's own count. With"
            " DB_POOL=psycopg it counts checkouts, not connections: see the connections page then.",
            _django("django_db_new_connections", "new connections"),
            unit="suffix:/s",
            width=7,
        ),
        lines(
            "django_db_execute_total",
            "Statements per second that Django sent, by django-prometheus's own count: one per"
            " request is equal work.",
            _django("django_db_execute", "statements"),
            unit="suffix:/s",
            width=7,
        ),
        lines(
            "django_http_requests_latency_seconds",
            "Latency inside Django by its own histogram, whose first bucket ends at 10 ms: compare"
            " it with the panels above, whose buckets are finer.",
            *map(_latency, (0.5, 0.95, 0.99)),
            unit="s",
            width=10,
        ),
    ),
)
WORKERS_NOW = Row(
    "Worker processes",
    (
        lines(
            "Worker utilisation",
            "Workers with a request under way over those that live. 1: every worker is busy"
            " whenever it is looked at.",
            Query(
                scoped("poolscope:service_workers_busy / (poolscope:service_workers > 0)"), "busy"
            ),
            unit="percentunit",
            max=1,
            width=6,
        ),
        lines(
            "Memory by worker",
            "What each worker process holds, by its number. One that grows until it is replaced"
            " leaks.",
            Query(scoped("max by (worker) (service_worker_memory_bytes)"), "worker {{worker}}"),
            unit="bytes",
            width=6,
        ),
        lines(
            "Worker restarts",
            "Workers replaced since the service's start: by MAX_REQUESTS, or because they died or"
            " hung.",
            Query(scoped("sum(service_worker_restarts_total)"), "replaced"),
            width=6,
        ),
        lines(
            "Health of each /metrics",
            "Seconds that the last scrape of each job took; a job that is missing did not answer,"
            " or is not due. Failed scrapes: those that our own servers could not answer, in the"
            " last minute.",
            Query(
                "poolscope:scrape_duration_seconds and on(job) (poolscope:exporter_up == 1)",
                "{{job}}",
                due="always",
            ),
            Query("sum(increase(poolscope_scrape_errors_total[1m]))", "failed scrapes"),
            unit="s",
            overrides={"failed scrapes": {"unit": "short", "custom.axisPlacement": "right"}},
            width=6,
        ),
    ),
)

SERVICES_PAGE = Dashboard(
    "poolscope-services",
    "Poolscope: services",
    "The service under test: whether it has workers, CPU and memory left, and what it answers.",
    (WORKERS, CPU, ANSWERS, WORKERS_NOW, DJANGO),
)
