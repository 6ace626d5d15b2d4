"""Facts to a diagnosis: every rule judges, what is explained by a deeper one is its symptom.

Pure: no clock, no file, no network.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.diagnosis import facts as facts_module
from lab.diagnosis import predict, thresholds
from lab.diagnosis.budget import budget
from lab.diagnosis.demand import demand
from lab.diagnosis.facts import DATABASE, PGBOUNCER, SERVICE, Facts
from lab.diagnosis.model import Candidate, Diagnosis, Prediction, Remedy
from lab.diagnosis.network import network, with_next
from lab.diagnosis.verdicts import BY_NAME, RULES, View
from lab.results import CellRecord, Manifest

NOT_SATURATED, SEVERAL, UNCLEAR = "not-saturated", "several", "unclear"
RESOURCE_OF = {
    "database-cpu": DATABASE, "service-cpu": SERVICE, "pgbouncer-cpu": PGBOUNCER,
    "service-pool": "service-pool", "pgbouncer-pool": "pgbouncer-pool",
    "workers-or-backlog": "workers",
}  # fmt: skip
#: Without these nothing can be ruled out.
ESSENTIAL = ("rps", "mean_ms", "server_ms")


def diagnose_record(record: CellRecord, manifest: Manifest | None = None) -> Diagnosis:
    """Diagnose a cell; one that ended before its measurement is unclear."""
    found = facts_module.from_record(record, manifest)
    if found is None:
        reasons = "; ".join(" ".join(r.split()) for r in record.reject_reasons) or "no measurement"
        found = Facts(subject=record.cell_id, missing={"measurement": reasons})
    return diagnose(found)


def diagnose(facts: Facts) -> Diagnosis:
    """Return the verdict with everything that it rests on."""
    net = network(facts)
    view = View(facts, budget(facts), with_next(demand(facts), facts, net), net)
    judged = [rule.judge(view) for rule in RULES]
    candidates = [_explained(one, judged) for one in judged]
    candidates = _together(candidates, view)
    limits = _in_order([c for c in candidates if c.state == "limits"], view)
    verdict, label, summary = _verdict(view, candidates, limits)
    remedy, prediction = _advice(view, limits)
    first = limits[0] if limits else None
    return Diagnosis(
        subject=facts.subject,
        verdict=verdict,
        label=label,
        limits=[c.name for c in limits],
        confidence=_confidence(view, verdict, limits, candidates),
        summary=summary,
        evidence=first.evidence if first else _calm(view),
        candidates=candidates,
        budget=view.budget,
        demand=view.demand,
        remedy=remedy,
        prediction=prediction,
        runbook=f"monitoring/runbooks/{verdict}.md",
        notes=_notes(view),
        missing=dict(facts.missing),
    )


def _explained(one: Candidate, judged: Sequence[Candidate]) -> Candidate:
    """Return the candidate as a symptom where a deeper one that limits explains it."""
    if one.state != "limits":
        return one
    causes = BY_NAME[one.name].explained_by
    deeper = next((c for c in judged if c.state == "limits" and c.name in causes), None)
    if deeper is None:
        return one
    return one.model_copy(update={"state": "symptom", "why": f"a symptom of {deeper.label}"})


def _together(candidates: list[Candidate], view: View) -> list[Candidate]:
    """Return the candidates with those made limits that would hold throughput where it is.

    Where a second bound lies just behind the first, raising the first alone brings next to
    nothing: a pool of as many connections as there are threads, say, at which nobody queues.
    """
    bounds = view.network.bounds() if view.network else {}
    first = [c.name for c in candidates if c.state == "limits" and c.name in bounds]
    if len(first) != 1 or sum(c.state == "limits" for c in candidates) > 1:
        return candidates
    near = bounds[first[0]] / thresholds.NEAR.value
    found = []
    for one in candidates:
        bound = bounds.get(one.name)
        used = view.demand.of(RESOURCE_OF.get(one.name, ""))
        full = used is not None and (used.utilisation or 0.0) >= thresholds.SLOTS.value
        queued = one.state in ("ruled out", "symptom")
        if queued and full and bound is not None and bound <= near:
            why = f"its bound of {bound:,.0f}/s is next to the first: alone, neither helps"
            one = one.model_copy(update={"state": "limits", "why": why, "strength": 0.9})
        found.append(one)
    return found


def _in_order(limits: list[Candidate], view: View) -> list[Candidate]:
    """Order by what binds first: what falsifies the rest, then the lowest bound."""
    bounds = view.network.bounds() if view.network else {}
    first = ("max-connections", "load-generator-or-host", "connection-set-up")

    def place(one: Candidate) -> tuple[int, float]:
        if one.name in first:
            return first.index(one.name), 0.0
        return len(first), bounds.get(one.name, float("inf"))

    return sorted(limits, key=place)


def _verdict(
    view: View, candidates: Sequence[Candidate], limits: Sequence[Candidate]
) -> tuple[str, str, str]:
    """Return the verdict's name, label and one sentence."""
    if len(limits) > 1:
        names = ", ".join(c.label for c in limits)
        return SEVERAL, f"several: {names}", "; ".join(c.why for c in limits)
    if limits:
        return limits[0].name, limits[0].label, limits[0].why
    if why := view.facts.missing.get("measurement"):
        return UNCLEAR, "unclear", f"there is no measurement: {why}"
    unknown = [c.label for c in candidates if c.state == "unknown"]
    absent = [name for name in ESSENTIAL if getattr(view.facts, name) is None]
    if absent or any(view.facts.utilisation(part) is None for part in (DATABASE, SERVICE)):
        what = ", ".join(unknown) or ", ".join(absent)
        return UNCLEAR, "unclear", f"figures are missing; could not be judged: {what}"
    if unknown:
        return UNCLEAR, "unclear", f"could not be judged: {', '.join(unknown)}"
    outside = view.facts.share(view.facts.outside_ms) or 0.0
    waits = outside + (view.facts.share(view.facts.pool_wait_ms) or 0.0)
    queued = (view.facts.mean_ms or 0.0) * waits
    unexplained, least_ms = thresholds.UNEXPLAINED.value, thresholds.LEAST.value
    if waits >= unexplained and queued >= least_ms:
        words = f"requests wait {queued:,.0f} ms, and no limit that is known is reached"
        return UNCLEAR, "unclear", words
    between = next((p for p in view.budget.parts if p.name == "database-rest"), None)
    if between is not None and between.share >= unexplained and between.ms >= least_ms:
        words = f"statements take {between.ms:,.0f} ms that PostgreSQL and PgBouncer do not know of"
        return UNCLEAR, "unclear", f"{words}: the network between them and the service?"
    return NOT_SATURATED, "not saturated", "no limit is reached and no queue makes the latency"


