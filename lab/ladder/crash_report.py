"""What the crashes showed, as `crash.csv` and `summary_report.md`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.console import Console

from lab.ladder.records import RungRecord
from lab.report import wording
from lab.report.markdown import table
from lab.results import Manifest

COLUMNS = (
    *("rung", "method", "durability", "status", "acknowledged_rows", "rows_in_table"),
    *("lost_rows", "lost_oldest_ms", "unknown_rows", "unknown_written", "refused_rows"),
    *("torn_writes", "recovery_s", "reject_reason"),
)


def files(manifest: Manifest, records: Sequence[RungRecord]) -> dict[str, str | bytes]:
    """Return each file of the report by its name."""
    ordered = in_order(manifest, records)
    return {"crash.csv": _csv(ordered), "summary_report.md": _markdown(manifest, ordered)}


def in_order(manifest: Manifest, records: Sequence[RungRecord]) -> list[RungRecord]:
    """Return the records from the ladder's bottom up."""
    order = manifest.axes.get("RUNG", [])
    return sorted(records, key=lambda r: (order.index(r.rung), r.repetition))


def _csv(records: Sequence[RungRecord]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for r in records:
        v = r.verification
        recovery = r.phases_s.get("crash and recovery")
        figures: list[object] = [""] * 8
        if v is not None:
            oldest = "" if v.lost_oldest_ms is None else f"{v.lost_oldest_ms:.1f}"
            figures = [v.acknowledged_rows, v.in_table, v.lost_rows, oldest, v.unknown_rows,
                       v.unknown_written, v.refused_rows, v.torn_writes]  # fmt: skip
        writer.writerow(
            [r.rung, r.method, r.durability, r.status, *figures,
             "" if recovery is None else f"{recovery:.2f}", "; ".join(r.reject_reasons)]
        )  # fmt: skip
    return text.getvalue()


def _markdown(manifest: Manifest, records: Sequence[RungRecord]) -> str:
    rows = [
        [f"`{r.rung}`", r.durability, *cells(r), "kept" if r.status == "accepted" else "BROKEN"]
        for r in records
    ]
    headings = ["rung", "promise", "acknowledged", "in the table", "lost", "oldest lost",
                "answer lost", "of them written", "promise"]  # fmt: skip
    rejected = [(f"`{r.cell_id}`", "; ".join(r.reject_reasons)) for r in records
                if r.status == "rejected"]  # fmt: skip
    return "\n".join(
        [
            f"# The write ladder's crash test, run `{manifest.run_id}`",
            "",
            f"    {manifest.command}",
            "",
            f"{wording.hardware(manifest)}; PostgreSQL {manifest.versions.get('postgres', '?')}. "
            "On each rung PostgreSQL's postmaster and all its backends were ended with SIGKILL in "
            "mid-write, and PostgreSQL was started again while the writer went on trying.",
            "",
            table(headings, rows, words=2, last=True),
            "Rows. *Lost*: acknowledged, and not there after recovery; *oldest lost*: how long "
            "before the crash the oldest of them was acknowledged. *Answer lost*: of writes that "
            "were under way, not tried again; whether they were written, their ids in the table "
            "say. In an unlogged table only rows written after the crash remain.",
            "",
            "Killing PostgreSQL is no power loss: what it handed to the operating system survives. "
            "So this shows that nothing is acknowledged before it left PostgreSQL's memory, and "
            "not that the disk keeps it.",
            "",
            "## Broken promises and failed tests",
            "",
            table(["cell", "reason"], rejected, words=2),
        ]
    )


def cells(r: RungRecord) -> list[str]:
    """Return a record's figures as text."""
    v = r.verification
    if v is None:
        return [wording.MISSING] * 6
    oldest = "" if v.lost_oldest_ms is None else f"{v.lost_oldest_ms:.0f} ms"
    return [f"{v.acknowledged_rows:,}", f"{v.in_table:,}", f"{v.lost_rows:,}", oldest,
            f"{v.unknown_rows:,}", f"{v.unknown_written:,}"]  # fmt: skip


def show(records: Sequence[RungRecord], console: Console) -> None:
    """Print one line per rung."""
    for r in records:
        console.print(line(r), highlight=False, soft_wrap=True)


def line(r: RungRecord) -> str:
    """Return one line on a crash."""
    v = r.verification
    mark = "kept" if r.status == "accepted" else f"REJECTED: {'; '.join(r.reject_reasons)}"
    if v is None:
        return f"{r.rung:<11} {mark}"
    oldest = "" if v.lost_oldest_ms is None else f" (oldest {v.lost_oldest_ms:.0f} ms before)"
    return (
        f"{r.rung:<11} {v.acknowledged_rows:>10,} acknowledged, {v.lost_rows:,} lost{oldest}, "
        f"{v.unknown_rows:,} unknown of which {v.unknown_written:,} written; {r.durability}: {mark}"
    )
