"""Panels to frames: each query of a dashboard asked of Prometheus, once, some at a time.

One evaluator for the snapshot of a run, Grafana's snapshot model and the live page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import httpx

from lab.prometheus import Prometheus, QueryRefused
from lab.snapshot import marks as regions
from lab.snapshot import transform
from lab.snapshot.dashboards import SILENT, Dashboard, annotation_expr, filled, targets
from lab.snapshot.frames import (
    DashboardData,
    PanelData,
    Series,
    Span,
    Table,
    number,
    on_grid,
)
from monitoring.signals import EVALUATION_INTERVAL_S, WINDOW_S

#: Most points of a series: more than a wide screen has pixels for.
MAX_POINTS = 1000
#: Queries asked at a time.
AT_ONCE = 6
#: A rate over this long has four scrapes of every job in it.
RATE_INTERVAL_S = max(WINDOW_S.values())

#: `$1` is none: it stands for a group in label_replace.
_VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$([A-Za-z_]\w*)")


def span(start: float, end: float) -> Span:
    """Return a stretch of time with the finest grid that is worth having, at whole seconds."""
    length = max(1.0, end - start)
    step = max(EVALUATION_INTERVAL_S, math.ceil(length / MAX_POINTS))
    first = math.floor(start / step) * step
    return Span(first, first + math.floor((end - first) / step) * step, step)


@dataclass(frozen=True)
class Query:
    """A question to Prometheus; `at` asks for one moment, None for the whole span."""

    expr: str
    at: float | None


class Evaluator:
    """Asks one Prometheus; raises ServiceError where it does not answer."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(trust_env=False)
        self._prometheus = Prometheus(url, self._client)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def evaluate(
        self,
        dashboards: Sequence[Dashboard],
        over: Span,
        variables: Mapping[str, str],
        *,
        at: float | None = None,
        settled: float | None = None,
        instants_only: bool = False,
    ) -> dict[str, DashboardData]:
        """Return what each dashboard shows over a span, by uid; equal queries are asked once.

        Instant queries are asked for the moment `at`, else for the span's end. A result is
        published after its cell: queries that look back over the whole range are asked for the
        moment `settled`, later than those, where that is given.
        """
        wanted: dict[tuple[str, int], list[Query]] = {}
        marks: dict[tuple[str, str], Query] = {}
        at = over.end if at is None else at
        asking = _Asking(over, at, max(settled or at, at), variables)
        for dashboard in dashboards:
            for panel in _drawn(dashboard, instants_only):
                queries = [asking.query(target) for target in targets(panel)]
                wanted[dashboard.uid, panel["id"]] = queries
            for note in () if instants_only else dashboard.annotations:
                marks[dashboard.uid, note["name"]] = asking.query({"expr": annotation_expr(note)})
        asked = {q: over for queries in wanted.values() for q in queries}
        grid = regions.grid(over, asking.settled)
        asked |= dict.fromkeys(marks.values(), grid)
        answers = self._ask(asked)
        return {
            d.uid: DashboardData(
                {p["id"]: _panel(p, wanted[d.uid, p["id"]], answers, over)
                 for p in _drawn(d, instants_only)},
                {n["name"]: regions.of_answer(n, answers[marks[d.uid, n["name"]]], grid.step)
                 for n in d.annotations if (d.uid, n["name"]) in marks},
            )
            for d in dashboards
        }  # fmt: skip

    def _ask(self, queries: Mapping[Query, Span]) -> dict[Query, Any]:
        """Return each query's answer over its span, or the QueryRefused that it got."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures: dict[Query, Future[Any]] = {
                query: pool.submit(self._one, query, over) for query, over in queries.items()
            }
            try:
                return {query: future.result() for query, future in futures.items()}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _one(self, query: Query, over: Span) -> list[dict[str, Any]] | QueryRefused:
        try:
            if query.at is not None:
                found = self._prometheus.query(query.expr, query.at)
                # A scalar comes bare, as [unix_s, text].
                return [{"metric": {}, "value": found}] if _bare(found) else found
            return self._prometheus.query_range(query.expr, over.start, over.end, over.step)
        except QueryRefused as error:
            return error


def _bare(found: list[Any]) -> bool:
    return bool(found) and not isinstance(found[0], dict)


@dataclass(frozen=True)
class _Asking:
    """Turns targets into queries over one span."""

    over: Span
    at: float
    settled: float
    variables: Mapping[str, str]

    def query(self, target: Mapping[str, Any]) -> Query:
        expr = str(target["expr"])
        looks_back = bool(target.get("instant")) and "__range" in expr
        end = self.settled if looks_back else self.at
        length = max(1, math.ceil(end - self.over.start))
        values = {"__range": f"{length}s", "__rate_interval": f"{RATE_INTERVAL_S}s"}
        text = substituted(expr, {**values, **self.variables})
        return Query(text, end if target.get("instant") else None)


def substituted(expr: str, values: Mapping[str, str]) -> str:
    """Return an expression with its variables' values; one that is not given means all."""

    def value(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2], ".*")

    return _VARIABLE.sub(value, expr)


def legend(target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Return the name of a series as the panel's legend writes it."""
    text = str(target.get("legendFormat") or "")
    if text and text != "__auto":
        return filled(text, labels).strip() or "value"
    named = {n: v for n, v in labels.items() if n != "__name__"}
    if not named:
        return labels.get("__name__", "value")
    return ", ".join(named.values())


def _drawn(dashboard: Dashboard, instants_only: bool) -> list[dict[str, Any]]:
    panels = [p for p in dashboard.panels if p["type"] not in SILENT]
    return [p for p in panels if not instants_only or any(t.get("instant") for t in targets(p))]


def _panel(
    panel: Mapping[str, Any], queries: Sequence[Query], answers: Mapping[Query, Any], over: Span
) -> PanelData:
    series: list[Series] = []
    tables: list[Table] = []
    asked = targets(panel)
    for target, query in zip(asked, queries, strict=True):
        answer = answers[query]
        if isinstance(answer, QueryRefused):
            return PanelData(error=str(answer))
        ref = str(target.get("refId") or "A")
        if query.at is not None and target.get("format") == "table":
            value = f"Value #{ref}" if len(asked) > 1 else "Value"
            tables.append(transform.table_of(answer, ref, value, number))
        else:
            series += (_series(item, target, query, over) for item in answer)
    instant = bool(queries) and all(query.at is not None for query in queries)
    if not instant:
        series = [s if len(s.values) == over.points else _stretched(s, over) for s in series]
    data = PanelData(tuple(series), tuple(tables), instant)
    return transform.apply(data, panel.get("transformations") or ())


def _series(item: Mapping[str, Any], target: Mapping[str, Any], query: Query, over: Span) -> Series:
    values = (number(item["value"][1]),) if query.at is not None else on_grid(item["values"], over)
    labels = item["metric"]
    return Series(str(target.get("refId") or "A"), legend(target, labels), labels, values)


def _stretched(series: Series, over: Span) -> Series:
    """Put an instant value beside series over time: it belongs to the last moment."""
    return replace(series, values=(*(None,) * (over.points - 1), *series.values))
