"""`make confirm`: a cell and the cell with its remedy, in pairs, to prove the advice."""

from __future__ import annotations

import json
import random
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from lab import results
from lab.diagnosis import Diagnosis, diagnose_record, stored
from lab.diagnosis.experiments.session import Lab, make_cell, of_record, open_session
from lab.errors import ConfigError
from lab.files import write_atomic
from lab.report import wording
from lab.report.markdown import table
from lab.results import CellRecord, Run
from lab.stats import mann_whitney, paired_ratio

PAIRS, MOST_PAIRS = 5, 50
#: Of Mann-Whitney's test; five pairs reach 0.008 at best.
SIGNIFICANT = 0.05
#: A gain below this is none, for what is worth changing.
WORTH = 1.05
FILE = "confirm.json"
EXIT = {"confirmed": 0, "refuted": 4, "not significant": 5}
Outcome = Literal["confirmed", "refuted", "not significant"]


@dataclass(frozen=True)
class Confirmation:
    """What the pairs say: ratios are remedy over as it is, of requests per second and P95."""

    cell_id: str
    verdict: str
    remedy: str
    outcome: Outcome
    pairs: int
    ratio: float | None
    low: float | None
    high: float | None
    p: float | None
    p95_ratio: float | None
    predicted_gain: float
    predicted_rps: float
    predicted_low: float
    predicted_high: float
    measured_rps: float | None
    next_predicted: str
    next_found: str


def confirm(options: Mapping[str, str], toggles: Mapping[str, str], lab: Lab) -> int:
    """Run the experiment on a cell's remedy; return 0 confirmed, 4 refuted, 5 not significant.

    Raises ConfigError where the cell has no remedy that a setting makes.
    """
    count = _pairs(options)
    source = results.find(lab.folder, options.get("RUN") or "latest")
    record, found = _chosen(source, options.get("CELL") or None)
    assert found.remedy is not None
    base = of_record(record.settings) | dict(toggles)
    kinds = {"as-is": base, "remedy": {**base, **found.remedy.settings}}
    order = random.Random(int(record.settings.get("SEED", 0)))
    cells = []
    for repetition in range(1, count + 1):
        for kind in order.sample(sorted(kinds), 2):
            cells.append(make_cell(f"{kind}-r{repetition}", kinds[kind], lab.env, repetition))
    words = f"{record.cell_id} of {source.run_id} against {found.remedy.text}, {count} pairs"
    command = f"make confirm RUN={source.run_id} CELL={record.cell_id} PAIRS={count}"
    with open_session(lab, "confirm", words, command, cells[0], ceilings=False) as session:
        session.measure(cells)
        result = judge(session.run.records(), found)
        write_atomic(session.run.folder / FILE, json.dumps(asdict(result), indent=1))
        session.write_report(section(result))
    lab.console.print(sentence(result), highlight=False)
    return EXIT[result.outcome]


def _pairs(options: Mapping[str, str]) -> int:
    text = options.get("PAIRS") or str(PAIRS)
    if not text.isdigit() or not PAIRS <= int(text) <= MOST_PAIRS:
        raise ConfigError(
            f"PAIRS={text} is not allowed; allowed: {PAIRS} to {MOST_PAIRS}, since fewer than "
            f"{PAIRS} pairs cannot show a difference"
        )
    return int(text)


def _chosen(run: Run, cell: str | None) -> tuple[CellRecord, Diagnosis]:
    """Return the cell asked for, or the surest of the run, that has a remedy and a prediction."""
    manifest = stored.manifest_of(run)
    judged = [(r, diagnose_record(r, manifest)) for r in stored.chosen(run, cell)]
    ready = [(r, d) for r, d in judged if d.prediction is not None]
    if not ready:
        which = f"cell {judged[0][0].cell_id}" if len(judged) == 1 else "no cell"
        said = f": {judged[0][1].label}" if len(judged) == 1 else ""
        raise ConfigError(
            f"{which} of {run.run_id} has no remedy to confirm{said}; `make diagnose`"
        )
    return max(ready, key=lambda pair: (pair[0].status == "accepted", pair[1].confidence))


