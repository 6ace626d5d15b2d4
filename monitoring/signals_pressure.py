"""What is the most saturated resource: every use over its limit, side by side."""

from __future__ import annotations

from monitoring.signal import RECORD_PREFIX, Signal

#: Resource, and the recorded ratio of its use to its limit.
RESOURCES = (
    ("database CPU", "db_cpu_ratio"),
    ("service CPU", "service_cpu_ratio"),
    ("PgBouncer CPU", "pgbouncer_cpu_ratio"),
    ("service's pool", "pool_used_ratio"),
    ("PgBouncer's pool", "pgbouncer_pool_used_ratio"),
    ("max_connections", "postgres_connections_used_ratio"),
    ("max_client_conn", "pgbouncer_clients_used_ratio"),
    ("service's backlog", "service_backlog_ratio"),
    ("memory", "memory_used_ratio"),
    ("generator CPU", "generator_cpu_ratio"),
    ("host CPU", "host_cpu_busy_ratio"),
)

PRESSURE = (
    Signal(
        "bottleneck_pressure",
        " or ".join(
            f'label_replace(max({RECORD_PREFIX}{name}), "resource", "{resource}", "", "")'
            for resource, name in RESOURCES
        ),
        "ratio",
        "use over limit of every resource that has one, by resource; the highest is what limits"
        " throughput first, near 1 it does so now",
        threshold=0.95,
        threshold_source="less than a twentieth of the limit is left",
    ),
)
