"""`report.html` of a ladder: the whole run in one file, for a browser without network."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab import page
from lab.ladder import records, summary
from lab.ladder.markdown import COSTS, figure, times
from lab.ladder.records import RungRecord
from lab.ladder.summary import Ladder, Line
from lab.report import wording
from lab.report.web_tables import DOUBTED, Cell, Table, pairs

HERE = Path(__file__).parent
NAMES = {"ladder.png": "Rows per second of every rung, and its ratio to the first",
         "ladder_bottleneck.png": "Where the time of a write goes, rung by rung"}  # fmt: skip


def render(view: Ladder, pictures: Mapping[str, bytes]) -> str:
    """Return the page; `pictures` are PNG by file name."""
    m = view.manifest
    charts: dict[str, Any] = {}
    for line in view.rungs:
        for record in line.records:
            if record.measured is not None and len(record.measured.timeline) > 1:
                charts[f"t-{record.cell_id}"] = _timeline(record)
    facts = [wording.moment(m.started_at)]
    if m.finished_at:
        facts.append(wording.duration(m.finished_at - m.started_at))
    facts += [f"stack {m.stack}", wording.hardware(m), records.cpu_limit(m)]
    return page.render(
        "ladder.html.j2",
        f"run {m.run_id}",
        {"name": m.run_id, "panels": charts},
        facts=facts,
        folder=HERE,
        view=view,
        m=m,
        wording=wording,
        charts_of=charts,
        pictures=[(NAMES[name], _inline(png)) for name, png in pictures.items()],
        headlines=[(n, times(ratio)) for n, ratio in view.headlines() if ratio is not None],
        tables={
            "ladder": _ladder(view),
            "costs": _costs(view),
            "verdicts": _verdicts(view),
            "promises": _promises(view),
            "versions": pairs("Versions", ("program", "version"), dict(m.versions)),
        },
    )


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _figure(value: float | None, text: Callable[[float], str] = wording.number) -> Cell:
    return Cell(wording.MISSING) if value is None else Cell(text(value), value)


def _shown(line: Line, name: str, text: Callable[[float], str] = wording.number) -> Cell:
    """Return a line's figure; one of rejected measurements has no value to be sorted by."""
    words = figure(line, name, text)
    if words.endswith(wording.DOUBTED):
        return Cell(words, kind=DOUBTED)
    return _figure(line.mean(name), text)


def _ladder(view: Ladder) -> Table:
    headings = ("rung", "method", "rows/s", "x rung 1", "of \\copy", "mean ms", "P95 ms",
                "durability", "limited by", "status")  # fmt: skip
    rows = [
        [
            Cell(line.name),
            Cell(line.any.method),
            _shown(line, "rows_per_s"),
            _figure(view.ratio(line, summary.FIRST), times),
            _figure(view.ratio(line, records.COPY_CEILING), wording.percent),
            _shown(line, "latency_mean_ms"),
            _shown(line, "latency_p95_ms"),
            Cell(line.any.durability, kind="" if line.durable else "bad"),
            Cell(line.verdict.limit if line.verdict else ""),
            Cell(line.status, kind="" if line.accepted else "bad"),
        ]
        for line in view.lines
    ]
    return Table("The ladder", headings, rows, 2, frozenset({7, 8, 9}))


def _costs(view: Ladder) -> Table:
    rows = [
        [Cell(line.name), *(_shown(line, name, text) for _, name, text in COSTS)]
        for line in view.rungs
        if line.measured
    ]
    return Table("What each rung costs", ("rung", *(heading for heading, _, _ in COSTS)), rows, 1)


def _verdicts(view: Ladder) -> Table:
    rows = [
        [Cell(line.name), Cell(v.limit), Cell(v.next_step or ""), Cell("; ".join(v.evidence))]
        for line in view.rungs
        if (v := line.verdict) is not None
    ]
    headings = ("rung", "limited by", "what the next rung removes", "evidence")
    return Table("What limits each rung", headings, rows, 4)


def _promises(view: Ladder) -> Table:
    headings = ("rung", "promise", "acknowledged rows", "rows in the table", "answer lost", "check")
    return Table("What was promised", headings, [_promise(line) for line in view.lines], 2,
                 frozenset({5}))  # fmt: skip


def _promise(line: Line) -> list[Cell]:
    checked = [r.verification for r in line.records if r.verification is not None]
    if not checked:
        missing = Cell(wording.MISSING)
        return [Cell(line.name), Cell(line.any.durability), missing, missing, missing, Cell("")]
    counts = [
        sum(getattr(v, name) for v in checked)
        for name in ("acknowledged_rows", "in_table", "unknown_rows")
    ]
    right = all(v.right for v in checked)
    return [
        Cell(line.name),
        Cell(line.any.durability),
        *(Cell(f"{count:,}", count) for count in counts),
        Cell("equal" if right else "NOT EQUAL", kind="" if right else "bad"),
    ]


def _timeline(record: RungRecord) -> dict[str, Any]:
    """Return acknowledged rows by the second as a panel of the page."""
    assert record.measured is not None
    points = record.measured.timeline
    return {
        "type": "timeseries", "title": "Acknowledged rows per second", "at": [0, 0, 12, 6],
        "text": "Seconds of the window, all processes of the generator.",
        "config": {"unit": "short", "min": 0, "custom": {"fill": 4}}, "tables": [],
        "options": {"calc": "mean"}, "group": record.cell_id,
        "grid": [points[0]["t"], 1.0, len(points)],
        "series": [{"name": "rows/s", "at": 0, "values": [point["rows"] for point in points]}],
    }  # fmt: skip