def judge(records: Sequence[CellRecord], found: Diagnosis) -> Confirmation:
    """Say what accepted pairs show; a pair with a rejected half is left out."""
    assert found.prediction is not None
    assert found.remedy is not None
    halves = {
        kind: {
            r.repetition: r for r in records
            if r.cell_id.startswith(f"{kind}-r") and r.status == "accepted" and r.measurement
        }
        for kind in ("as-is", "remedy")
    }  # fmt: skip
    both = sorted(halves["as-is"].keys() & halves["remedy"].keys())
    before = [_rps(halves["as-is"][n]) for n in both]
    after = [_rps(halves["remedy"][n]) for n in both]
    usable = len(both) >= 2 and min(before) > 0
    ratio = paired_ratio(after, before) if usable else None
    p = mann_whitney(after, before).p if usable else None
    verdicts = Counter(diagnose_record(r).verdict for r in halves["remedy"].values())
    predicted = found.prediction
    low, high = (ratio.low, ratio.high) if ratio else (None, None)
    return Confirmation(
        cell_id=found.subject, verdict=found.label, remedy=found.remedy.text,
        outcome=outcome(low, high, p, predicted.gain), pairs=len(both),
        ratio=ratio.value if ratio else None, low=low, high=high, p=p,
        p95_ratio=_p95_ratio(halves, both) if usable else None,
        predicted_gain=predicted.gain, predicted_rps=predicted.rps,
        predicted_low=predicted.rps_low, predicted_high=predicted.rps_high,
        measured_rps=statistics.median(after) if after else None,
        next_predicted=predicted.next_bottleneck,
        next_found=verdicts.most_common(1)[0][0] if verdicts else "not known",
    )  # fmt: skip


def outcome(low: float | None, high: float | None, p: float | None, predicted: float) -> Outcome:
    """Return confirmed where the interval is above 1, refuted where it holds no gain worth it."""
    if low is None or high is None or p is None:
        return "not significant"
    if low > 1 and p <= SIGNIFICANT:
        return "confirmed"
    return "refuted" if high < WORTH <= predicted else "not significant"


def _rps(record: CellRecord) -> float:
    assert record.measurement is not None
    return record.measurement.rps


def _p95_ratio(halves: Mapping[str, Mapping[int, CellRecord]], both: Sequence[int]) -> float | None:
    ratios = []
    for n in both:
        old, new = (halves[kind][n].measurement for kind in ("as-is", "remedy"))
        if old and new and old.p95_ms and new.p95_ms is not None:
            ratios.append(new.p95_ms / old.p95_ms)
    return statistics.median(ratios) if ratios else None


def sentence(c: Confirmation) -> str:
    """Return the result in words."""
    if c.ratio is None:
        return f"not significant: {c.pairs} pairs were accepted, which is too few to tell"
    interval = "" if c.low is None else f" ({c.low:.2f} to {c.high:.2f})"
    inside = c.measured_rps is not None and c.predicted_low <= c.measured_rps <= c.predicted_high
    words = "within" if inside else "outside"
    return (
        f"{c.outcome}: {c.remedy} brings {c.ratio:.2f} times the throughput{interval},"
        f" p = {c.p:.3f}, {c.pairs} pairs; predicted {c.predicted_gain:.2f} times,"
        f" {c.predicted_rps:,.0f} RPS"
        f" ({c.predicted_low:,.0f} to {c.predicted_high:,.0f}), measured {c.measured_rps:,.0f}:"
        f" {words} the interval; next bottleneck {c.next_found} (predicted {c.next_predicted})"
    )


def section(c: Confirmation) -> str:
    """Return the section of the run's report."""

    def number(value: float | None) -> str:
        return wording.MISSING if value is None else wording.number(value)

    rows = [
        ["throughput, times", f"{c.predicted_gain:.2f}", number(c.ratio)
         + (f" ({number(c.low)} to {number(c.high)})" if c.low is not None else "")],
        ["requests per second", f"{number(c.predicted_rps)} ({number(c.predicted_low)} to"
         f" {number(c.predicted_high)})", number(c.measured_rps)],
        ["P95, times", "", number(c.p95_ratio)],
        ["next bottleneck", c.next_predicted, c.next_found],
    ]  # fmt: skip
    return (
        f"## The experiment: {c.outcome}\n\n"
        f"Cell `{c.cell_id}` was diagnosed as **{c.verdict}**; the remedy `{c.remedy}` was run"
        f" against the cell as it is in {c.pairs} accepted pairs, in random order within each.\n\n"
        f"{table(['', 'predicted', 'measured'], rows, words=3)}\n"
        f"Ratios are medians over the pairs with their bootstrap interval; Mann-Whitney"
        f" p = {number(c.p)}.\n"
    )
