"""What a signal is, and how often figures are read; the signals themselves: `signals.py`.

A ratio is 0 to 1, a time is in seconds. A signal without data has no series: a division by a rate
of 0 is written `a / (b > 0)`, which gives nothing, where `a / b` would give NaN.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

#: When a signal has data: at any time, on the route through PgBouncer, or while load is running
#: (and for `pgbouncer load` both).
Due = Literal["always", "pgbouncer", "load", "pgbouncer load"]
Job = Literal["service", "poolscope", "locust", "postgres", "prometheus"]

#: How often each job is scraped, in seconds; the stack fills `prometheus.yml` with it. A scrape of
#: postgres_exporter costs the database 6 to 10 times what one of Poolscope's own exporter does.
SCRAPE_INTERVAL_S: dict[Job, int] = {
    "service": 2,
    "poolscope": 2,
    "locust": 2,
    "postgres": 5,
    "prometheus": 5,
}
#: Windows of rate(): at least four scrapes, so that one lost sample leaves a rate.
WINDOW_S: dict[Job, int] = {job: max(10, 4 * s) for job, s in SCRAPE_INTERVAL_S.items()}
#: How often recording rules are evaluated, in seconds.
EVALUATION_INTERVAL_S = 2

VALIDITY_GATE = "validity gate of a cell"
RECORD_PREFIX = "poolscope:"
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "by", "on", "without", "ignoring"})
_LABEL_LISTS = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)")
_NOT_NAMES = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]')
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w*\s*\()")


@dataclass(frozen=True)
class Signal:
    """One figure that can be watched.

    `threshold` is the value beyond which (or, if `low_is_bad`, below which) it tells against the
    measured system or the measurement, where one is known; `threshold_source` says from where.
    """

    name: str
    expr: str
    unit: str
    meaning: str
    due: Due = "always"
    threshold: float | None = None
    threshold_source: str | None = None
    low_is_bad: bool = False

    @property
    def record(self) -> str:
        """The name of its recording rule."""
        return RECORD_PREFIX + self.name

    @property
    def metrics(self) -> frozenset[str]:
        """The names of all metrics that the expression reads."""
        bare = _LABEL_LISTS.sub(" ", _NOT_NAMES.sub(" ", self.expr))
        return frozenset(_NAME.findall(bare)) - _WORDS

    def over(self, window: str) -> str:
        """Return the expression with another window, such as `30s` or `$__rate_interval`.

        A window that is counted in scrapes (samples_missing_ratio) stays as it is.
        """
        windows = "|".join(sorted({str(seconds) for seconds in WINDOW_S.values()}))
        return re.sub(rf"\[(?:{windows})s\]", lambda _: f"[{window}]", self.expr)


def with_cell(expr: str, *labels: str) -> str:
    """Return the expression with labels of the measured cell, such as `framework` and `route`.

    Gives nothing between cells.
    """
    names = ", ".join(labels)
    return f"({expr}) * on() group_left({names}) max by ({names}) (lab_cell_info)"
