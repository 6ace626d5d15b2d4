"""`summary_report.md`: the run's facts, result first; every figure comes from the records."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2

from lab.diagnosis import diagnose_record
from lab.report import wording
from lab.report.groups import Group, View
from lab.results import CellRecord, Manifest
from lab.stats import Estimate

TEMPLATE = Path(__file__).with_name("summary_report.md.j2")
CAPTIONS = {
    "rps_comparison.png": "Requests per second of every combination",
    "p95_latency_comparison.png": "P95 latency of every combination",
    "connections_per_request.png": "New connections per request",
    "latency_budget.png": "Where the time of a request goes, as shares of its mean latency",
    "cpu_share.png": "CPU used by PostgreSQL, service, PgBouncer and load generator",
}


def render(view: View, plots: Sequence[str], section: str = "") -> str:
    """Return the report; `plots` are the file names of the pictures that were drawn.

    `section` is what an experiment has to say, in Markdown.
    """
    loader = jinja2.FileSystemLoader(TEMPLATE.parent)
    # Markdown, not HTML: what comes from outside goes through the filter `cell`.
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["cell"] = cell
    environment.globals["wording"] = wording
    return environment.get_template(TEMPLATE.name).render(
        view=view,
        m=view.manifest,
        section=section,
        **_tables(view),
        missing=_missing(view),
        unknown_ceilings=[c for c in view.manifest.ceilings if c.tps is None],
        overview=_named(plots, "rps_comparison", "p95_latency"),
        along=[(name, _along(name)) for name in plots if name.startswith("rps_over")],
        inside=_named(plots, "cpu_share", "connections"),
        budget=_named(plots, "latency_budget"),
    )


def cell(value: object) -> str:
    """Make a value safe for one cell of a Markdown table."""
    text = " ".join(str(value).split())
    for char, code in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|")):
        text = text.replace(char, code)
    return text


def table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], words: int, *, last: bool = False
) -> str:
    """Return a Markdown table: `words` columns of text, numbers, and a `last` one of text."""
    if not rows:
        return "None.\n"
    texts = {*range(words), len(headings) - 1} if last else set(range(words))
    rule = ["---" if place in texts else "---:" for place in range(len(headings))]
    lines = [headings, rule, *([cell(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _tables(view: View) -> dict[str, str]:
    return {
        "results": _results(view),
        "changes": _changes(view),
        "verdicts": verdicts(view.manifest, view.records),
        "rejected": _rejected(view),
        "ceilings": _ceilings(view),
        "closeness": _closeness(view),
        "latency": _latency(view),
        "processors": _processors(view),
    }


def verdicts(manifest: Manifest, records: Sequence[CellRecord]) -> str:
    """Return a table of each cell's verdict, what to change, and what that should bring."""
    rows = []
    for record in records:
        found = diagnose_record(record, manifest)
        remedy, predicted = found.remedy, found.prediction
        rows.append([
            f"`{record.cell_id}`",
            found.label,
            f"{found.sureness} ({found.confidence:.2f})",
            found.summary,
            "" if remedy is None else f"`{remedy.text}`" if remedy.text else remedy.words,
            "" if predicted is None else f"{wording.number(predicted.rps)} RPS "
            f"({wording.number(predicted.rps_low)} to {wording.number(predicted.rps_high)})",
            "" if predicted is None else predicted.then,
        ])  # fmt: skip
    headings = ["cell", "verdict", "confidence", "why", "remedy", "should bring", "then"]
    return table(headings, rows, words=len(headings))


def _identity(view: View, group: Group, *, route: bool = True) -> list[str]:
    names = ["FRAMEWORK", *(["ROUTE"] if route else []), "USERS"]
    first = [wording.framework(group.axes["FRAMEWORK"])]
    first += [wording.value(group.axes[name]) for name in names[1:]]
    return first + [wording.value(value) for _, value in view.labelled(group)]


def _headings(view: View, *, route: bool = True) -> list[str]:
    return ["framework", *(["route"] if route else []), "users",
            *map(wording.toggle, view.varying)]  # fmt: skip


def spread(estimate: Estimate | None, text: Callable[[float], str] = wording.number) -> str:
    """Return "1,134 (1,100 to 1,170)", without the interval where there is none."""
    if estimate is None:
        return wording.MISSING
    if estimate.low is None or estimate.high is None:
        return text(estimate.value)
    return f"{text(estimate.value)} ({text(estimate.low)} to {text(estimate.high)})"


def _interval(group: Group, name: str) -> str:
    """Return a mean with its interval; what rejected cells read, marked, where there is none."""
    found = group.estimate(name)
    return wording.figure(group, name) if found is None else spread(found)


def _grid(
    view: View, columns: Sequence[tuple[str, Callable[[Group], object]]], *, status: bool = False
) -> str:
    """Return a table with one line per combination that has any figure, or per any."""
    groups = [group for group in view.groups if group.measured or status]
    headings = [*_headings(view), *(name for name, _ in columns)]
    rows = [[*_identity(view, g), *(value(g) for _, value in columns)] for g in groups]
    return table(headings, rows, words=len(_headings(view)), last=status)


def _column(name: str, field: str, text: Callable[[float], str] = wording.number) -> Any:
    return name, functools.partial(wording.figure, name=field, text=text)


