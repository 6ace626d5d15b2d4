"""Which run and cell is measured, its moments, and what the finished cells of the run gave."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from monitoring.exporter.reading import Reading, Row, gauge
from monitoring.exporter.state import CellResult, Moment, load_state


@dataclass
class CellSource:
    """Reads cells from the state file; between cells there is no info metric."""

    state_file: Path
    name: str = "cell"
    optional: bool = False

    def read(self) -> Reading:
        """Return `lab_cell_info` with the cell's settings as labels, moments and results."""
        state = load_state(self.state_file, optional=self.optional)
        info = GaugeMetricFamily("lab_cell_info", "The cell that is measured now")
        if state.cell is not None:
            labels = {_label(name): _text(value) for name, value in state.cell.items()}
            info.add_sample("lab_cell_info", labels, 1)
        return Reading([info, _moments(state.moments), _results(state.results)])


def _moments(moments: Iterable[Moment]) -> Metric:
    rows: list[Row] = [((m.run_id, m.cell_id, m.event), m.at) for m in moments]
    text = "When something happened to a cell, as Unix time"
    return gauge("lab_cell_event_timestamp_seconds", text, ["run_id", "cell_id", "event"], rows)


def _results(results: Iterable[CellResult]) -> Metric:
    """Return one series for each figure; a figure that could not be had has none."""
    name = "lab_cell_result"
    family = GaugeMetricFamily(name, "What finished cells of the run gave, by figure")
    for result in results:
        labels = {_label(label): text for label, text in result.labels.items()}
        for figure, value in result.figures.items():
            if value is not None:
                family.add_sample(name, {**labels, "figure": figure}, value)
    return family


def _label(name: str) -> str:
    """Make a name that Prometheus takes for a label: `pool-size` becomes `pool_size`."""
    return re.sub(r"^(?=\d)|^__|\W", "_", name, flags=re.ASCII)


def _text(value: str | int | float | bool | None) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
