"""`make diagnosis-suite`: how often the first verdict is right, on faults made on purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console

from lab import host, results
from lab.config import Cell
from lab.diagnosis import diagnose_record
from lab.diagnosis.experiments import score
from lab.diagnosis.experiments.faults import CLASSES, SEED, Fault, faults
from lab.diagnosis.experiments.session import Lab, Session, make_cell, open_session
from lab.errors import ConfigError
from lab.files import write_atomic
from lab.results import Run

EACH = 10
WARMUP_S, WINDOW_S = 3, 6
FILE = "suite.json"
#: Ends the id of the cell with the remedy.
REMEDY = "-remedy"


@dataclass(frozen=True)
class Asked:
    """Which faults a run is of; kept with it, so that it can be judged again."""

    classes: tuple[str, ...]
    each: int
    seed: int

    def faults(self) -> list[Fault]:
        """Return the faults."""
        return faults(list(self.classes), self.each, self.seed)


def suite(options: Mapping[str, str], toggles: Mapping[str, str], lab: Lab) -> int:
    """Make the faults, diagnose them, and print and keep the confusion matrix; return exit code.

    RUN judges the cells of a stored run again, by the rules as they are now.
    """
    if options.get("RUN"):
        return _again(results.find(lab.folder, options["RUN"]), lab.console)
    chosen = tuple(name for name in options.get("CLASSES", "").split(",") if name)
    each, seed = _whole(options, "EACH", EACH), _whole(options, "FAULTS_SEED", SEED)
    asked = Asked(chosen or tuple(CLASSES), each, seed)
    wanted = asked.faults()
    cells = {fault.name: _cell(fault.name, {**fault.settings, **toggles}, lab) for fault in wanted}
    words = f"{each} of each fault class, seed {seed}: {', '.join(asked.classes)}"
    command = "make diagnosis-suite " + " ".join(f"{k}={v}" for k, v in options.items())
    first, ceilings = next(iter(cells.values())), "connect" in asked.classes
    with open_session(lab, "diagnosis-suite", words, command, first, ceilings=ceilings) as session:
        keep(session.run, asked, [])
        for number in range(1, each + 1):
            # A cell and its remedy within minutes: what else the host does changes over an hour.
            lab.console.print(f"round {number} of {each}", highlight=False)
            some = [fault for fault in wanted if fault.number == number]
            _round(session, some, cells, options, toggles, lab)
            keep(session.run, asked, judged(session.run, wanted))
        outcomes = judged(session.run, wanted)
        session.write_report(score.section(outcomes))
    score.show(outcomes, lab.console)
    return 0


def _again(run: Run, console: Console) -> int:
    """Judge a stored run's cells by the rules as they are now; nothing is written."""
    path = run.folder / FILE
    if not path.exists():
        raise ConfigError(f"{run.run_id} is not a run of the fault suite: it has no {FILE}")
    asked = json.loads(path.read_text(encoding="utf-8"))["asked"]
    kept = Asked(tuple(asked["classes"]), asked["each"], asked["seed"])
    score.show(judged(run, kept.faults()), console)
    return 0


def _round(
    session: Session, some: Sequence[Fault], cells: Mapping[str, Cell],
    options: Mapping[str, str], toggles: Mapping[str, str], lab: Lab,
) -> None:  # fmt: skip
    """Measure some faults, what a busy host spoilt once more, and then their remedies."""
    session.measure([cells[fault.name] for fault in some])
    outcomes = judged(session.run, some)
    if spoilt := [cells[one.cell_id] for one in outcomes if not one.counted]:
        session.measure(spoilt)
        outcomes = judged(session.run, some)
    if options.get("REMEDIES", "on") != "off":
        _measure_remedies(session, some, outcomes, toggles, lab)


def _cell(name: str, settings: Mapping[str, object], lab: Lab) -> Cell:
    return make_cell(name, {"WARMUP": WARMUP_S, "WINDOW": WINDOW_S, **settings}, lab.env)


def _whole(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name) or str(default)
    if not text.isdigit() or not int(text):
        raise ConfigError(f"{name}={text} is not allowed; allowed: a whole number above 0")
    return int(text)


def judged(run: Run, wanted: Sequence[Fault]) -> list[score.Outcome]:
    """Return the outcome of each fault whose cell has a record, with its remedy's if it has one."""
    manifest = run.manifest()
    found = []
    for fault in wanted:
        record = run.record(fault.name)
        if record is not None:
            diagnosis = diagnose_record(record, manifest)
            remedied = run.record(fault.name + REMEDY)
            found.append(score.outcome(fault, record, diagnosis, remedied))
    return found


def _measure_remedies(
    session: Session, wanted: Sequence[Fault], outcomes: Sequence[score.Outcome],
    toggles: Mapping[str, str], lab: Lab,
) -> None:  # fmt: skip
    """Measure each rightly diagnosed cell again with its remedy."""
    manifest = session.run.manifest()
    by_name = {fault.name: fault for fault in wanted}
    cells = []
    for one in outcomes:
        record = session.run.record(one.cell_id)
        if record is None or not (one.right and one.counted and one.predicted):
            continue
        remedy = diagnose_record(record, manifest).remedy
        if remedy is not None and one.kind != "generator":
            settings = {**by_name[one.cell_id].settings, **toggles, **remedy.settings}
            cells.append(_cell(one.cell_id + REMEDY, settings, lab))
    if cells:
        session.measure(cells)


def keep(run: Run, asked: Asked, outcomes: Sequence[score.Outcome]) -> None:
    """Write the outcomes and their sums beside the run's records."""
    content = {
        "asked": asdict(asked),
        "host": host.describe(),
        "sums": {part: score.sums(rows) for part, rows in score.parts(outcomes).items()},
        "matrix": score.matrix(outcomes),
        "cells": [asdict(one) for one in outcomes],
    }
    write_atomic(run.folder / FILE, json.dumps(content, indent=1))
