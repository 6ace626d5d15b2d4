"""What a diagnosis is: plain, frozen, serialisable; stored beside the record as `diagnosis.json`.

Milliseconds are per request, ratios 0 to 1, None is what could not be had.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

#: 1: first version.
SCHEMA = 1

#: `limits` is for the verdict, `symptom` for a queue that something deeper explains.
State = Literal["limits", "symptom", "ruled out", "unknown"]


class Frozen(BaseModel):
    """A frozen part of a diagnosis."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Evidence(Frozen):
    """One figure against its threshold: `supports` None means that it could not be had."""

    signal: str
    value: float | None
    threshold: float | None
    unit: str
    supports: bool | None
    source: str

    @property
    def effect(self) -> str:
        """What it does to the candidate, in a word or two."""
        return {True: "supports", False: "rules out", None: "missing"}[self.supports]


class Part(Frozen):
    """A part of the mean latency; `inside` names the part that holds it."""

    name: str
    label: str
    ms: float
    share: float
    inside: str | None = None


class Budget(Frozen):
    """The mean latency of a request in parts that add up, or what is missing for that."""

    total_ms: float | None
    parts: list[Part] = Field(default_factory=list)
    error: float | None = None
    missing: list[str] = Field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the parts add up to the whole within 5%."""
        return self.error is not None and self.error <= 0.05 and not self.missing


class Resource(Frozen):
    """One resource: utilisation of its limit, service demand D = U/X, and the bound it sets.

    `demand_ms` is time on the whole resource (a CPU limit of 0.25 cores and 1 ms of CPU are 4 ms);
    `next_rps` is the cell's throughput if this one's limit were gone, by the queueing network.
    """

    name: str
    label: str
    kind: Literal["cpu", "slots"]
    limit: float | None
    unit: str
    utilisation: float | None
    demand_ms: float | None
    bound_rps: float | None
    next_rps: float | None = None
    missing: str | None = None


class Demand(Frozen):
    """The resources, first what binds first, and the operational laws on the whole."""

    resources: list[Resource]
    users: int | None
    little: float | None
    knee_users: float | None

    def of(self, name: str) -> Resource | None:
        """Return a resource by its name."""
        return next((r for r in self.resources if r.name == name), None)


class Candidate(Frozen):
    """A possible bottleneck and what speaks for and against it."""

    name: str
    label: str
    state: State
    why: str
    strength: float = 0.0
    evidence: list[Evidence] = Field(default_factory=list)


class Remedy(Frozen):
    """A change as exact settings; `words` where no setting alone does it."""

    settings: dict[str, str] = Field(default_factory=dict)
    words: str = ""
    others: list[str] = Field(default_factory=list)

    @property
    def text(self) -> str:
        """The settings as they are given to make."""
        return " ".join(f"{name}={value}" for name, value in self.settings.items())


class Prediction(Frozen):
    """What the remedy should bring, with its interval, and what limits then."""

    rps: float
    rps_low: float
    rps_high: float
    p95_ms: float | None
    p95_low_ms: float | None
    p95_high_ms: float | None
    gain: float
    #: what limits then, and all that does; empty in diagnoses that are older
    next_bottleneck: str
    next_limits: list[str] = Field(default_factory=list)
    basis: str

    @property
    def then(self) -> str:
        """What limits with the remedy, in words."""
        return ", ".join(self.next_limits) or self.next_bottleneck


class Diagnosis(Frozen):
    """The verdict on a cell or on what runs now, and everything that it rests on."""

    schema_version: int = SCHEMA
    subject: str
    verdict: str
    label: str
    limits: list[str]
    confidence: float
    summary: str
    evidence: list[Evidence]
    candidates: list[Candidate]
    budget: Budget
    demand: Demand
    remedy: Remedy | None = None
    prediction: Prediction | None = None
    runbook: str
    notes: list[str] = Field(default_factory=list)
    missing: dict[str, str] = Field(default_factory=dict)

    @property
    def sureness(self) -> str:
        """The confidence in a word."""
        return "high" if self.confidence >= 0.8 else "medium" if self.confidence >= 0.5 else "low"
