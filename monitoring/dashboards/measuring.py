"""Is the measuring itself healthy: scrapes, gaps, the generator, the host."""

from __future__ import annotations

from typing import Any

from monitoring.dashboards import runbooks
from monitoring.dashboards.panel import (
    CHOSEN_RUN,
    GREEN,
    RED,
    Dashboard,
    Panel,
    Query,
    Row,
    limits,
    lines,
    now,
)
from monitoring.promql import TARGET_DUE, due_of
from monitoring.signals import BY_NAME


def _plain(name: str, legend: str) -> Query:
    """Return a signal's query whatever cell runs: the instrument is not a cell's."""
    item = BY_NAME[name]
    return Query(item.record, legend, due=item.due)


def _health(title: str, text: str, name: str, label: str, due: str) -> Panel:
    """Return the state of several of a kind in words, by a label of theirs."""
    # What is not due has no figure: -1 stands for that.
    expr = f"{BY_NAME[name].record} or max by ({label}) ({due} == 0) - 1"
    more: dict[str, Any] = {"colorMode": "background", "textMode": "value_and_name"}
    return Panel(
        "stat",
        title,
        text,
        (now(Query(expr, f"{{{{{label}}}}}", due="always")),),
        min=None,
        steps=((None, "text"), (0, RED), (1, GREEN)),
        words={"-1": ("not due", "text"), "0": ("down", RED), "1": ("up", GREEN)},
        options=more,
    )


#: Of a job that comes and goes, the scrapes that were due count, beyond one at an edge.
DUE = due_of("sum_over_time(poolscope_target_due[24s])")
COMES_AND_GOES = 'job=~"service|locust"'
MISSING = (
    f'{BY_NAME["samples_missing_ratio"].record}{{job!~"service|locust"}} or clamp_min('
    f"max by (job) ({DUE}) - sum by (job) (sum_over_time(up{{{COMES_AND_GOES}}}[24s])) - 1, 0) / 12"
)

SCRAPES = Row(
    "Scrapes",
    (
        _health(
            "Targets",
            "Whether the last scrape of each job succeeded; not due: its server is not meant to run"
            " now, as between two cells. Runbook: monitoring/runbooks/exporter-down.md.",
            "exporter_up",
            "job",
            TARGET_DUE,
        ),
        _health(
            "Collectors of Poolscope's exporter",
            "Up: the collector had all of its figures. Down: some are missing, and its log says"
            " which. Not due: what it reads is not meant to run now, as PgBouncer on the direct"
            " route.",
            "collector_up",
            "collector",
            "poolscope_collector_due",
        ),
        lines(
            "Missing samples",
            "Share of the last twelve scrapes that failed or did not happen. Above 0 within a"
            " window, the cell is rejected. Runbook: monitoring/runbooks/samples-missing.md.",
            Query(MISSING, "{{job}}", due="always"),
            unit="percentunit",
            max=1,
            steps=limits("samples_missing_ratio"),
        ),
        lines(
            "Scrape duration",
            "Above the job's interval of 2 or 5 s, scrapes are lost.",
            _plain("scrape_duration_seconds", "{{job}}"),
            unit="s",
        ),
        lines(
            "Duration by collector",
            "Inside Poolscope's exporter. postgres or pgbouncer high: that server is slow to answer"
            " even to its monitoring.",
            _plain("collector_duration_seconds", "{{collector}}"),
            unit="s",
        ),
        lines(
            "Recording rules",
            "How long one evaluation of all rules takes; it has to stay far below its interval of"
            " 2 s.",
            _plain("rules_duration_seconds", "all rules"),
            unit="s",
        ),
    ),
)

GENERATOR = Row(
    "Load generator",
    (
        lines(
            "CPU of the busiest process",
            "Over one core. Near 1 the generator measures itself; above the line a cell is"
            " rejected. Runbook: monitoring/runbooks/load-generator-or-host.md.",
            _plain("generator_cpu_ratio", "busiest process"),
            unit="percentunit",
            steps=limits("generator_cpu_ratio"),
        ),
        lines(
            "Little's law",
            "Requests per second times mean latency over users. Near 1: every user always waits"
            " for an answer. Below: the generator loses time between requests. During a ramp it"
            " is off by nature.",
            _plain("littles_law_ratio", "X R / N"),
            steps=limits("littles_law_ratio"),
            max=1.2,
        ),
        lines(
            "Counted by client and by server",
            "They lie on each other; their totals over a cell may differ by 0.5% at most.",
            _plain("client_requests_per_second", "client"),
            _plain("server_requests_per_second", "server"),
            unit="reqps",
        ),
    ),
)

HOST = Row(
    "Host",
    (
        lines(
            "CPU of the host",
            "All cores together. Near 1 services, generator and database take CPU from each other,"
            " and limits mean little.",
            _plain("host_cpu_busy_ratio", "busy"),
            unit="percentunit",
            max=1,
            width=6,
        ),
        lines(
            "Steal",
            "CPU that the hypervisor gave to other machines. Above 1% a cell is rejected: its"
            " figures are of the neighbours.",
            _plain("host_cpu_steal_ratio", "steal"),
            unit="percentunit",
            steps=limits("host_cpu_steal_ratio"),
            width=6,
        ),
        lines(
            "CPU of the instrument",
            "In cores: what the exporters, Prometheus and the generator take of this host.",
            _plain("instrument_cpu_cores", "{{job}}"),
            stack=True,
            width=6,
        ),
        lines(
            "Load of the host",
            "Processes that run or want to, on average over a minute. Above the number of cores,"
            " something waits.",
            _plain("host_load", "load"),
            width=6,
        ),
    ),
)

MONITORING = Dashboard(
    "poolscope-monitoring",
    "Poolscope: monitoring",
    "Whether the measuring can be trusted: no gaps, a generator with CPU to spare, a host that is"
    " ours alone.",
    (SCRAPES, GENERATOR, HOST, runbooks.row()),
    chosen=CHOSEN_RUN,
)
