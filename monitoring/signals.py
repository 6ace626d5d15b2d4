"""Every signal once: name, PromQL, unit, meaning.

Recording rules, panels, alerts and the diagnosis take them from here. A ratio is 0 to 1, a time is
in seconds; where there is nothing to divide by, a signal has no series rather than NaN.

Names of databases and services are those of the stacks: the database `poolscope`, the services
`postgres`, `pgbouncer`, `fastapi`, `django`, `flask`. Health checks and scrapes are no load: only
handlers under /benchmark/ count.
"""

from __future__ import annotations

from monitoring import signals_detail as detail
from monitoring import signals_infrastructure as infrastructure
from monitoring import signals_pressure as pressure
from monitoring import signals_service as service
from monitoring.signal import (
    EVALUATION_INTERVAL_S,
    RECORD_PREFIX,
    SCRAPE_INTERVAL_S,
    WINDOW_S,
    Due,
    Signal,
    with_cell,
)

__all__ = [
    "BY_NAME",
    "EVALUATION_INTERVAL_S",
    "RECORD_PREFIX",
    "SCRAPE_INTERVAL_S",
    "SIGNALS",
    "TABLES",
    "WINDOW_S",
    "Due",
    "Signal",
    "with_cell",
]

#: By title, in the order in which one looks: from the user to the machine.
TABLES: dict[str, tuple[Signal, ...]] = {
    "client side": service.CLIENT_SIDE,
    "server side": service.SERVER_SIDE,
    "connection pool of the service": service.SERVICE_POOL,
    "PostgreSQL": infrastructure.POSTGRES,
    "PgBouncer": infrastructure.PGBOUNCER,
    "resources": infrastructure.RESOURCES,
    "instrument": infrastructure.INSTRUMENT,
    "service in detail": detail.SERVICE_DETAIL,
    "PostgreSQL in detail": detail.POSTGRES_DETAIL,
    "PgBouncer in detail": detail.PGBOUNCER_DETAIL,
    "measuring": detail.MEASURING,
    "pressure": pressure.PRESSURE,
}
SIGNALS: tuple[Signal, ...] = tuple(item for table in TABLES.values() for item in table)
BY_NAME: dict[str, Signal] = {item.name: item for item in SIGNALS}
