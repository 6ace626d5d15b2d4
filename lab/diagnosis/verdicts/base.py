"""What a verdict's module gives: a rule that judges the facts, and the remedy that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.diagnosis.facts import Facts
from lab.diagnosis.model import Budget, Candidate, Demand, Evidence, Remedy
from lab.diagnosis.network import Network


@dataclass(frozen=True)
class View:
    """All that a rule may look at; pure data."""

    facts: Facts
    budget: Budget
    demand: Demand
    network: Network | None

    def bound_behind(self, name: str) -> float | None:
        """Return the bound that is next when the named bottleneck's limit is gone."""
        if self.network is None:
            return None
        return min((b for n, b in self.network.bounds().items() if n != name), default=None)


@dataclass(frozen=True)
class Rule:
    """One possible verdict.

    `explained_by` names the verdicts whose presence makes this one a symptom: what a queue waits
    for is the deeper cause. `name` is also the runbook's.
    """

    name: str
    label: str
    judge: Callable[[View], Candidate]
    remedy: Callable[[View], Remedy]
    explained_by: tuple[str, ...] = ()


def candidate(
    name: str, label: str, needs: Sequence[Evidence], also: Sequence[Evidence], because: str
) -> Candidate:
    """Judge by rows: all of `needs` must support; `also` strengthen or weaken.

    One that rules out decides even where another is missing; a missing one never supports.
    """
    rows = [*needs, *also]
    against = next((row for row in needs if row.supports is False), None)
    if against is not None:
        return Candidate(name=name, label=label, state="ruled out", why=said(against),
                         evidence=rows)  # fmt: skip
    absent = [row.signal for row in needs if row.supports is None]
    if absent:
        why = f"not known: {', '.join(absent)}"
        return Candidate(name=name, label=label, state="unknown", why=why, evidence=rows)
    strength = 1.0
    for row in also:
        strength *= {True: 1.0, None: 0.93, False: 0.85}[row.supports]
    return Candidate(name=name, label=label, state="limits", why=because, strength=strength,
                     evidence=rows)  # fmt: skip


def said(row: Evidence) -> str:
    """Say a row's value against its threshold: "CPU 12% of the limit (90%)"."""
    return f"{row.signal} {figure(row.value, row.unit)} ({figure(row.threshold, row.unit)})"


def figure(value: float | None, unit: str) -> str:
    """Return a value with its unit as a person writes it; a share as per cent."""
    if value is None:
        return "not known"
    if unit.startswith("of ") or unit == "in use":
        return f"{value:.1%}" if 0 < value < 0.0995 else f"{value:.0%}"
    digits = 0 if abs(value) >= 99.5 else 1 if abs(value) >= 9.95 or value == int(value) else 2
    text = f"{value:,.{digits}f}"
    return text.removesuffix(".0")
