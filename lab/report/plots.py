"""The pictures of a run: which there are, and their bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lab.report import bars, budget_chart, canvas, lines, wording
from lab.report.groups import View
from lab.report.layout import Metric, Panel, by_users


def _share(name: str, axis: str = "share of CPU limit", mark: str | None = None) -> Metric:
    return Metric(name, axis, wording.percent, whole=1, mark=mark, brief=True)


RPS = Metric("rps", "requests/s")
P95 = Metric("p95_ms", "P95 latency (ms)", may_log=True)
CONNECTIONS = Metric(
    "new_connections_per_request", "new connections per request", wording.per_request, whole=1
)
CPU = {
    "PostgreSQL": _share("db_cpu", mark="db_throttled"),
    "service": _share("app_cpu", mark="app_throttled"),
    "PgBouncer": _share("pgbouncer_cpu", mark="pgbouncer_throttled"),
    "load generator": _share("generator_cpu", "share of one core"),
}
#: Most panels side by side.
COLUMNS = 4


def render(view: View) -> dict[str, bytes]:
    """Return each picture's PNG by its file name; none where nothing was measured."""
    if not view.groups:
        return {}
    with canvas.style():
        return {name: canvas.png(draw(view)) for name, draw in pictures(view).items()}


def pictures(view: View) -> dict[str, Callable[[View], canvas.Sheet]]:
    """Return how each picture of this run is drawn, by its file name."""
    found: dict[str, Callable[[View], canvas.Sheet]] = {
        "rps_comparison.png": lambda v: _comparison(v, RPS, "Throughput: requests per second"),
        "p95_latency_comparison.png": lambda v: _comparison(
            v, P95, "P95 latency, as the client sees it"
        ),
        "connections_per_request.png": lambda v: _comparison(
            v, CONNECTIONS, "New connections per request"
        ),
        "cpu_share.png": _cpu,
    }
    if budget_chart.there(view):
        found["latency_budget.png"] = budget_chart.chart
    for axis in lines.axes(view):
        found[f"rps_over_{axis.lower()}.png"] = lambda v, axis=axis: lines.chart(v, axis)  # type: ignore[misc]
    return found


def _comparison(view: View, metric: Metric, title: str) -> canvas.Sheet:
    panels = [Panel(name, metric, rows) for name, rows in by_users(view)]
    return bars.chart(view, title, panels, COLUMNS)


def _cpu(view: View) -> canvas.Sheet:
    enforced = view.manifest.limits is not None
    panels = []
    for users, rows in by_users(view):
        for name, metric in CPU.items():
            shown = metric if enforced or name == "load generator" else _unlimited(metric)
            title = f"{name}, {users}" if users else name
            panels.append(Panel(title, shown, rows))
    return bars.chart(view, "CPU used by each part", panels, len(CPU))


def _unlimited(metric: Metric) -> Metric:
    """Return a CPU metric as it reads where no limit is enforced."""
    one = metric.name.startswith("pgbouncer")  # a single thread: a core is all it can use
    return replace(
        metric, axis="share of one core" if one else "share of the host's cores", mark=None
    )
