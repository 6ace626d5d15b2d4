"""Every query of every panel against the Prometheus of a real run, on both routes."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import results
from lab.cell import CellRun
from lab.config import Cell
from lab.prometheus import Prometheus
from lab.results import CellRecord
from lab.stack.base import Endpoints
from lab.story import RunStory
from monitoring.dashboards import DASHBOARDS
from monitoring.dashboards.header import marks
from monitoring.dashboards.panel import CHOSEN, Dashboard, Panel, Query
from monitoring.signals import SCRAPE_INTERVAL_S

from .conftest import Lab

#: Signals of a moment, which a short calm cell may not have.
OF_A_MOMENT = (
    "connection_open_mean_seconds",
    "connection_open_p95_seconds",
    "postgres_active_backends_by_wait",
    "postgres_locks",
)
#: Where no limit is enforced there is nothing to throttle, and none to compare with.
OF_A_LIMIT = ("throttled_ratio", "memory_used_ratio")
ROUTES = {"direct": ("always", "load"), "pgbouncer": ("always", "load", "pgbouncer load")}
STEP_S = 2


@dataclass
class Measured:
    """A cell that was measured, and where to ask about it."""

    record: CellRecord
    prometheus: Prometheus
    limited: bool

    def ask(self, query: Query) -> list[dict]:
        """Evaluate a panel's query over the cell's window; what finished cells gave, now."""
        assert self.record.window_start is not None
        assert self.record.window_end is not None
        expr = substituted(query.expr)
        if query.due in ("cells", "accepted"):
            return self.prometheus.query(expr, time.time())
        if query.instant:
            return self.prometheus.query(expr, self.record.window_end)
        return self.prometheus.query_range(
            expr, self.record.window_start, self.record.window_end, STEP_S
        )

    def due(self, query: Query) -> bool:
        """Return whether the query has to have data in this cell."""
        if any(f"poolscope:{name}" in query.expr for name in OF_A_MOMENT):
            return False
        if not self.limited and any(name in query.expr for name in OF_A_LIMIT):
            return False
        if query.due == "accepted":
            other = "pgbouncer" if self.record.route == "direct" else "direct"
            return self.record.status == "accepted" and f'route="{other}"' not in query.expr
        due = (*ROUTES[self.record.route], "cells")
        return query.due in (due if self.record.route == "direct" else (*due, "pgbouncer"))


def substituted(expr: str) -> str:
    """Put in what Grafana would, with every variable at its value for all."""
    expr = re.sub(r"\$__rate_interval\b", "10s", expr)
    expr = re.sub(r"\$__range\b", "600s", expr)
    return re.sub(r"\$(framework|route|run)\b", ".*", expr)


class Silent:
    """Watches a cell and remembers where its servers answered."""

    endpoints: Endpoints

    def started(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints

    def phase(self, name: str, length_s: float | None) -> None:
        pass

    def tick(self, rps: float, p95_ms: float | None) -> None:
        pass


@pytest.fixture(scope="module", params=list(ROUTES))
def measured(
    lab: Lab, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Measured:
    """A cell of each route, long enough for every rate; published as a run publishes it."""
    settings = lab.settings(FRAMEWORK="flask", ROUTE=request.param, WARMUP=10, WINDOW=8)
    axes = {"FRAMEWORK": "flask", "ROUTE": request.param, "USERS": settings.users}
    cell = Cell(f"flask-{request.param}-u{settings.users}-r1", axes, 1, settings)
    run = results.Run(tmp_path_factory.mktemp("run"))
    story, watcher = RunStory(lab.stack), Silent()
    limited = lab.stack.facts().limits is not None
    record = CellRun(cell, settings, lab.stack, run, watcher, {}, limited, story=story).measure()
    assert record.measurement is not None, record.reject_reasons
    story.wait_until_scraped()
    assert watcher.endpoints.prometheus is not None
    return Measured(record, Prometheus(watcher.endpoints.prometheus), limited)


def panels() -> list[tuple[Dashboard, Panel]]:
    return [(page, panel) for page in DASHBOARDS for row in page.rows for panel in row.panels]


@pytest.mark.stack
def test_every_query_has_data_where_it_is_due(measured: Measured) -> None:
    """Prometheus takes every query, and no panel is empty that should not be."""
    empty = [
        f"{page.uid}: {panel.title}: {query.legend or query.expr}"
        for page, panel in panels()
        for query in panel.queries
        if not measured.ask(query) and measured.due(query)
    ]
    assert not empty


def test_choosing_another_cell_shows_nothing_of_this_one(measured: Measured) -> None:
    """The variables choose by the labels of the cell that runs; between cells there is none."""
    record = measured.record
    query = next(
        q
        for page, panel in panels()
        for q in panel.queries
        if "poolscope:postgres_transactions_per_second" in q.expr
    )
    assert record.window_end is not None
    after = time.time()
    assert not measured.prometheus.query("lab_cell_info", after)
    for chosen, moment, found in (
        ("flask", record.window_end, True),
        ("django", record.window_end, False),
        ("flask", after, False),
        (".*", after, True),  # all of them: PostgreSQL runs on
    ):
        expr = substituted(query.expr.replace("$framework", chosen))
        assert bool(measured.prometheus.query(expr, moment)) is found, (chosen, moment)


def test_the_load_that_has_ended_is_not_due_and_not_down(measured: Measured) -> None:
    """As Prometheus has it, whose own label `job` is on whatever it scrapes."""
    shown = next(p for page, p in panels() if p.title == "Targets").queries[0].expr
    deadline = time.monotonic() + 3 * SCRAPE_INTERVAL_S["poolscope"]
    while True:
        found = {
            series["metric"]["job"]: float(series["value"][1])
            for series in measured.prometheus.query(shown, time.time())
        }
        if found["locust"] == -1 or time.monotonic() > deadline:
            break
    assert found == {"locust": -1, "service": 1, "poolscope": 1, "postgres": 1, "prometheus": 1}


def test_window_is_one_region_inside_the_records_own(measured: Measured) -> None:
    """Grafana makes a region of samples that are a step apart."""
    record = measured.record
    windows, *_ = marks(CHOSEN)
    start, end = record.window_start, record.window_end
    assert start is not None
    assert end is not None
    first, last = start - start % STEP_S - 20, end + 20
    expr = substituted(windows["expr"])
    found = measured.prometheus.query_range(expr, first, last, STEP_S)
    # The cell before may have had its window in this stretch too.
    (series,) = (one for one in found if one["metric"]["cell_id"] == record.cell_id)
    moments = [float(moment) for moment, _ in series["values"]]
    assert all(b - a == STEP_S for a, b in itertools.pairwise(moments))
    # Seen from the first scrape that has it on: a scrape and a step late at most.
    assert start <= moments[0] <= start + SCRAPE_INTERVAL_S["poolscope"] + STEP_S
    assert end - STEP_S <= moments[-1] < end


def test_moments_are_the_records_own(measured: Measured) -> None:
    """What the dashboards mark lies where the record says."""
    record = measured.record
    name = "lab_cell_event_timestamp_seconds"
    chosen = f'{{run_id="{record.run_id}", cell_id="{record.cell_id}"}}'
    found = {
        series["metric"]["event"]: float(series["value"][1])
        for series in measured.prometheus.query(name + chosen, time.time())
    }
    assert found["cell_start"] == pytest.approx(record.started_at)
    assert found["window_start"] == record.window_start
    assert found["window_end"] == record.window_end
    assert ("rejected" in found) == (record.status == "rejected")


def test_result_is_the_records_own(measured: Measured, tmp_path: Path) -> None:
    """The matrix shows the figures of the record, and its status."""
    record = measured.record
    found = measured.prometheus.query(
        f'lab_cell_result{{cell_id="{record.cell_id}", figure="rps"}}', time.time()
    )
    assert record.measurement is not None
    assert float(found[0]["value"][1]) == pytest.approx(record.measurement.rps)
    assert found[0]["metric"]["status"] == record.status
    assert found[0]["metric"]["users"] == str(record.users)
