"""The short way into prometheus_client's files reads back like the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import threading
from prometheus_client import Counter, Gauge, Histogram
from apps.common.cells import adder, observer
from apps.common.exposition import exposition

buckets = (0.001, 0.5, 1.0)
short = Histogram("short", "h", ("a",), buckets=buckets)
usual = Histogram("usual", "h", ("a",), buckets=buckets)
fast, slow = observer(short.labels("x")), usual.labels("x").observe
assert fast != short.labels("x").observe
# labels enough to make the file grow, and be mapped anew, after `fast` was made
for n in range(400):
    Histogram(f"filler_{n}", "h" * 50, ("a",), buckets=buckets).labels("y")
for value in (0.0, 0.001, 0.0011, 0.5, 0.7, 1.0, 2.0, 100.0):
    fast(value)
    slow(value)
gauge = adder(Gauge("level", "g", multiprocess_mode="livesum"))
count = adder(Counter("events", "c"))

def work():
    for _ in range(2000):
        gauge(2.0); gauge(-1.0); count()

threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
from tests.unit.scrapes import taken
text = taken(exposition().decode())
lines = [line for line in text.splitlines() if "_created" not in line]
of = lambda name: [line.replace(name, "") for line in lines if line.startswith(name)]
assert of("short") == of("usual") and len(of("short")) == 6, of("short")
assert "level 8000.0" in lines and "events_total 8000.0" in lines
"""
FALLBACK = """
from prometheus_client import Gauge, Histogram, generate_latest
from apps.common.cells import adder, observer
observer(Histogram("h", "h", buckets=(1.0,)))(0.5)
adder(Gauge("g", "g"))(3.0)
text = generate_latest().decode()
assert 'h_bucket{le="1.0"} 1.0' in text and "g 3.0" in text
"""


def _run(script: str, environment: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_cells_read_back_like_prometheus_clients_own_writes(tmp_path: Path) -> None:
    _run(SCRIPT, {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)})


def test_cells_fall_back_to_the_metrics_own_methods_in_a_single_process() -> None:
    _run(FALLBACK, {})
