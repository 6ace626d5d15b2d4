"""Every alert once: what it watches, from when on it tells, and which page says what to do.

They read the signals. Where a signal has a threshold the alert takes it; the others are constants
here, with their source. None divides by a limit: 0, or no series, means unlimited there.

A window of the lab lasts 10 to 60 s and a signal's rate looks back 10 s, so `for` is a few seconds:
long enough for a pool to fill at the beginning of a cell, short enough to fire within a window.
"""

from __future__ import annotations

from monitoring.alert import Alert, beyond, burning, current, record, source
from monitoring.slo import LATE_BUDGET, LATENCY_TARGET_S

#: Jobs that are there all the time. The service, Locust and, on containers, PgBouncer's exporter
#: come and go with each cell: between cells they do not answer, and should not.
LASTING = '{job!~"locust|service|pgbouncer"}'
PERCENT = "{{ $value | humanizePercentage }}"
DURATION = "{{ $value | humanizeDuration }}"
LATE = (
    f"{LATENCY_TARGET_S * 1000:.0f} ms inside the service; the objective allows {LATE_BUDGET:.0%}"
)
BURN_SOURCE = (
    "Site Reliability Workbook, chapter 5, multiwindow alerts: burn rate {} over {}; windows"
    " divided by 60"
)

SERVICE = (
    Alert(
        "ConnectionStorm",
        f"{record('new_connections_per_request')} > 0.1"
        f" and on() {record('new_connections_per_second')} > 2",
        6,
        "warning",
        "service",
        '{{ printf "%.2f" $value }} new connections per request, '
        + current("new_connections_per_second", "humanize")
        + " per second: opening them costs more than the queries",
        "connection-set-up",
        "opening one costs PostgreSQL about as much as 30 queries (pgbench: 71 to 86 against 2,693"
        " per second), so at 0.1 per request three quarters of its work; 2 per second are about 1%"
        " of a core",
    ),
    Alert(
        "PoolWait",
        f"{record('pool_wait_mean_seconds')} > 0.005"
        f" and on() {record('pool_wait_mean_seconds')} > {record('connection_use_mean_seconds')}",
        6,
        "warning",
        "service",
        f"a request waits {DURATION} for a connection and then uses it for "
        + current("connection_use_mean_seconds", "humanizeDuration"),
        "service-pool",
        "by Little's law more requests queue than are served; below 5 ms it costs no user anything",
    ),
    Alert(
        "PoolTimeouts",
        beyond("pool_timeouts_per_second"),
        0,
        "critical",
        "service",
        '{{ printf "%.1f" $value }} requests per second gave up waiting for a connection',
        "service-pool",
        source("pool_timeouts_per_second"),
    ),
    Alert(
        "ServiceThrottled",
        f"{record('service_throttled_ratio')} > 0.25",
        10,
        "info",
        "service",
        f"{{{{ $labels.name }}}} ran out of its CPU limit in {PERCENT} of the periods",
        "service-cpu",
        "kubernetes-mixin, CPUThrottlingHigh: 25%",
    ),
    Alert(
        "ErrorRate",
        f"{record('client_failures_ratio')} > 0.01"
        f" or on() {record('server_failures_ratio')} > 0.01",
        6,
        "critical",
        "service",
        f"{PERCENT} of the requests fail",
        "error-rate",
        "Poolscope's choice: 99% of the requests are answered; the comparison of two cells means"
        " little beyond",
    ),
    Alert(
        "LatencyBudgetBurnsFast",
        burning(14.4, "1m", "10s"),
        10,
        "critical",
        "service",
        f"{PERCENT} of the requests of the last minute took longer than {LATE}",
        "latency-slo",
        BURN_SOURCE.format("14.4", "1 h and 5 min"),
    ),
    Alert(
        "LatencyBudgetBurns",
        burning(6, "6m", "30s"),
        10,
        "warning",
        "service",
        f"{PERCENT} of the requests of the last 6 minutes took longer than {LATE}",
        "latency-slo",
        BURN_SOURCE.format("6", "6 h and 30 min"),
    ),
)

