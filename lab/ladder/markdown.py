"""`summary_report.md` of a ladder: result first; every figure comes from the records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import jinja2

from lab.ladder import records, summary
from lab.ladder.summary import Ladder, Line
from lab.report import wording
from lab.report.markdown import cell, spread, table

TEMPLATE = Path(__file__).with_name("ladder_report.md.j2")
#: What each rung costs: heading, field of a measurement, how it is written.
COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("commits/s", "commits_per_s", wording.number),
    ("us/row", "row_us", wording.number),
    ("statements/row", "statements_per_row", wording.per_request),
    ("WAL bytes/row", "wal_bytes_per_row", wording.number),
    ("WAL MB/s", "wal_mb_per_s", wording.number),
    ("new connections", "new_connections", wording.number),
    ("connect ms", "connect_ms", wording.number),
    ("generator, of a core", "generator_cpu", wording.percent),
    ("database cores", "db_cores", wording.number),
    ("PgBouncer cores", "pgbouncer_cores", wording.number),
    ("host", "host_cpu", wording.percent),
    ("errors", "error_rate", wording.percent),
)


def render(view: Ladder, plots: Sequence[str]) -> str:
    """Return the report; `plots` are the file names of the pictures that were drawn."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["cell"] = cell
    return environment.get_template(TEMPLATE.name).render(
        view=view,
        m=view.manifest,
        wording=wording,
        plots=plots,
        headlines=_headlines(view),
        ladder=_ladder(view),
        verdicts=_verdicts(view),
        costs=_costs(view),
        promises=_promises(view),
        rejected=_rejected(view),
        generator=_generator(view),
        notes=[*view.manifest.notes, *(f"{r.cell_id}: {note}" for line in view.lines
                                       for r in line.records for note in r.notes)],
    )  # fmt: skip


def _text(value: float | None, text: Callable[[float], str] = wording.number) -> str:
    return wording.MISSING if value is None else text(value)


def figure(line: Line, name: str, text: Callable[[float], str] = wording.number) -> str:
    """Return a mean as text, marked where only rejected measurements have it."""
    found = _text(line.reading(name), text)
    return found if line.accepted or found == wording.MISSING else wording.doubted(found)


def times(ratio: float) -> str:
    """Return a ratio as 3.5x or 1,200x."""
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"


def _megabytes(size: float) -> str:
    return wording.number(size / 2**20)


def _headlines(view: Ladder) -> str:
    rows = [(name, _text(ratio, times)) for name, ratio in view.headlines()]
    return table(["ratio", "found"], rows, words=1)


def _ladder(view: Ladder) -> str:
    rows = []
    for line in view.lines:
        verdict = line.verdict
        limit = verdict.limit if verdict else ""
        rows.append([
            f"`{line.name}`", line.any.method,
            spread(line.estimate) if line.accepted else figure(line, "rows_per_s"),
            _text(view.ratio(line, summary.FIRST), times),
            _text(view.ratio(line, records.COPY_CEILING), wording.percent),
            figure(line, "latency_mean_ms"), figure(line, "latency_p95_ms"),
            line.any.durability, limit, line.status,
        ])  # fmt: skip
    headings = ["rung", "method", "rows/s", "x rung 1", "of \\copy", "mean ms", "P95 ms",
                "durability", "limited by", "status"]  # fmt: skip
    return _aligned(headings, rows, right={2, 3, 4, 5, 6})


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[object]], right: set[int]) -> str:
    rule = ["---:" if place in right else "---" for place in range(len(headings))]
    lines = [headings, rule, *([cell(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _verdicts(view: Ladder) -> str:
    rows = []
    for line in view.rungs:
        if (verdict := line.verdict) is not None:
            next_step = verdict.next_step or ""
            rows.append([f"`{line.name}`", verdict.limit, "; ".join(verdict.evidence), next_step])
    return _aligned(["rung", "limited by", "evidence", "what the next rung removes"], rows, set())


def _costs(view: Ladder) -> str:
    rows = [
        [f"`{line.name}`", *(figure(line, name, text) for _, name, text in COSTS)]
        for line in view.rungs
        if line.measured
    ]
    return table(["rung", *(heading for heading, _, _ in COSTS)], rows, words=1)


def _promises(view: Ladder) -> str:
    rows = []
    for line in view.lines:
        checked = [r.verification for r in line.records if r.verification is not None]
        if not checked:
            continue
        rows.append([
            f"`{line.name}`", line.any.durability,
            f"{sum(v.acknowledged_rows for v in checked):,}",
            f"{sum(v.in_table for v in checked):,}",
            f"{sum(v.unknown_rows for v in checked):,}",
            "equal" if all(v.right for v in checked) else "NOT EQUAL",
        ])  # fmt: skip
    headings = ["rung", "promise", "acknowledged rows", "rows in the table", "answer lost", "check"]
    return _aligned(headings, rows, right={2, 3, 4})


def _generator(view: Ladder) -> str:
    rows = []
    for line in view.rungs:
        rows.append([
            f"`{line.name}`", line.any.client, line.any.batch,
            f"{line.any.processes} x {line.any.pool}", line.any.lanes,
            figure(line, "generator_memory_bytes", _megabytes), figure(line, "open_s"),
            figure(line, "making_us_per_row"), figure(line, "row_us"),
        ])  # fmt: skip
    headings = ["rung", "client", "rows per write", "processes x connections", "writes at once",
                "memory MB", "opening s", "keys us/row", "write us/row"]  # fmt: skip
    return table(headings, rows, words=2)


def _rejected(view: Ladder) -> str:
    rows = [
        (f"`{record.cell_id}`", "; ".join(record.reject_reasons) or "no reason")
        for line in view.lines
        for record in line.records
        if record.status == "rejected"
    ]
    return table(["cell", "reason"], rows, words=2)
