"""What an alert is, and pieces that several are made of; the alerts themselves: `alerts.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from monitoring.signals import BY_NAME
from monitoring.slo import LATE_BUDGET

Severity = Literal["critical", "warning", "info"]
Part = Literal["service", "pgbouncer", "postgres", "instrument"]
RUNBOOKS = "monitoring/runbooks"


@dataclass(frozen=True)
class Alert:
    """One alert; `source` says where its threshold comes from, `page` is its runbook's slug."""

    name: str
    expr: str
    for_s: int
    severity: Severity
    part: Part
    summary: str
    page: str
    source: str

    @property
    def runbook(self) -> str:
        """The path of its page, from the root of the project."""
        return f"{RUNBOOKS}/{self.page}.md"


def record(name: str) -> str:
    """Return the recorded series of a signal, which has to exist."""
    return BY_NAME[name].record


def beyond(name: str, selector: str = "") -> str:
    """Return a signal compared with its own threshold."""
    signal = BY_NAME[name]
    sign = "<" if signal.low_is_bad else ">"
    return f"{signal.record}{selector} {sign} {signal.threshold:g}"


def source(name: str) -> str:
    """Return where a signal's own threshold comes from."""
    return str(BY_NAME[name].threshold_source)


def current(name: str, form: str) -> str:
    """Return template text for the present value of another signal, if it has one."""
    return f'{{{{ with query "{record(name)}" }}}}{{{{ . | first | value | {form} }}}}{{{{ end }}}}'


def late_share(window: str) -> str:
    """Return the share of late requests in a window, weighted by the requests of each moment."""
    late, all_ = record("server_late_requests_per_second"), record("server_requests_per_second")
    return f"avg_over_time({late}[{window}]) / (avg_over_time({all_}[{window}]) > 0)"


def burning(factor: float, long: str, short: str) -> str:
    """Return the condition that the budget burns `factor` times too fast, in both windows."""
    share = f"{factor * LATE_BUDGET:g}"
    return f"{late_share(long)} > {share} and on() {late_share(short)} > {share}"
