"""What the ladder is asked for, in which order it runs, and what is refused before it starts."""

from __future__ import annotations

from typing import Any

import pytest

from lab.errors import ConfigError
from lab.ladder import plan
from lab.ladder.records import CEILINGS
from lab.ladder.settings import LadderSettings, build, check_name, from_environment, set_aside

KNOWN = plan.catalogue()


def own(**values: Any) -> LadderSettings:
    return LadderSettings.model_validate(values)


def chosen(rungs: str, **values: Any) -> list[str]:
    return [rung.name for rung in plan.choose(KNOWN, own(rungs=rungs, **values))]


def given(**values: str) -> dict[str, tuple[str, str]]:
    return {name: (value, "command line") for name, value in values.items()}


def test_the_catalogue_has_every_rung_once() -> None:
    """The generator names its rungs from the bottom up."""
    names = [rung.name for rung in KNOWN]
    assert names == [
        "1", "1p", "2", "2-B", "2-C", "2-D", "3-A", "3-B", "3-C-500", "3-C-5000", "3-D-500",
        "3-D-5000", "3-D-stream", "3-E", "3-F", "3-G",
    ]  # fmt: skip
    assert all("LOSES" in r.method for r in KNOWN if r.durability == "lost on a crash")


def test_rungs_are_chosen_by_name_or_by_its_beginning() -> None:
    """3-D is three rungs, 2 is itself, and the order is the ladder's."""
    assert chosen("3-D,2-B") == ["2-B", "3-D-500", "3-D-5000", "3-D-stream"]
    assert chosen("2") == ["2"]
    assert chosen("1") == ["1"]
    assert chosen("all") == [rung.name for rung in KNOWN]


@pytest.mark.parametrize(("words", "message"), [("2-X", "unknown rung '2-X'"), (",", "no rung")])
def test_an_unknown_rung_is_refused_with_those_there_are(words: str, message: str) -> None:
    """The rungs are listed."""
    with pytest.raises(ConfigError, match=message):
        chosen(words)


def test_batch_and_pool_change_the_rungs_that_take_them() -> None:
    """A single-row rung keeps its batch; one lane stays one lane."""
    found = {r.name: r for r in plan.choose(KNOWN, own(batch=50, pool=7))}
    assert (found["2"].batch, found["2"].pool, found["2"].lanes) == (1, 7, 1)
    assert (found["2-C"].batch, found["2-C"].pool, found["2-C"].lanes) == (50, 7, 7)
    assert (found["1"].batch, found["1"].pool) == (1, 1)


def test_steps_are_shuffled_per_repetition_and_hold_the_ceilings() -> None:
    """Each repetition holds everything once; the same seed gives the same order."""
    rungs = plan.choose(KNOWN, own(rungs="1,2-B,3-D"))
    steps = plan.steps(rungs, 3, seed=42)
    for repetition in (1, 2, 3):
        names = sorted(s.name for s in steps if s.repetition == repetition)
        assert names == sorted([*(r.name for r in rungs), *CEILINGS])
    assert steps == plan.steps(rungs, 3, seed=42)
    assert steps != plan.steps(rungs, 3, seed=7)


def test_a_pool_above_max_connections_is_refused_with_the_arithmetic() -> None:
    """What is needed, what there is, and what to change."""
    settings, lab = build({}, given(POOL="300"))
    rungs = plan.choose(KNOWN, settings)
    with pytest.raises(ConfigError, match=r"needs 300 connections.*250 - 3 .* - 3 .*lower POOL"):
        plan.check_connections(rungs, settings, lab)
    settings, lab = build({}, given(POOL="300", POSTGRES_MAX_CONNECTIONS="2000"))
    plan.check_connections(rungs, settings, lab)
    plan.check_connections(plan.choose(KNOWN, own()), *build({}, {}))


@pytest.mark.parametrize(
    ("values", "largest"),
    [
        ({}, r"1,600,000 rows/s x 9 s x 170 bytes"),
        ({"target_tps": "50"}, r"2,000,000 rows of the ceiling x 270 bytes"),
        ({"target_tps": "50", "duration": 60}, r"pgbench's 100,000 rows/s x 60 s x 170 bytes"),
    ],
)
def test_a_disk_without_room_is_refused_with_the_estimate(
    values: dict[str, Any], largest: str
) -> None:
    """The largest step counts; nothing paces a ceiling."""
    with pytest.raises(ConfigError, match=rf"may need .* GiB \({largest}, .* 1.0 GiB are free"):
        plan.check_room(own(**values), 2**30, 2)
    plan.check_room(own(**values), 2**40, 64)