def _results(view: View) -> str:
    percent = wording.percent
    columns = [
        ("n", lambda g: len(g.accepted)),
        ("RPS", lambda g: _interval(g, "rps")),
        _column("P50 ms", "p50_ms"),
        ("P95 ms", lambda g: _interval(g, "p95_ms")),
        _column("P99 ms", "p99_ms"),
        _column("errors", "error_rate", percent),
        _column("new conn./request", "new_connections_per_request", wording.per_request),
        _column("pool wait ms", "pool_wait_ms"),
        _column("DB CPU", "db_cpu", percent),
        _column("app CPU", "app_cpu", percent),
        _column("PgBouncer CPU", "pgbouncer_cpu", percent),
        _column("DB throttled", "db_throttled", percent),
        ("status", lambda g: g.status),
    ]
    return _grid(view, columns, status=True)


def _latency(view: View) -> str:
    names = {
        "client mean": "mean_ms", "service mean": "server_mean_ms", "pool wait": "pool_wait_ms",
        "connecting": "connect_ms", "statement": "statement_ms",
    }  # fmt: skip
    columns = [_column(name, field) for name, field in names.items()]
    columns += [("rest of the service", _rest)]
    columns += [_column("in PostgreSQL", "executed_mean_ms")]
    columns += [_column("PgBouncer wait", "pgbouncer_wait_ms")]
    return _grid(view, columns)


def _rest(group: Group) -> str:
    """Return the service's time beside pool wait, connecting and statement."""
    parts = [group.reading(n) for n in ("pool_wait_ms", "connect_ms", "statement_ms")]
    whole = group.reading("server_mean_ms")
    known = [part for part in parts if part is not None]
    if whole is None or len(known) < len(parts):
        return wording.MISSING
    rest = wording.number(whole - sum(known))
    return rest if group.accepted else wording.doubted(rest)


def _processors(view: View) -> str:
    names = {
        "PostgreSQL": "db_cpu", "throttled, PostgreSQL": "db_throttled", "service": "app_cpu",
        "throttled, service": "app_throttled", "PgBouncer": "pgbouncer_cpu",
        "throttled, PgBouncer": "pgbouncer_throttled", "load generator": "generator_cpu",
        "host": "host_cpu", "steal": "steal",
    }  # fmt: skip
    return _grid(view, [_column(name, field, wording.percent) for name, field in names.items()])


def _changes(view: View) -> str:
    rows = []
    for change in view.changes():
        rps = change.ratios["rps"]
        rows.append([
            *_identity(view, change.direct, route=False),
            wording.figure(change.direct, "rps"),
            wording.figure(change.pgbouncer, "rps"),
            spread(rps, _times),
            spread(change.ratios["p95_ms"], _times),
            rps.n if rps else 0,
        ])  # fmt: skip
    headings = _headings(view, route=False)
    more = ["RPS direct", "RPS through PgBouncer", "RPS ratio", "P95 ratio", "pairs"]
    return table([*headings, *more], rows, words=len(headings))


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x"


def _rejected(view: View) -> str:
    rows = [(f"`{r.cell_id}`", "; ".join(r.reject_reasons) or "no reason") for r in view.rejected]
    return table(["cell", "reason"], rows, words=2)


def _ceilings(view: View) -> str:
    several = len({c.scenario for c in view.manifest.ceilings}) > 1
    rows = [
        (*([c.scenario] if several else []), c.route, c.protocol, c.clients,
         wording.number(c.tps) if c.tps else wording.MISSING,
         wording.MISSING if c.latency_ms is None else wording.number(c.latency_ms), c.reason or "")
        for c in view.manifest.ceilings
    ]  # fmt: skip
    headings = ["route", "protocol", "clients", "transactions/s", "mean ms", "why not"]
    if several:
        headings = ["scenario", *headings]
    return table(headings, rows, words=2 + several, last=True)


def _closeness(view: View) -> str:
    """Return each framework's, route's and scenario's best throughput as a share of pgbench's."""
    best: dict[tuple[str, str, str], Group] = {}
    for group in view.groups:
        key = group.axes["FRAMEWORK"], group.axes["ROUTE"], view.scenario(group)
        rps = group.mean("rps")
        if rps is not None and (key not in best or rps > (best[key].mean("rps") or 0)):
            best[key] = group
    known = {(c.scenario, c.route, c.protocol): c.tps for c in view.ceilings()}
    protocols = list(dict.fromkeys(c.protocol for c in view.ceilings()))
    rows = []
    for (_, route, scenario), group in best.items():
        rps = group.mean("rps") or 0
        shares = [known.get((scenario, route, protocol)) for protocol in protocols]
        rows.append([
            *_identity(view, group),
            wording.number(rps),
            *(wording.percent(rps / tps) if tps else wording.MISSING for tps in shares),
        ])  # fmt: skip
    headings = _headings(view)
    more = ["best RPS", *(f"of pgbench {protocol}" for protocol in protocols)]
    return table([*headings, *more], rows, words=len(headings)) if protocols else ""


def _missing(view: View) -> list[tuple[str, str, int]]:
    """Return (field, reason, cells) of each value that could not be measured."""
    found: dict[tuple[str, str], int] = {}
    for record in view.records:
        for field, reason in (record.measurement.missing if record.measurement else {}).items():
            found[field, reason] = found.get((field, reason), 0) + 1
    return [(field, reason, count) for (field, reason), count in sorted(found.items())]


def _named(plots: Sequence[str], *starts: str) -> list[tuple[str, str]]:
    return [(p, CAPTIONS[p]) for start in starts for p in plots if p.startswith(start)]


def _along(name: str) -> str:
    axis = name.removeprefix("rps_over_").removesuffix(".png")
    return f"Throughput and P95 latency over {wording.toggle(axis)}"
