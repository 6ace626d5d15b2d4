"""Signals of the load generator, the service and its connection pool."""

from __future__ import annotations

from monitoring.promql import LOAD_FAILURES, LOAD_HANDLERS, grown, mean, quantile, rate, ratio
from monitoring.signal import VALIDITY_GATE, Signal
from monitoring.slo import LATENCY_TARGET_S

HTTP = "http_request_duration_seconds"
CLIENT = "locust_request_duration_seconds"
CLIENT_RPS = rate("locust_requests_total")
NEW_CONNECTIONS = "db_client_connection_create_time_seconds_count"
SERVER_RPS = rate(f"{HTTP}_count", LOAD_HANDLERS)
IN_TIME = f'{LOAD_HANDLERS[:-1]}, le="{LATENCY_TARGET_S}"}}'

CLIENT_SIDE = (
    Signal(
        "client_requests_per_second",
        CLIENT_RPS,
        "requests/s",
        "answers and failures that the load generator counted",
        "load",
    ),
    Signal(
        "client_latency_mean_seconds",
        mean(CLIENT),
        "s",
        "mean latency as users see it",
        "load",
    ),
    *(
        Signal(
            f"client_latency_p{percent}_seconds",
            quantile(percent / 100, CLIENT),
            "s",
            f"{percent}% of the requests were at least this fast, as users see it",
            "load",
        )
        for percent in (50, 95, 99)
    ),
    Signal(
        "client_failures_ratio",
        # No failure yet, no series yet: then it is 0 of the requests.
        ratio(f"({rate('locust_failures_total')} or 0 * {CLIENT_RPS})", CLIENT_RPS),
        "ratio",
        "requests that got an error, an unexpected status or no answer",
        "load",
    ),
    Signal("client_users", "sum(locust_users)", "users", "users that run now", "load"),
    Signal(
        "generator_cpu_ratio",
        f"max{grown('locust_process_cpu_seconds_total')}",
        "ratio",
        "CPU of the busiest load-generating process over one core; near 1 it measures itself",
        "load",
        threshold=0.9,
        threshold_source=VALIDITY_GATE,
    ),
)

SERVER_SIDE = (
    Signal(
        "server_requests_per_second",
        SERVER_RPS,
        "requests/s",
        "requests that the service answered",
        "load",
    ),
    *(
        Signal(
            f"server_latency_p{percent}_seconds",
            quantile(percent / 100, HTTP, LOAD_HANDLERS),
            "s",
            f"{percent}% of the requests were at least this fast, inside the service: what the"
            " client sees beyond it is queueing in front of the workers",
            "load",
        )
        for percent in (50, 95, 99)
    ),
    Signal(
        "server_latency_mean_seconds",
        mean(HTTP, LOAD_HANDLERS),
        "s",
        "mean latency inside the service",
        "load",
    ),
    Signal(
        "server_late_requests_per_second",
        # Of two sums of many rates, one may be larger by a rounding error.
        f"clamp_min({SERVER_RPS} - {rate(f'{HTTP}_bucket', IN_TIME)}, 0)",
        "requests/s",
        f"requests that took longer than {LATENCY_TARGET_S * 1000:.0f} ms inside the service: the"
        " target of the latency objective",
        "load",
    ),
    Signal(
        "server_requests_in_progress",
        "sum(http_requests_in_progress)",
        "requests",
        "requests that workers are busy with",
        "load",
    ),
    Signal(
        "server_failures_ratio",
        ratio(f"({rate(f'{HTTP}_count', LOAD_FAILURES)} or 0 * {SERVER_RPS})", SERVER_RPS),
        "ratio",
        "requests that the service answered with a status of 500 or above",
        "load",
    ),
)

SERVICE_POOL = (
    Signal(
        "new_connections_per_second",
        rate(NEW_CONNECTIONS),
        "connections/s",
        "connections that the service opened",
        "load",
    ),
    Signal(
        "new_connections_per_request",
        ratio(rate(NEW_CONNECTIONS), SERVER_RPS),
        "connections/request",
        "1 = every request opens its own connection; near 0 = connections are kept",
        "load",
    ),
    Signal(
        "pool_wait_mean_seconds",
        mean("db_client_connection_wait_time_seconds"),
        "s",
        "how long a request queued for a connection, without the time to open one",
        "load",
    ),
    Signal(
        "pool_waits_per_second",
        rate("db_client_connection_wait_time_seconds_count"),
        "checkouts/s",
        "checkouts, whether or not they had to wait",
        "load",
    ),
    Signal(
        "pool_waiting_requests",
        rate("db_client_connection_wait_time_seconds_sum"),
        "requests",
        "seconds waited per second: the mean number of requests that queue for a connection",
        "load",
    ),
    Signal(
        "connection_open_mean_seconds",
        mean("db_client_connection_create_time_seconds"),
        "s",
        "how long opening a connection took, for those that were opened",
        "load",
    ),
    Signal(
        "connection_checking_requests",
        rate("db_client_connection_check_time_seconds_sum"),
        "requests",
        "seconds spent per second on checking kept connections: the mean number of requests that"
        " wait for the answer of SELECT 1",
        "load",
    ),
    Signal(
        "connection_use_mean_seconds",
        mean("db_client_connection_use_time_seconds"),
        "s",
        "checkout to checkin",
        "load",
    ),
    Signal(
        "pool_connections_used",
        'sum(db_client_connection_count{state="used"})',
        "connections",
        "connections checked out, all workers together",
        "load",
    ),
    Signal(
        "pool_connections_idle",
        'sum(db_client_connection_count{state="idle"})',
        "connections",
        "connections open and not in use, all workers together",
        "load",
    ),
    Signal(
        "pool_connections_max",
        "sum(db_client_connection_max) > 0",
        "connections",
        "connections that all pools together may open; no data where nothing is pooled",
        "load",
    ),
    Signal(
        "pool_used_ratio",
        ratio('sum(db_client_connection_count{state="used"})', "sum(db_client_connection_max)"),
        "ratio",
        "connections checked out over those that may be opened; no data where nothing is pooled",
        "load",
        threshold=1,
        threshold_source="the next request has to wait",
    ),
    Signal(
        "pool_timeouts_per_second",
        rate("db_client_connection_timeouts_total"),
        "checkouts/s",
        "checkouts that gave up: requests answered with 503",
        "load",
        threshold=0,
        threshold_source="each is a failed request",
    ),
    Signal(
        "operation_mean_seconds",
        mean("db_client_operation_duration_seconds"),
        "s",
        "statement sent to last row read, as the service sees it",
        "load",
    ),
)
