"""Every use over its limit side by side, and the one of them that limits throughput now."""

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

# --- what limits now ------------------------------------------------------------------------------
#
# The verdict of a cell is the diagnosis's, from the whole window. This is what can be said at any
# moment by the same rules (lab/diagnosis/thresholds.py), each with a margin, so that it says what
# the verdict will say, or nothing.

#: Of a CPU limit: 0.90, or 0.75 where it runs out in half of the periods.
FULL, FULL_IN_BURSTS, STOPPED = 0.95, 0.80, 0.60
#: Share of a latency that a queue has to be, of which 0.20 are enough for a verdict.
QUEUED = 0.30
#: Below the 0.10 new connections per request from which on opening them is the finding.
CONNECTING = 0.05
#: From 1% of failed requests on, failing is the finding.
FAILING = 0.01
#: A host of which 0.95 are enough for a verdict, where no part has 0.90 of its own limit.
HOST_FULL, PART_FREE = 0.97, 0.85
#: Up to here a CPU does not explain why a pool is full.
CPU_FREE = 0.75
_PARTS = ("db", "service", "pgbouncer")


def _record(name: str) -> str:
    return RECORD_PREFIX + name


def _named(expr: str, resource: str) -> str:
    return f'label_replace({expr}, "resource", "{resource}", "", "")'


def _full(part: str) -> str:
    used, stopped = (f"max({_record(f'{part}_{of}_ratio')})" for of in ("cpu", "throttled"))
    return f"({used} >= {FULL} or {used} >= {FULL_IN_BURSTS} and {stopped} >= {STOPPED})"


def most_saturated() -> str:
    """Return the resource that limits throughput now, as `resource`, and its use over its limit.

    No series where none does, or where requests fail or wait for something that is no resource.
    """
    cpu = " or ".join(_record(f"{part}_cpu_ratio") for part in _PARTS)
    failing = f"{_record('client_failures_ratio')} >= {FAILING}"
    other = f"{failing} or {_record('new_connections_per_request')} >= {CONNECTING}"
    names = {"db": "database CPU", "service": "service CPU", "pgbouncer": "PgBouncer CPU"}
    full = [_named(_full(part), name) for part, name in names.items()]
    full.append(_named(f"{_record('generator_cpu_ratio')} >= {FULL}", "generator CPU"))
    # What a full pool's connections are held up by, where it is not the pool itself.
    held = (
        f"max({cpu}) >= {CPU_FREE} or sum({_record('postgres_active_backends_by_wait')}"
        '{wait_event_type=~"Lock|LWLock|IO|IPC"}) >= 1'
    )
    pools = [
        _named(
            f"avg_over_time({_record('pgbouncer_pool_used_ratio')}[6s]) >= {FULL}"
            f" and {_record('pgbouncer_clients_waiting')} >= {QUEUED} * {_record('client_users')}",
            "PgBouncer's pool",
        ),
        _named(
            f"avg_over_time({_record('pool_used_ratio')}[6s]) >= {FULL}"
            f" and {_record('pool_wait_mean_seconds')}"
            f" >= {QUEUED} * {_record('server_latency_mean_seconds')}",
            "service's pool",
        ),
    ]
    no_room = _named(
        f"{_record('postgres_connections_used_ratio')}"
        f" and on() ({_record('postgres_connections_room')} <= 1) and on() ({failing})",
        "max_connections",
    )
    host = _named(
        f"{_record('host_cpu_busy_ratio')} >= {HOST_FULL} unless max({cpu}) >= {PART_FREE}",
        "host CPU",
    )
    return (
        f"{no_room} or on() (topk(1, {' or '.join(full)}) unless on() ({other}))"
        f" or on() (topk(1, {' or '.join(pools)}) unless on() ({other} or {held}))"
        f" or on() ({host} unless on() ({other}))"
    )
