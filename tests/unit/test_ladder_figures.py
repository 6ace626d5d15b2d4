"""Verdicts, ratios, tables, pictures and the crash test's arithmetic, from records made by hand."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from lab.errors import ServiceError
from lab.ladder import crash, crash_report, markdown, plots, summary, web
from lab.ladder.checks import reasons
from lab.ladder.crash import ACKNOWLEDGEMENT, settle
from lab.ladder.generator import Account, window
from lab.ladder.verdict import judge
from lab.ladder.watch import time_in
from loadtest.intervals import encode_histogram

from .ladder_records import manifest, measured, record

BUSY = {"computing": 0.7, "WAL": 0.1, "other waits": 0.0, "client": 0.2}
STARVED = {"computing": 0.1, "a core": 0.5, "WAL": 0.1, "other waits": 0.0, "client": 0.3}
FLUSHING = {"computing": 0.1, "WAL": 0.6, "other waits": 0.0, "client": 0.3}


@pytest.mark.parametrize(
    ("figures", "limit"),
    [
        ({"connect_share": 0.7, "connect_ms": 4.0}, "connection set-up"),
        ({"generator_cpu": 0.95}, "generator CPU"),
        ({"time_in": FLUSHING}, "commits and WAL"),
        ({"db_cpu": 0.93, "db_cores": 1.86}, "database CPU"),
        ({"time_in": BUSY}, "database CPU"),
        ({"host_cores": 2, "db_cores": 1.0, "generator_cores": 0.8}, "database CPU"),
        ({"host_cores": 2, "db_cores": 0.8, "generator_cores": 1.0}, "generator CPU"),
        ({"host_cores": 2, "time_in": STARVED}, "a busy host"),
        ({}, "round trips"),
    ],
)
def test_verdict_names_the_limit_with_its_evidence(figures: dict, limit: str) -> None:
    """Each limit is told by figures, and none without one."""
    verdict = judge(record("2", measured(**figures)), "what comes next")
    assert verdict is not None
    assert verdict.limit == limit
    assert any(char.isdigit() for char in " ".join(verdict.evidence))
    assert verdict.next_step == "what comes next"


def test_many_writes_that_wait_for_one_thread_are_limited_by_it() -> None:
    """One write at a time waits for round trips; fifty wait for the generator."""
    m = measured(generator_cpu=0.6)
    verdicts = [judge(record("2-B", m, lanes=lanes), None) for lanes in (1, 50)]
    assert [v.limit for v in verdicts if v] == ["round trips", "generator CPU"]


@pytest.mark.parametrize(
    "figures",
    [
        {"time_in": {}, "generator_cpu": None, "db_cores": None, "db_cpu": None},
        {"time_in": {}},
        {"time_in": {}, "db_cpu": 0.95},
        {"generator_cpu": None},
    ],
)
def test_no_limit_is_named_from_missing_figures(figures: dict) -> None:
    """What is missing is said, with its reason where there is one; a picture can show it."""
    missing = {"time_in": "no sample was taken"}
    one = record("2", measured(**figures, missing=missing))
    verdict = judge(one, None)
    assert verdict is not None
    assert verdict.limit == "not known"
    gone = [name for name in ("generator_cpu", "db_cores") if figures.get(name, 1) is None]
    assert [words for words in verdict.evidence if words.startswith("missing")] == [
        *(f"missing {name}: not measured" for name in gone),
        *(["missing time_in: no sample was taken"] if "time_in" in figures else []),
    ]
    assert plots.render(summary.ladder(manifest("2"), [one]))


def test_limits_that_the_generator_shows_need_no_samples_of_backends() -> None:
    """Connection set-up and a full core are its own figures."""
    shown = {"connection set-up": {"connect_share": 0.7}, "generator CPU": {"generator_cpu": 0.95}}
    for limit, figures in shown.items():
        verdict = judge(record("2", measured(time_in={}, **figures)), None)
        assert verdict is not None
        assert verdict.limit == limit


@pytest.mark.parametrize(("rows", "limit"), [(780, "the intended rate"), (760, "round trips")])
def test_a_write_beside_the_window_is_not_short_of_the_rate(rows: int, limit: str) -> None:
    """Forty writes of 20 rows are due in 4 s; where an edge falls decides on one of them."""
    m = measured(rows / 4, window_s=4, rows=rows, writes=rows // 20)
    verdict = judge(record("3-D-500", m, batch=20, target_tps=200.0), None)
    assert verdict is not None
    assert verdict.limit == limit


def test_verdict_of_a_paced_rung_says_by_how_much_it_is_short() -> None:
    """A kept rate is no limit."""
    short = judge(record("1", measured(150, connect_share=0.7), target_tps=200.0), None)
    assert short is not None
    assert short.limit == "connection set-up"
    assert "150.0 of 200 rows/s: 50.0 short (25%)" in short.evidence[0]
    kept = judge(record("1", measured(50), target_tps=50.0), None)
    assert kept is not None
    assert kept.limit == "the intended rate"
    assert judge(record("1", None), None) is None


def test_time_in_counts_backends_per_write_under_way() -> None:
    """Idle connections of a pool are not counted: what is left of a lane's time is the client's."""
    found = {"CPU": 0.2, "IO:WALSync": 0.3, "Lock:x": 0.1, "Client:ClientRead": 49.0}
    shares = {"computing": 0.2, "a core": 0, "WAL": 0.3, "other waits": 0.1, "client": 0.4}
    assert time_in(found, 1, None) == shares
    assert time_in(found, 1, 0.05) == shares | {"computing": 0.05, "a core": 0.15}


LADDER = summary.ladder(
    manifest("1", "2-B", "2-C", "3-F"),
    [
        record("1", measured(100)),
        record("2-B", measured(4_000)),
        record("2-B", measured(6_000), cell_id="2-B-r2", repetition=2),
        record("2-C", measured(1.0), status="rejected", reject_reasons=["postgres ended"]),
        record("3-F", measured(200_000), durability="lost on a crash"),
        record("ceiling", measured(100_000)),
        record("ceiling-pgbench", measured(8_000)),
    ],
)


def test_ladder_csv_begins_with_the_columns_asked_for() -> None:
    """Ratios are of means of accepted measurements; a rejected rung has none."""
    lines = list(csv.DictReader(io.StringIO(summary.to_csv(LADDER))))
    assert list(lines[0])[:11] == [
        "rung", "method", "durability", "status", "rows_per_s", "commits_per_s",
        "latency_mean_ms", "latency_p95_ms", "ratio_to_first", "ratio_to_ceiling", "verdict",
    ]  # fmt: skip
    by_name = {line["rung"]: line for line in lines}
    assert list(by_name) == ["1", "2-B", "2-C", "3-F", "ceiling", "ceiling-pgbench"]
    assert by_name["2-B"]["rows_per_s"] == "5000.0"
    assert by_name["2-B"]["ratio_to_first"] == "50.000"
    assert by_name["2-B"]["ratio_to_ceiling"] == "0.050000"
    rejected = by_name["2-C"]
    assert (rejected["status"], rejected["rows_per_s"], rejected["verdict"]) == ("rejected", "", "")
    assert rejected["reject_reason"] == "postgres ended"
    assert by_name["ceiling"]["ratio_to_ceiling"] == "1.000000"


def test_headlines_keep_durable_rungs_apart() -> None:
    """The best rung may lose data; the best durable one may not."""
    found = dict(LADDER.headlines())
    assert found["best rung (3-F) / rung 1"] == 2000
    assert found["best durable rung (2-B) / psql \\copy"] == 0.05
    assert found["2-C / 2-B"] is None


def test_report_and_pictures_say_what_is_lost_and_what_was_rejected() -> None:
    """The report reads a whole run; the pictures are PNG and the same for the same records."""
    text = markdown.render(LADDER, ["ladder.png"])
    assert "lost on a crash" in text
    assert "postgres ended" in text
    assert "what 2-C removes" in text
    assert "50.0x" in text
    pictures = plots.render(LADDER)
    assert set(pictures) == {"ladder.png", "ladder_bottleneck.png"}
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())
    assert pictures == plots.render(LADDER)
    assert plots.render(summary.ladder(manifest("1"), [record("1")])) == {}


def test_page_holds_tables_pictures_and_what_may_be_lost() -> None:
    """One file, with the pictures inside it."""
    html = web.render(LADDER, {"ladder.png": b"\x89PNG"})
    assert all(heading in html for heading, _, _ in markdown.COSTS)
    assert "data:image/png;base64,iVBORw==" in html
    assert "2,000x" in html
    assert "lost on a crash" in html
    assert 'src="http' not in html


def test_errors_and_unequal_rows_reject_a_rung() -> None:
    """The reason has the figures."""
    many = measured(100, error_rate=0.2, errors={"DiskFull 53100: no space": 7})
    assert "20.0% of the attempts failed" in reasons(many, None)[0]
    wrong = record("1").verification
    assert wrong is not None
    wrong = wrong.model_copy(update={"right": False, "why": "9 rows in the table, 10 acknowledged"})
    assert "9 rows in the table" in reasons(measured(), wrong)[0]
    assert reasons(measured(), record("1").verification) == []


ONE_WRITE = encode_histogram({5000: 1})


def line(start: int, process: int = 0, **more: float) -> dict:
    base = {
        "start": start, "process": process, "writes": 1, "rows": 10, "failed_rows": 0,
        "failed_writes": 0, "sum_ms": 5.0, "errors": {}, "queue": 0, "hdr": ONE_WRITE,
        "cpu_s": start * 0.5, "cpu_at": start + 1.0, "connects": start, "connect_s": start * 0.1,
    }  # fmt: skip
    return base | more


def test_window_adds_up_the_seconds_of_all_processes() -> None:
    """Counters go from the second before the window to its last."""
    lines = [line(s, p) for s in range(10, 16) for p in (0, 1)]
    found = window(lines, 12, 15)
    assert (found.rows, found.writes) == (60, 6)
    assert found.busiest_cpu == pytest.approx(0.5)
    assert found.cores == pytest.approx(1.0)
    assert found.connects == 6
    assert [point["rows"] for point in found.timeline] == [20, 20, 20]
    with pytest.raises(Exception, match="told of 5 of 6 seconds"):
        window([one for one in lines if (one["start"], one["process"]) != (13, 1)], 12, 15)


def account(unknown: list[tuple[int, int]], acknowledged: int) -> Account:
    size = acknowledged + sum(n for _, n in unknown)
    one = {"base": 0, "next": size, "acknowledged_rows": acknowledged, "unknown": unknown,
           "not_written": []}  # fmt: skip
    return Account((one,), 1)


ACKNOWLEDGED = np.array([(9.0, 0, 10), (9.9, 10, 10), (12.0, 30, 10)], ACKNOWLEDGEMENT)
UNKNOWN = [(20, 10)]


def test_crash_keeps_its_promise_where_every_acknowledged_row_is_there() -> None:
    """A write whose answer was lost may be there or not; as a whole."""
    for there in (0, 10):
        ids = np.array([*range(20), *range(20, 20 + there), *range(30, 40)])
        found = settle(account(UNKNOWN, 30), ACKNOWLEDGED, ids, there, 0, 10.0, "committed to disk")
        assert found.right, found.why
        assert (found.lost_rows, found.unknown_written) == (0, there)


@pytest.mark.parametrize(
    ("durability", "ids", "right"),
    [
        ("committed to disk", [*range(10), *range(30, 40)], False),
        ("up to 600 ms at risk", [*range(10), *range(30, 40)], True),
        ("up to 600 ms at risk", [*range(10, 20), *range(30, 40)], False),
        ("lost on a crash", [*range(30, 40)], True),
        ("lost on a crash", [*range(10), *range(30, 40)], False),
        ("committed to disk", [*range(15), *range(30, 40)], False),
        ("committed to disk", [*range(20), *range(30, 41)], False),
    ],
)
def test_crash_test_holds_each_rung_to_its_own_promise(
    durability: str, ids: list[int], right: bool
) -> None:
    """Ten rows acknowledged 100 ms before the crash may be missing where that was said."""
    there = np.array(ids)
    found = settle(account(UNKNOWN, 30), ACKNOWLEDGED, there, 0, 0, 10.0, durability)
    assert found.right is right, found


def test_crash_before_anything_was_written_tests_nothing() -> None:
    """It is said rather than taken for success."""
    late = ACKNOWLEDGED[2:]
    found = settle(account([], 10), late, np.arange(30, 40), 0, 0, 10.0, "committed to disk")
    assert "nothing was tested" in str(found.why)


class Writing:
    """A generator that goes on."""

    def alive(self) -> bool:
        return True


@pytest.mark.parametrize(("seconds", "found"), [([100], False), ([100, 101], True)])
def test_writes_flow_again_only_in_a_second_that_began_after_the_recovery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: list[int], found: bool
) -> None:
    """The second of the kill holds rows from before it, where recovery takes less than that."""
    lines = [json.dumps(line(second)) for second in seconds]
    (tmp_path / "seconds.jsonl").write_text("".join(f"{text}\n" for text in lines))
    monkeypatch.setattr(crash, "ACKNOWLEDGED_S", 0.0)
    if found:
        crash.wait_for_writes(Writing(), tmp_path, 100.7)
    else:
        with pytest.raises(ServiceError, match="no write was acknowledged"):
            crash.wait_for_writes(Writing(), tmp_path, 100.7)


def test_crash_report_shows_what_was_lost() -> None:
    """One line per rung, in the ladder's order."""
    one = record("3-A", durability="up to 600 ms at risk")
    files = crash_report.files(manifest("1", "3-A", preset="ladder-crash"), [one, record("1")])
    assert [row["rung"] for row in csv.DictReader(io.StringIO(str(files["crash.csv"])))] == [
        "1", "3-A",
    ]  # fmt: skip
    assert "SIGKILL" in str(files["summary_report.md"])
