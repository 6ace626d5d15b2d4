"""The host's CPU time and load, under node_exporter's names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from monitoring.exporter.reading import Reading, Row, counter, gauge

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
#: The columns of a cpu line. Guest time follows them and is part of user and nice already.
MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass
class HostSource:
    """Reads /proc/stat and /proc/loadavg."""

    proc: Path = Path("/proc")
    name: str = "host"

    def read(self) -> Reading:
        """Return CPU seconds by core and mode, and the load of the last minute."""
        rows: list[Row] = []
        for line in (self.proc / "stat").read_text().splitlines():
            label, *ticks = line.split()
            if label.startswith("cpu") and label != "cpu":
                for mode, value in zip(MODES, ticks, strict=False):
                    rows.append(((label.removeprefix("cpu"), mode), int(value) / TICKS_PER_S))
        load = float((self.proc / "loadavg").read_text().split()[0])
        return Reading(
            [
                counter("node_cpu_seconds_total", "Seconds in each mode", ["cpu", "mode"], rows),
                gauge("node_load1", "Load average of the last minute", [], [((), load)]),
            ]
        )