@pytest.mark.parametrize(
    ("rung", "target_tps", "batch"),
    [
        ("3-D-500", "50", 5), ("3-D-500", "200", 20), ("2-C", "200", 20), ("2-C", "1", 1),
        ("3-D-500", "5000", 500), ("3-D-500", "max", 500), ("2", "50", 1),
    ],
)  # fmt: skip
def test_a_paced_rung_writes_several_times_a_second(rung: str, target_tps: str, batch: int) -> None:
    """A batch of ten seconds' rows would come once in a window, or not at all."""
    (found,) = plan.choose(KNOWN, own(rungs=rung, target_tps=target_tps))
    assert found.batch == batch
    before = next(r for r in KNOWN if r.name == rung).batch
    assert bool(found.notes) == (batch < before)
    if found.notes:
        assert f"{batch} rows per write call instead of {before}" in found.notes[0]


def test_each_process_of_a_paced_rung_has_its_part_of_the_rate() -> None:
    """Two processes write half of the rows each."""
    (found,) = plan.choose(KNOWN, own(rungs="3-G", target_tps="200", batch=400))
    assert found.batch == max(1, 20 // found.processes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rungs": "1,2-B", "batch": 50}, "BATCH=50 means nothing to RUNGS=1,2-B; .*: 2-C, 2-D,"),
        ({"rungs": "3-G,1", "pool": 7}, "POOL=7 means nothing to RUNGS=3-G,1; rungs .*: 2, 2-B,"),
    ],
)
def test_what_no_chosen_rung_takes_is_refused(values: dict[str, Any], message: str) -> None:
    """It would be ignored without a word otherwise."""
    with pytest.raises(ConfigError, match=message):
        plan.choose(KNOWN, own(**values))


def test_parallel_copy_opens_what_its_lanes_use() -> None:
    """One connection in each process, whatever POOL says to the others."""
    found = {r.name: r for r in plan.choose(KNOWN, own(pool=7))}
    assert (found["3-G"].pool, found["3-G"].lanes) == (1, 1)


def test_each_rung_decides_by_itself_whether_it_waits_for_the_disk() -> None:
    """No setting changes what the report says of a rung's durability."""
    name = "POSTGRES_SYNCHRONOUS_COMMIT"
    with pytest.raises(ConfigError, match=rf"{name} \(command line\) is decided by each rung: 3-A"):
        check_name(name, "command line")
    assert from_environment({name: "off"}) == {}
    _, lab = build({name: "off"}, {})
    assert lab.postgres_synchronous_commit == "on"
    assert set_aside({name: "on"}, {}) is set_aside({name: "off"}, {name: "on"}) is None
    assert f"{name}=off is for other commands" in str(set_aside({name: "off"}, {}))


def test_the_ladder_has_no_limits_unless_asked_for() -> None:
    """What .env says of limits and connections is for the other benchmark."""
    _, lab = build({"DB_CPUS": "0.25", "POSTGRES_MAX_CONNECTIONS": "50"}, {})
    assert lab.db_cpus >= 1
    assert lab.postgres_max_connections == 250
    settings, lab = build({}, given(DB_CPUS="0.5"))
    assert (settings.db_cpus, lab.db_cpus) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"BATCH": "0"}, "BATCH='0' .* allowed: a whole number, at least 1, at most 100000"),
        ({"POOL": "0"}, "POOL='0' .* at least 1"),
        ({"DURATION": "x"}, "DURATION='x' .* a whole number"),
        ({"TARGET_TPS": "0"}, "TARGET_TPS='0' .* max, or a number above 0"),
        ({"TARGET_TPS": "fast"}, "TARGET_TPS='fast'"),
        ({"ROUTE": "both"}, "ROUTE='both' .* direct, pgbouncer"),
        ({"DB_CPUS": "0"}, "DB_CPUS='0' .* above 0"),
        ({"POSTGRES_MAX_CONNECTIONS": "5"}, "POSTGRES_MAX_CONNECTIONS='5'"),
        ({"RUNG": "1"}, "unknown setting RUNG .* did you mean RUNGS"),
        ({"USERS": "5"}, "USERS .* means nothing to the ladder"),
    ],
)
def test_bad_settings_are_refused_in_one_line(values: dict[str, str], message: str) -> None:
    """The name, the value, where it came from and what is allowed."""
    with pytest.raises(ConfigError, match=message) as raised:
        build({}, given(**values))
    assert "\n" not in str(raised.value)


def test_names_are_checked_with_their_source() -> None:
    """The nearest name is offered."""
    with pytest.raises(ConfigError, match=r"TARGET_TP \(command line\); did you mean TARGET_TPS"):
        check_name("TARGET_TP", "command line")


def test_the_target_is_a_rate_or_none() -> None:
    """TARGET_TPS=max is as fast as can be."""
    assert own().rate is None
    assert own(target_tps="50").rate == 50
