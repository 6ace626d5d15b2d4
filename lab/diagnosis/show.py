"""A diagnosis as a person reads it: verdict, why, where the time goes, what to change."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lab.diagnosis.budget import leaves
from lab.diagnosis.model import Budget, Diagnosis, Prediction, Resource
from lab.diagnosis.verdicts.base import figure

#: Okabe and Ito's colours by the part of the budget; the letters tell them apart without colour.
PART_STYLES = {
    "outside": ("o", "#999999"), "pool-wait": ("w", "#E69F00"), "connecting": ("c", "#D55E00"),
    "executing": ("x", "#0072B2"), "committing": ("k", "#F0E442"),
    "pgbouncer-wait": ("p", "#CC79A7"), "database-rest": ("t", "#56B4E9"),
    "database": ("d", "#56B4E9"), "own": ("s", "#009E73"),
}  # fmt: skip
MARKS = {"limits": "YES", "symptom": "symptom", "ruled out": "no", "unknown": "?"}
STYLES = {"limits": "bold red", "symptom": "yellow", "ruled out": "green", "unknown": "dim"}


def show(found: Diagnosis, console: Console, *, whole: bool = True) -> None:
    """Print a diagnosis; without `whole` its headline and remedy only."""
    colour = "green" if found.verdict == "not-saturated" else "red"
    colour = "yellow" if found.verdict == "unclear" else colour
    console.print(
        f"[bold]{escape(found.subject)}[/]: [bold {colour}]{found.label}[/]"
        f" (confidence {found.sureness}, {found.confidence:.2f})",
        highlight=False,
    )
    console.print(f"  {escape(found.summary)}", highlight=False)
    for note in found.notes:
        console.print(f"  [yellow]note:[/] {escape(note)}", highlight=False)
    if whole:
        _candidates(found, console)
        _budget(found.budget, console)
        _demand(found, console)
    _advice(found, console)


def _candidates(found: Diagnosis, console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 1), title_justify="left")
    for name in ("  candidate", "", "why"):
        table.add_column(name, no_wrap=name != "why", overflow="fold")
    for one in found.candidates:
        mark = Text(MARKS[one.state], STYLES[one.state])
        table.add_row(f"  {one.label}", mark, Text(one.why))
    console.print()
    console.print(table)
    rows = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in ("  evidence", "value", "threshold", ""):
        rows.add_column(name, overflow="fold", justify="right" if name in VALUES else "left")
    for row in found.evidence:
        rows.add_row(
            Text(f"  {row.signal}"), _with_unit(row.value, row.unit),
            figure(row.threshold, row.unit), row.effect,
        )  # fmt: skip
    console.print()
    console.print(rows)


VALUES = ("value", "threshold")


def _with_unit(value: float | None, unit: str) -> str:
    words = figure(value, unit)
    return words if value is None else f"{words} {unit}"


def _budget(found: Budget, console: Console) -> None:
    if found.total_ms is None or not found.parts:
        return
    parts = leaves(found)
    console.print(f"\n  mean latency {found.total_ms:,.1f} ms", highlight=False)
    console.print(Text("  ").append_text(bar(found, max(20, min(console.width, 100) - 4))))
    for part in parts:
        letter, colour = PART_STYLES[part.name]
        line = f"  [{colour}]{letter}[/] {part.label:<34} {part.ms:>9,.2f} ms {part.share:>4.0%}"
        console.print(line, highlight=False)


def bar(found: Budget, width: int) -> Text:
    """Return the budget as one stacked bar of letters."""
    parts, text, drawn, reached = leaves(found), Text(), 0, 0.0
    whole = sum(part.ms for part in parts) or 1.0
    for part in parts:
        letter, colour = PART_STYLES[part.name]
        reached += part.ms / whole
        cells = round(reached * width) - drawn
        text.append(letter * cells, f"{colour} reverse")
        drawn += cells
    return text


def _demand(found: Diagnosis, console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in ("  resource", "limit", "in use", "demand", "bound", "without it"):
        table.add_column(name, justify="left" if name == "  resource" else "right")
    for one in found.demand.resources:
        table.add_row(f"  {one.label}", *_resource(one))
    console.print()
    console.print(table)
    knee, little = found.demand.knee_users, found.demand.little
    words = []
    if knee is not None:
        words.append(f"knee N* = {knee:.1f} of {found.demand.users} users")
    if little is not None:
        words.append(f"Little's law: X*R/N = {little:.2f}")
    if words:
        console.print(f"  {'; '.join(words)}", highlight=False)


def _resource(one: Resource) -> list[str]:
    def rate(value: float | None) -> str:
        return "?" if value is None else f"{value:,.0f}/s"

    return [
        "?" if one.limit is None else f"{one.limit:g} {one.unit}",
        "?" if one.utilisation is None else f"{one.utilisation:.0%}",
        "?" if one.demand_ms is None else f"{one.demand_ms:.2f} ms",
        rate(one.bound_rps),
        rate(one.next_rps),
    ]


def _advice(found: Diagnosis, console: Console) -> None:
    console.print()
    if found.remedy is not None:
        words = found.remedy.text or found.remedy.words
        console.print(f"  [bold]remedy[/]      {escape(words)}", highlight=False)
        for other in found.remedy.others:
            console.print(f"              or {escape(other)}", highlight=False)
    if found.prediction is not None:
        console.print(f"  [bold]prediction[/]  {predicted(found.prediction)}", highlight=False)
        console.print(f"              next: {found.prediction.then}", highlight=False)
    console.print(f"  [bold]runbook[/]     {found.runbook}", highlight=False)


def predicted(p: Prediction) -> str:
    """Return a prediction in one line."""
    words = f"{p.rps:,.0f} RPS ({p.rps_low:,.0f} to {p.rps_high:,.0f}), {p.gain:.2f} times"
    if p.p95_ms is not None and p.p95_low_ms is not None and p.p95_high_ms is not None:
        words += f"; P95 {p.p95_ms:,.0f} ms ({p.p95_low_ms:,.0f} to {p.p95_high_ms:,.0f})"
    return words