def _advice(view: View, limits: Sequence[Candidate]) -> tuple[Remedy | None, Prediction | None]:
    """Return the first limit's remedy and what it should bring."""
    if not limits:
        return None, None
    name = limits[0].name
    remedy = BY_NAME[name].remedy(view)
    for other in limits[1:]:
        # What limits together is raised together: either alone would bring next to nothing.
        more = BY_NAME[other.name].remedy(view).settings
        settings = {
            **remedy.settings,
            **{n: v for n, v in more.items() if n not in remedy.settings},
        }
        remedy = remedy.model_copy(update={"settings": settings})
    return remedy, predict.predict(view, remedy, name)


def _calm(view: View) -> list:
    rows = []
    for part, words in (("database", "PostgreSQL"), ("service", "the service")):
        rows.append(thresholds.CPU.row(f"{words} CPU", view.facts.utilisation(part)))
    rows.append(thresholds.POOL_SHARE.row("pool wait", view.facts.inside(view.facts.pool_wait_ms)))
    return rows


def _confidence(
    view: View, verdict: str, limits: Sequence[Candidate], candidates: Sequence[Candidate]
) -> float:
    """Return how sure the verdict is, 0 to 1."""
    if verdict == UNCLEAR:
        return 0.2
    sure = 0.95
    for one in limits:
        sure *= one.strength
    if view.facts.rejected and verdict != "load-generator-or-host":
        sure *= 0.6
    unknown = sum(c.state == "unknown" for c in candidates)
    sure *= 0.93**unknown
    if view.budget.missing or (view.budget.error or 0.0) > 0.05:
        sure *= 0.9
    return round(sure * _margin(view, limits), 3)


def _margin(view: View, limits: Sequence[Candidate]) -> float:
    """Return less than 1 where a resource outside the verdict is nearly at its limit as well."""
    near = [
        view.facts.utilisation(part) or 0.0
        for part, name in (
            (DATABASE, "database-cpu"), (SERVICE, "service-cpu"), ("pgbouncer", "pgbouncer-cpu"),
        )
        if name not in {c.name for c in limits}
    ]  # fmt: skip
    symptoms = limits and limits[0].name in ("max-connections", "connection-set-up")
    highest = max(near, default=0.0)
    if symptoms or highest < 0.75:
        return 1.0
    return 0.85 if highest < 0.85 else 0.7


def _notes(view: View) -> list[str]:
    notes = []
    if view.facts.rejected:
        notes.append("the cell was rejected: " + "; ".join(
            " ".join(r.split()) for r in view.facts.rejected))  # fmt: skip
    if not view.facts.enforced:
        notes.append("limits were not enforced: CPU is a share of the host's cores")
    if view.budget.missing:
        notes.append("the budget lacks " + ", ".join(view.budget.missing))
    elif (view.budget.error or 0.0) > 0.05:
        notes.append(f"the budget's parts exceed the whole by {view.budget.error:.0%}")
    return notes
