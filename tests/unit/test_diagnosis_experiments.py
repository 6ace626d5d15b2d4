"""The experiments' judgement, with records made by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from rich.console import Console

from lab import config
from lab.diagnosis import diagnose
from lab.diagnosis.experiments import confirm, score, story, tune
from lab.diagnosis.experiments.faults import CLASSES, faults
from lab.diagnosis.experiments.session import make_cell
from lab.diagnosis.facts import DATABASE, Cpu
from lab.errors import ConfigError
from lab.results import CellRecord

from .diagnosis_facts import changed
from .report_records import manifest, measurement, record

FOUND = diagnose(changed({DATABASE: Cpu(0.25, 0.25, 0.99, 0.9)}))


def pairs(before: list[float], after: list[float]) -> list[CellRecord]:
    """Make accepted halves of pairs with these rates."""
    made = []
    for kind, rates in (("as-is", before), ("remedy", after)):
        for n, rps in enumerate(rates, 1):
            m = measurement(rps=rps, p95_ms=9000 / rps)
            made.append(record(repetition=n, cell_id=f"{kind}-r{n}", measured=m))
    return made


def test_confirm_sees_a_gain() -> None:
    """Five pairs that all gain are confirmed, with the ratio's interval above 1."""
    found = confirm.judge(pairs([100, 101, 99, 100, 102], [180, 182, 179, 185, 181]), FOUND)
    assert found.outcome == "confirmed"
    assert found.pairs == 5
    assert found.low is not None
    assert found.low > 1.5
    assert found.p95_ratio == pytest.approx(1 / 1.8, rel=0.05)
    assert "confirmed" in confirm.sentence(found)
    assert "| throughput, times |" in confirm.section(found)


def test_confirm_refutes_a_remedy_that_brings_nothing() -> None:
    """The same rates on both sides refute a predicted gain."""
    found = confirm.judge(pairs([100, 101, 99, 100, 102], [101, 100, 100, 99, 102]), FOUND)
    assert found.outcome == "refuted"


def test_confirm_does_not_decide_on_noise_or_few_pairs() -> None:
    """A wide spread, or rejected cells, decide nothing."""
    wide = confirm.judge(pairs([60, 150, 90, 130, 100], [90, 100, 160, 80, 150]), FOUND)
    assert wide.outcome == "not significant"
    rejected = [r.model_copy(update={"status": "rejected"}) for r in pairs([100], [200])]
    none = confirm.judge(rejected, FOUND)
    assert (none.outcome, none.pairs, none.ratio) == ("not significant", 0, None)
    assert "too few" in confirm.sentence(none)


def test_confirm_needs_five_pairs() -> None:
    """Fewer pairs cannot show anything, and are refused."""
    with pytest.raises(ConfigError, match="PAIRS=4 is not allowed"):
        confirm._pairs({"PAIRS": "4"})


def test_tune_knows_its_goal() -> None:
    """Both figures must be reached where both are asked for, and none is never reached."""
    goal = tune.Goal(p95_ms=100, rps=500)
    assert goal.met(500, 100)
    assert not goal.met(499, 50)
    assert not goal.met(900, None)
    assert not tune.Goal().met(9000, 1)


def test_tune_tells_its_story() -> None:
    """Table and picture have every step, the one taken back too."""
    steps = [
        tune.Step(0, "start", "connection set-up", 71.0, 900.0),
        tune.Step(1, "DB_CONN_MAX_AGE=600", "service CPU", 320.0, 110.0, 350.0, 4.5),
        tune.Step(2, "APP_CPUS=0.9", "database CPU", None, None, 440.0, None, False, "taken back"),
    ]
    text = tune.section(tune.Tuning({}, steps, end="nothing more to gain"))
    assert text.count("\n| ") == 5
    assert "4.50x" in text
    assert story.picture(steps, manifest([])).startswith(b"\x89PNG")


def test_suite_draws_the_same_faults_each_time() -> None:
    """The seed, the class and the number decide; a third of each class is held out."""
    whole = {f.name: f for f in faults(list(CLASSES), 9)}
    part = faults(["connect", "healthy"], 9)
    assert all(dict(whole[f.name].settings) == dict(f.settings) for f in part)
    held = Counter(f.kind.name for f in whole.values() if f.held_out)
    assert set(held.values()) == {3}
    assert {f.settings["FRAMEWORK"] for f in whole.values()} == {"fastapi", "django", "flask"}


def test_suite_asks_for_settings_that_are_allowed() -> None:
    """Every fault of the whole suite is a cell that can be planned on two cores."""
    for fault in faults(list(CLASSES), 10):
        made = make_cell(fault.name, fault.settings, {})
        assert made.settings.framework == fault.settings["FRAMEWORK"]
        config.check_host(made.settings, 2, 4 * 2**30)


def test_suite_counts_what_is_right() -> None:
    """Rejected cells do not count, but where the generator is the fault."""

    def made(kind: str, verdict: str, right: bool, status: str = "accepted") -> score.Outcome:
        return score.Outcome(kind, kind, False, status, verdict, [], 0.9, right, 0.01, 100.0,
                             120.0, 90.0, 150.0, 100.0)  # fmt: skip

    rows = [
        made("connect", "connection-set-up", True),
        made("healthy", "database-cpu", False),
        made("generator", "load-generator-or-host", True, "rejected"),
        made("workers", "unclear", False, "rejected"),
    ]
    figures = score.sums(score.parts(rows)["all"])
    assert figures["cells"] == 3
    assert figures["right"] == pytest.approx(2 / 3)
    assert figures["confidently_wrong"] == pytest.approx(1 / 3)
    assert figures["false_alarms"] == 1
    assert figures["median_prediction_error"] == pytest.approx(0.2)
    assert score.matrix(rows)["healthy"] == {"database-cpu": 1}
    score.show(rows, Console(width=60, quiet=True))
    assert "| connect | 1 |" in score.section(rows)


def test_suite_refuses_an_unknown_class() -> None:
    """The message names the classes."""
    with pytest.raises(ConfigError, match=r"CLASSES=x is not known; classes: connect, "):
        faults(["x"], 1)
