"""Grafana's dashboards from the signals: `python -m monitoring.dashboards` writes the JSON."""

from __future__ import annotations

from pathlib import Path

from monitoring.dashboards.build import render
from monitoring.dashboards.connections import CONNECTIONS
from monitoring.dashboards.database import DATABASE
from monitoring.dashboards.ladder import LADDER
from monitoring.dashboards.matrix import MATRIX
from monitoring.dashboards.measuring import MONITORING
from monitoring.dashboards.overview import OVERVIEW
from monitoring.dashboards.panel import Dashboard
from monitoring.dashboards.pgbouncer import PGBOUNCER
from monitoring.dashboards.services import SERVICES_PAGE

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"
DASHBOARDS: tuple[Dashboard, ...] = (
    OVERVIEW,
    CONNECTIONS,
    DATABASE,
    SERVICES_PAGE,
    PGBOUNCER,
    MATRIX,
    LADDER,
    MONITORING,
)


def files() -> dict[Path, str]:
    """Return every dashboard's file and what belongs into it."""
    return {FOLDER / f"{page.uid}.json": render(page) for page in DASHBOARDS}