SERVERS = (
    Alert(
        "PgBouncerQueue",
        f"{record('pgbouncer_clients_waiting')} > {record('pgbouncer_servers_active')}",
        6,
        "warning",
        "pgbouncer",
        "{{ $value }} clients wait for a server connection, the first of them for "
        + current("pgbouncer_client_wait_max_seconds", "humanizeDuration")
        + "; {{ with query "
        + f'"{record("pgbouncer_servers_active")}"'
        + " }}{{ . | first | value }}{{ end }} are served",
        "pgbouncer-pool",
        "by Little's law a query then waits longer than it runs",
    ),
    Alert(
        "PgBouncerCpu",
        f"{record('pgbouncer_cpu_ratio')} > 0.8",
        6,
        "warning",
        "pgbouncer",
        f"PgBouncer uses {PERCENT} of its CPU limit, which is one core at most",
        "pgbouncer-cpu",
        "a single server at 80% answers in five times its service time (M/M/1: 1 / (1 - 0.8))",
    ),
    Alert(
        "DatabaseThrottled",
        f"{record('db_throttled_ratio')} > 0.25",
        10,
        "warning",
        "postgres",
        f"PostgreSQL ran out of its CPU limit in {PERCENT} of the periods; it uses "
        + current("db_cpu_ratio", "humanizePercentage")
        + " of the limit",
        "database-cpu",
        "kubernetes-mixin, CPUThrottlingHigh: 25%",
    ),
    Alert(
        "ConnectionsNearlyUsed",
        # Those that the reserved ones stand in for take it below 0.
        f"clamp_min({record('postgres_connections_room')}, 0)"
        " < on() 0.2 * max(pg_settings_max_connections)",
        4,
        "warning",
        "postgres",
        "{{ $value }} connections can still be opened, of max_connections = "
        '{{ with query "max(pg_settings_max_connections)" }}{{ . | first | value }}{{ end }}',
        "max-connections",
        "postgres_exporter's mixin, PostgreSQLHighConnections: 80% used",
    ),
    Alert(
        "ConnectionsUsedUp",
        beyond("postgres_connections_room"),
        0,
        "critical",
        "postgres",
        "PostgreSQL refuses further connections: {{ $value }} left beside the reserved ones",
        "max-connections",
        source("postgres_connections_room"),
    ),
)

#: The gate of a cell forgives as many, one at each edge of the window. A rule that is evaluated
#: while a scrape is under way always lacks one of the twelve.
ONE_OF_TWELVE = 0.09
UP = record("exporter_up")
VANISHED = f"({UP}{LASTING} offset 1m == 1) unless on(job) {UP}"

INSTRUMENT = (
    Alert(
        "GeneratorSaturated",
        beyond("generator_cpu_ratio"),
        6,
        "warning",
        "instrument",
        f"a load-generating process uses {PERCENT} of a core: it measures itself",
        "load-generator-or-host",
        source("generator_cpu_ratio"),
    ),
    Alert(
        "HostSteal",
        beyond("host_cpu_steal_ratio"),
        10,
        "warning",
        "instrument",
        f"the hypervisor gave {PERCENT} of this host's CPU to others",
        "load-generator-or-host",
        source("host_cpu_steal_ratio"),
    ),
    Alert(
        "ExporterDown",
        beyond("exporter_up", LASTING),
        6,
        "critical",
        "instrument",
        "job {{ $labels.job }} has not answered for 6 s or more: its figures are missing",
        "exporter-down",
        source("exporter_up"),
    ),
    Alert(
        "ServiceMetricsDown",
        beyond("exporter_up", '{job="service"}')
        + f" and on() {record('client_requests_per_second')} > 0",
        10,
        "info",
        "instrument",
        "load runs ("
        + current("client_requests_per_second", "humanize")
        + " requests per second) and the service's metrics do not answer; right with METRICS=off",
        "exporter-down",
        source("exporter_up"),
    ),
    Alert(
        "CollectorDown",
        beyond("collector_up"),
        10,
        "warning",
        "instrument",
        "Poolscope's exporter cannot read all figures of {{ $labels.collector }}",
        "exporter-down",
        source("collector_up"),
    ),
    Alert(
        "SamplesMissing",
        f"{record('samples_missing_ratio')}{LASTING} > {ONE_OF_TWELVE}"
        f" and on(job) {UP} offset 1m or on(job) ({VANISHED})",
        4,
        "warning",
        "instrument",
        f"{PERCENT} of the last scrapes of job {{{{ $labels.job }}}} failed or did not happen",
        "samples-missing",
        "validity gate of a cell, which forgives one scrape at each edge of the window",
    ),
)

#: By title, as groups of rules.
ALERT_TABLES: dict[str, tuple[Alert, ...]] = {
    "alerts: service": SERVICE,
    "alerts: servers": SERVERS,
    "alerts: instrument": INSTRUMENT,
}
ALERTS: tuple[Alert, ...] = tuple(item for table in ALERT_TABLES.values() for item in table)
