"""`make tune`: diagnose, apply the remedy, measure, again and again, from the worst start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lab.diagnosis import Diagnosis, diagnose_record, stored
from lab.diagnosis.experiments import story
from lab.diagnosis.experiments.session import Lab, Session, make_cell, open_session
from lab.errors import ConfigError
from lab.files import write_atomic
from lab.report import wording
from lab.report.markdown import table
from lab.results import CellRecord

START: dict[str, Any] = {"DB_CONN_MAX_AGE": 0, "ROUTE": "direct"}
STEPS = 8
#: A step that brings less is taken back: run-to-run spread is about that.
LEAST_GAIN = 1.05
#: Measurements of a step that the gate rejects, before it counts as rejected.
TRIES = 3
FILE = "tune.json"


@dataclass(frozen=True)
class Step:
    """One measured step; `gain` is over the best before it, None at the start."""

    number: int
    change: str
    bottleneck: str
    rps: float | None
    p95_ms: float | None
    predicted_rps: float | None = None
    gain: float | None = None
    kept: bool = True
    words: str = ""


@dataclass(frozen=True)
class Goal:
    """When there is nothing more to do; None where it is not asked for."""

    p95_ms: float | None = None
    rps: float | None = None

    def met(self, rps: float | None, p95_ms: float | None) -> bool:
        """Return whether every figure that was asked for is reached."""
        if self.p95_ms is None and self.rps is None:
            return False
        slow = self.p95_ms is not None and (p95_ms is None or p95_ms > self.p95_ms)
        few = self.rps is not None and (rps is None or rps < self.rps)
        return not slow and not few


@dataclass
class Tuning:
    """The state between two steps."""

    settings: dict[str, Any]
    steps: list[Step] = field(default_factory=list)
    #: a change that was taken back, and why
    refused: dict[str, str] = field(default_factory=dict)
    best: CellRecord | None = None
    end: str = ""


def tune(options: Mapping[str, str], toggles: Mapping[str, str], lab: Lab) -> int:
    """Tune from the worst start; leave the story in the run's report; return exit code 0."""
    goal = Goal(_number(options, "SLO_P95_MS"), _number(options, "TARGET_RPS"))
    most = int(_number(options, "STEPS") or STEPS)
    state = Tuning({**START, **toggles})
    first = make_cell("step-0", state.settings, lab.env)
    words = "from the worst start to where nothing more is gained"
    command = "make tune " + " ".join(f"{k}={v}" for k, v in {**options, **toggles}.items())
    with open_session(lab, "tune", words, command, first) as session:
        _steps(session, state, goal, most, lab)
        content = {"end": state.end, "settings": state.settings,
                   "steps": [asdict(step) for step in state.steps]}  # fmt: skip
        write_atomic(session.run.folder / FILE, json.dumps(content, indent=1, default=str))
        picture = story.picture(state.steps, session.run.manifest())
        session.write_report(section(state), {"tune.png": picture})
    lab.console.print(f"{state.end}; {session.run.folder / 'summary_report.md'}", highlight=False)
    return 0


def _number(options: Mapping[str, str], name: str) -> float | None:
    text = options.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise ConfigError(f"{name}={text} is not allowed; allowed: a number above 0")
    return value


def _steps(session: Session, state: Tuning, goal: Goal, most: int, lab: Lab) -> None:
    """Measure the start and then one change after the other."""
    record, found = _measured(session, state.settings, 0, lab)
    state.best = record
    _note(state, Step(0, "start", found.label, *_figures(record)), lab)
    if record.status != "accepted":
        why = record.reject_reasons[0].splitlines()[0] if record.reject_reasons else "no reason"
        state.end = (
            f"the start was rejected {TRIES} times, so there is nothing to compare with: {why}"
        )
        return
    for number in range(1, most + 1):
        if goal.met(*_figures(state.best)):
            state.end = "the goal is met"
            return
        change = _change(found, state)
        if change is None:
            tried = "".join(f"; {change} {why}" for change, why in state.refused.items())
            state.end = f"nothing more is gained by a setting: {found.label} limits{tried}"
            return
        settings = {**state.settings, **change}
        text = " ".join(f"{name}={value}" for name, value in change.items())
        predicted = found.prediction.rps if found.prediction else None
        record, then = _measured(session, settings, number, lab)
        rps, p95_ms = _figures(record)
        before, _ = _figures(state.best)
        gain = rps / before if rps is not None and before else None
        kept = record.status == "accepted" and gain is not None and gain >= LEAST_GAIN
        words = (
            ""
            if kept
            else "taken back: "
            + (record.reject_reasons[0].splitlines()[0] if record.reject_reasons else "no gain")
        )
        step = Step(number, text, then.label, rps, p95_ms, predicted, gain, kept, words)
        _note(state, step, lab)
        if kept:
            state.settings, state.best, found = settings, record, then
            state.refused.clear()
        else:
            state.refused[text] = "was rejected" if record.status == "rejected" else "did not help"
    state.end = f"stopped after {most} steps (STEPS={most})"


def _measured(
    session: Session, settings: Mapping[str, Any], number: int, lab: Lab
) -> tuple[CellRecord, Diagnosis]:
    record = None
    for _ in range(TRIES):
        session.measure([make_cell(f"step-{number}", settings, lab.env)])
        record = session.run.record(f"step-{number}")
        if record is not None and record.status == "accepted":
            break
    assert record is not None
    return record, diagnose_record(record, stored.manifest_of(session.run))


def _change(found: Diagnosis, state: Tuning) -> dict[str, str] | None:
    """Return the remedy's settings, None where there are none or they did not help before."""
    if found.remedy is None or not found.remedy.settings:
        return None
    return None if found.remedy.text in state.refused else found.remedy.settings


def _figures(record: CellRecord | None) -> tuple[float | None, float | None]:
    m = None if record is None else record.measurement
    return (None, None) if m is None else (m.rps, m.p95_ms)


def _note(state: Tuning, step: Step, lab: Lab) -> None:
    state.steps.append(step)
    rps = wording.MISSING if step.rps is None else f"{step.rps:,.0f} RPS"
    gain = "" if step.gain is None else f", {step.gain:.2f} times"
    words = f"; {step.words}" if step.words else ""
    line = f"step {step.number}: {step.change}: {rps}{gain}; {step.bottleneck}{words}"
    lab.console.print(line, highlight=False)


def section(state: Tuning) -> str:
    """Return the story as a section of the run's report."""

    def number(value: float | None) -> str:
        return wording.MISSING if value is None else wording.number(value)

    rows = []
    for step in state.steps:
        gain = "" if step.gain is None else f"{step.gain:.2f}x"
        predicted = "" if step.predicted_rps is None else number(step.predicted_rps)
        rows.append([step.number, f"`{step.change}`", predicted, number(step.rps), gain,
                     number(step.p95_ms), step.bottleneck, step.words or "kept"])  # fmt: skip
    headings = ["step", "change", "predicted RPS", "RPS", "gain", "P95 ms", "bottleneck then", ""]
    return (
        f"## How the bottleneck moved\n\n{table(headings, rows, words=2, last=True)}\n"
        f"{state.end[:1].upper()}{state.end[1:]}. A gain is over the best step before; below"
        f" {LEAST_GAIN:g}x a step is taken back.\n\n![How the bottleneck moved](plots/tune.png)\n"
    )
