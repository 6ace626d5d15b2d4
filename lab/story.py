"""What dashboards are told of a run: each cell's moments, and what finished cells gave.

It goes through the state file to Poolscope's exporter, so that it is in Prometheus beside all
other figures, on either stack.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from lab.config import MAIN_AXES
from lab.errors import ServiceError
from lab.prometheus import Prometheus
from lab.results import CellRecord, Measurement
from lab.stack.base import CellResult, Event, Moment, Stack, Story
from monitoring.signals import SCRAPE_INTERVAL_S

#: So many cells stay published, long enough to be seen at any step of a dashboard; Prometheus keeps
#: those before. All results of a long run would make every scrape ten times as slow.
CELLS = 5
POLL_S = 0.2
#: A label is no place for a log's tail, which a reason may end with; the record has all of it.
WHY_LENGTH = 160
MS = 1e-3
#: Figure, field of the measurement, factor.
FIGURES = (
    ("rps", "rps", 1),
    ("p50_seconds", "p50_ms", MS),
    ("p95_seconds", "p95_ms", MS),
    ("p99_seconds", "p99_ms", MS),
    ("error_ratio", "error_rate", 1),
    ("new_connections_per_request", "new_connections_per_request", 1),
    ("pool_wait_seconds", "pool_wait_ms", MS),
    ("pgbouncer_wait_seconds", "pgbouncer_wait_ms", MS),
    ("db_cpu_ratio", "db_cpu", 1),
    ("app_cpu_ratio", "app_cpu", 1),
    ("pgbouncer_cpu_ratio", "pgbouncer_cpu", 1),
    ("generator_cpu_ratio", "generator_cpu", 1),
    ("db_throttled_ratio", "db_throttled", 1),
)


@dataclass
class RunStory:
    """Tells the stack; `prometheus` is where the last cell's Prometheus answers."""

    stack: Stack
    prometheus: str | None = None
    _moments: list[Moment] = field(default_factory=list)
    _results: list[CellResult] = field(default_factory=list)

    def moment(self, run_id: str, cell_id: str, event: Event, at: float) -> None:
        """Tell of a moment of a cell."""
        self._moments.append(Moment(run_id, cell_id, event, at))
        cells = list(dict.fromkeys(moment.cell_id for moment in self._moments))[-CELLS:]
        self._moments = [moment for moment in self._moments if moment.cell_id in cells]
        self._publish()

    def finished(self, *records: CellRecord) -> None:
        """Tell what finished cells gave; those of a resumed run come all at once."""
        results = [*self._results, *map(result, records)]
        self._results = results[-max(CELLS, len(records)) :]
        self._publish()

    def wait_until_scraped(self) -> None:
        """Wait until Prometheus has the last result, three scrapes at most.

        What is read from Prometheus at the end of a run would lack the last cell otherwise.
        """
        if self.prometheus is None or not self._results:
            return
        labels = self._results[-1].labels
        chosen = f'run_id="{labels["run_id"]}", cell_id="{labels["cell_id"]}"'
        deadline = time.monotonic() + 3 * SCRAPE_INTERVAL_S["poolscope"]
        while time.monotonic() < deadline:
            try:
                if Prometheus(self.prometheus).query(f"lab_cell_result{{{chosen}}}", time.time()):
                    return
            except ServiceError:
                return  # a run does not fail because its monitoring ended early
            time.sleep(POLL_S)

    def _publish(self) -> None:
        self.stack.publish(Story(tuple(self._moments), tuple(self._results)))


def result(record: CellRecord) -> CellResult:
    """Return a record's labels and figures, times in seconds; `variant` holds its other axes."""
    others = {n: v for n, v in record.axes.items() if n not in MAIN_AXES}
    why = record.reject_reasons[0] if record.reject_reasons else record.verdict or ""
    variant = " ".join(f"{name.lower()}={value}" for name, value in others.items())
    labels = {
        "run_id": record.run_id,
        "cell_id": record.cell_id,
        "framework": record.framework,
        "route": record.route,
        "users": str(record.users),
        "variant": variant,
        "status": record.status,
        "why": " ".join(why.split())[:WHY_LENGTH],
    }
    m = record.measurement
    figures = {name: _figure(m, source, factor) for name, source, factor in FIGURES}
    # A cell without any figure is a row all the same: the table shows that it was rejected.
    return CellResult(labels, {"measured": float(m is not None), **figures})


def _figure(measured: Measurement | None, source: str, factor: float) -> float | None:
    value = None if measured is None else getattr(measured, source)
    return None if value is None else value * factor
