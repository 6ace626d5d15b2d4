"""One module per verdict; a new one is a module and its line here.

The order is that of looking: what falsifies the rest first, then from the database outwards.
"""

from __future__ import annotations

from lab.diagnosis.verdicts import (
    connection_set_up,
    database_cpu,
    database_locks,
    database_wal_or_io,
    load_generator_or_host,
    max_connections,
    pgbouncer_cpu,
    pgbouncer_pool,
    service_cpu,
    service_pool,
    workers_or_backlog,
)
from lab.diagnosis.verdicts.base import Rule, View

RULES: tuple[Rule, ...] = (
    max_connections.RULE,
    connection_set_up.RULE,
    database_cpu.RULE,
    database_locks.RULE,
    database_wal_or_io.RULE,
    pgbouncer_cpu.RULE,
    pgbouncer_pool.RULE,
    service_cpu.RULE,
    service_pool.RULE,
    workers_or_backlog.RULE,
    load_generator_or_host.RULE,
)
BY_NAME = {rule.name: rule for rule in RULES}

__all__ = ["BY_NAME", "RULES", "Rule", "View"]
