"""How good the diagnosis was on faults made on purpose: outcomes, sums and confusion matrix."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from lab.diagnosis import diagnose_record
from lab.diagnosis.experiments.faults import CLASSES, Fault
from lab.diagnosis.model import Diagnosis, Prediction
from lab.report.markdown import table
from lab.results import CellRecord

#: A verdict of this confidence that is wrong counts as confidently wrong.
CONFIDENT = 0.8


@dataclass(frozen=True)
class Outcome:
    """One cell of the suite, judged; `predicted` and `measured` are RPS with the remedy."""

    cell_id: str
    kind: str
    held_out: bool
    status: str
    verdict: str
    limits: list[str]
    confidence: float
    right: bool
    budget_error: float | None
    rps: float | None = None
    predicted: float | None = None
    #: the predicted interval
    low: float | None = None
    high: float | None = None
    measured: float | None = None
    next_predicted: str | None = None
    next_found: str | None = None
    next_right: bool | None = None

    @property
    def counted(self) -> bool:
        """Whether the cell counts: a rejected one does only where that is the fault."""
        return self.status == "accepted" or self.kind == "generator"


def outcome(
    fault: Fault, record: CellRecord, found: Diagnosis, remedied: CellRecord | None = None
) -> Outcome:
    """Compare a diagnosis with the fault that was made, and its prediction with the remedy."""
    m, p = record.measurement, found.prediction
    if remedied is not None and not _is_of(remedied, found):
        remedied = None  # of another remedy, by the rules as they were
    after = None if remedied is None else remedied.measurement
    then = None if remedied is None else diagnose_record(remedied)
    return Outcome(
        cell_id=record.cell_id, kind=fault.kind.name, held_out=fault.held_out,
        status=record.status, verdict=found.verdict, limits=found.limits,
        confidence=found.confidence, right=fault.kind.right(found.verdict, found.limits),
        budget_error=found.budget.error, rps=None if m is None else m.rps,
        predicted=None if p is None else p.rps, low=None if p is None else p.rps_low,
        high=None if p is None else p.rps_high, measured=None if after is None else after.rps,
        next_predicted=None if p is None else p.next_bottleneck,
        next_found=None if then is None else then.verdict,
        next_right=None if then is None or p is None else _is_next(p, then),
    )  # fmt: skip


def _is_of(remedied: CellRecord, found: Diagnosis) -> bool:
    """Return whether an accepted cell has the settings of a diagnosis's remedy."""
    wanted = {} if found.remedy is None else found.remedy.settings
    same = all(_same(remedied.settings.get(name), text) for name, text in wanted.items())
    return bool(wanted) and same and remedied.status == "accepted"


def _is_next(predicted: Prediction, then: Diagnosis) -> bool:
    """Return whether what was predicted to limit first is among what limits."""
    if predicted.next_limits and then.limits:
        return predicted.next_bottleneck in then.limits
    return predicted.next_bottleneck == then.verdict


def _same(value: object, text: str) -> bool:
    try:
        return float(text) == value
    except ValueError:
        return str(value).lower() == text.lower()


def parts(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Return the counted cells: those that rules may be tuned to, those held out, and all."""
    counted = [one for one in outcomes if one.counted]
    return {
        "training": [one for one in counted if not one.held_out],
        "held out": [one for one in counted if one.held_out],
        "all": counted,
    }


def sums(rows: Sequence[Outcome]) -> dict[str, float | int | None]:
    """Return the suite's figures over some cells; None where there is nothing to divide by."""
    healthy = [one for one in rows if one.kind == "healthy"]
    errors = [abs(r.predicted - r.measured) / r.measured
              for r in rows if r.predicted is not None and r.measured]  # fmt: skip
    inside = [r.low <= r.measured <= r.high
              for r in rows if r.measured and r.low is not None and r.high is not None]  # fmt: skip
    after = [r.next_right for r in rows if r.next_right is not None]
    budgets = [one.budget_error for one in rows if one.budget_error is not None]
    sure = [one for one in rows if not one.right and one.confidence >= CONFIDENT]
    return {
        "cells": len(rows),
        "right": sum(one.right for one in rows) / len(rows) if rows else None,
        "confidently_wrong": len(sure) / len(rows) if rows else None,
        "false_alarms": sum(o.verdict not in ("not-saturated", "unclear") for o in healthy),
        "budget_within_5_percent": (
            sum(error <= 0.05 for error in budgets) / len(budgets) if budgets else None
        ),
        "predictions": len(errors),
        "median_prediction_error": statistics.median(errors) if errors else None,
        "inside_the_interval": sum(inside) / len(inside) if inside else None,
        "next_bottleneck_right": sum(after) / len(after) if after else None,
    }


def matrix(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Return how often each class of fault got each verdict, of the counted cells."""
    found: dict[str, dict[str, int]] = {}
    for one in outcomes:
        if one.counted:
            row = found.setdefault(one.kind, {})
            row[one.verdict] = row.get(one.verdict, 0) + 1
    return {kind: found[kind] for kind in CLASSES if kind in found}


def section(outcomes: Sequence[Outcome]) -> str:
    """Return the confusion matrix and the sums as a section of the run's report."""
    found = matrix(outcomes)
    said = sorted({verdict for row in found.values() for verdict in row})
    rows = [[kind, *(row.get(verdict, "") for verdict in said)] for kind, row in found.items()]
    figures = {part: sums(of) for part, of in parts(outcomes).items()}
    names = list(figures["all"])
    lines = [
        [name.replace("_", " "), *(_text(of[name]) for of in figures.values())] for name in names
    ]
    return (
        f"## Faults made on purpose\n\n{table(['made', *said], rows, words=1)}\n"
        f"{table(['', *figures], lines, words=1)}\n"
        "Rejected cells do not count, but where the load generator is the fault. Held out: a third"
        " that no rule was tuned to.\n"
    )


def _text(value: float | int | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print the confusion matrix, the sums and every cell that was judged wrong."""
    found = matrix(outcomes)
    verdicts = sorted({verdict for row in found.values() for verdict in row})
    shown = Table("made \\ said", *verdicts, box=None)
    for kind, row in found.items():
        shown.add_row(kind, *(str(row.get(verdict, "·")) for verdict in verdicts))
    console.print(shown)
    for part, rows in parts(outcomes).items():
        figures = sums(rows)
        words = ", ".join(
            f"{name.replace('_', ' ')} {'n/a' if v is None else round(v, 3)}"
            for name, v in figures.items()
        )
        console.print(f"{part}: {words}", highlight=False)
    for one in outcomes:
        if one.counted and not one.right:
            said = f"{one.verdict} ({', '.join(one.limits)}), confidence {one.confidence}"
            console.print(f"wrong: {one.cell_id}: {said}", highlight=False)
    rejected = sum(not one.counted for one in outcomes)
    if rejected:
        console.print(f"{rejected} cells were rejected by the gate and not counted")
