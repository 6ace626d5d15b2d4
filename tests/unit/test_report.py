"""The report's text: CSV, groups, Markdown and terminal table from synthetic records."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from lab import report
from lab.report import groups, markdown, summary, table, wording
from lab.results import CeilingRecord, Run
from tests.unit.report_records import THREE, TWO, manifest, measurement, record, run_of

GOLDEN = """\
cell_id,status,reject_reason,framework,route,users,repetition,db_pool,scram_iterations,window_s,\
requests,rps,mean_ms,p50_ms,p95_ms,p99_ms,error_rate,new_connections_per_request,pool_wait_ms,\
pgbouncer_wait_ms,db_cpu,app_cpu,pgbouncer_cpu,generator_cpu,db_throttled,verdict
a,accepted,,fastapi,direct,10,1,persistent,4096,10,5000,500,20.13,18,41.5,60.25,0,0.000001,0,,\
0.4512,1,,0.3333,0,
b,rejected,"load generator used 97% of a core; CPU steal was 2.0%",fastapi,direct,10,2,persistent,\
4096,10,12345678,1234567.8,0.01,,,,,,,,,,,,,
c,rejected,"service stopped, with ""code"" 1",django,pgbouncer,100,1,per-request,16,,,,,,,,,,,,,,,,,
"""


def records_of_golden():
    axes = {"DB_POOL": "persistent", "SCRAM_ITERATIONS": 4096}
    full = measurement(
        requests=5000, rps=500.0, mean_ms=20.129, p50_ms=18.0, p95_ms=41.5, p99_ms=60.25,
        error_rate=0.0, new_connections_per_request=1e-6, pool_wait_ms=0.0, db_cpu=0.45123,
        app_cpu=1.0, generator_cpu=1 / 3, db_throttled=0.0,
    )  # fmt: skip
    large = measurement(requests=12345678, rps=1234567.8, mean_ms=0.008)
    other = {"DB_POOL": "per-request", "SCRAM_ITERATIONS": 16}
    down = 'service stopped,\nwith "code" 1'
    why = ("load generator used 97% of a core", "CPU steal was 2.0%")
    return [
        record(axes=axes, measured=full, cell_id="a"),
        record(axes=axes, measured=large, repetition=2, reasons=why, cell_id="b"),
        record("django", "pgbouncer", 100, 1, other, reasons=(down,), cell_id="c"),
    ]


def view_of(axes=None, **changes):
    made, records = run_of(axes or {"FRAMEWORK": THREE, "ROUTE": TWO, "USERS": [10, 100]})
    return groups.view(made.model_copy(update=changes), records)


def test_summary_csv_golden():
    """Rejected cells have their reasons, missing values are empty, and no float has an exponent."""
    text = summary.to_csv(records_of_golden(), ["DB_POOL", "SCRAM_ITERATIONS"])
    assert list(csv.reader(io.StringIO(text))) == list(csv.reader(io.StringIO(GOLDEN)))


def test_summary_csv_columns_stand_in_the_order_of_the_design():
    assert ",".join(summary.columns(["DB_POOL"])) == (
        "cell_id,status,reject_reason,framework,route,users,repetition,db_pool,window_s,requests,"
        "rps,mean_ms,p50_ms,p95_ms,p99_ms,error_rate,new_connections_per_request,pool_wait_ms,"
        "pgbouncer_wait_ms,db_cpu,app_cpu,pgbouncer_cpu,generator_cpu,db_throttled,verdict"
    )


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(None, 2, ""), (float("nan"), 2, ""), (0.0, 4, "0"), (-1e-9, 2, "0"),
     (1e21, 0, "1" + "0" * 21), (1e-7, 6, "0"), (100.0, 2, "100")],
)  # fmt: skip
def test_summary_writes_numbers_plainly(value, decimals, text):
    assert summary._fixed(value, decimals) == text


def test_axis_that_a_variant_leaves_out_comes_from_the_settings():
    one = record(axes={"DB_POOL": "persistent"}).model_copy(update={"axes": {}})
    assert summary.rows([one], ["DB_POOL"])[0]["db_pool"] == "persistent"


def test_groups_leave_rejected_cells_out_of_means_and_count_them():
    cells = [
        record(repetition=1, measured=measurement(rps=100.0)),
        record(repetition=2, measured=measurement(rps=110.0)),
        record(repetition=3, measured=measurement(rps=9000.0), reasons=("steal",)),
    ]
    group = groups.view(manifest(cells), cells).groups[0]
    found = group.estimate("rps")
    assert found is not None
    assert (found.value, found.n) == (105, 2)
    assert 100 <= found.low <= 105 <= found.high <= 110
    assert group.status == "1 of 3 rejected"
    assert group.rejected_mean("rps") == 9000


def test_groups_give_no_interval_for_one_repetition_and_nothing_for_none():
    cells = [record(measured=measurement(p95_ms=None, rps=100.0))]
    group = groups.view(manifest(cells), cells).groups[0]
    assert group.estimate("rps").low is None
    assert group.estimate("p95_ms") is None
    assert group.mean("p95_ms") is None


def test_groups_order_does_not_depend_on_the_order_of_measuring():
    made, records = run_of({"FRAMEWORK": THREE, "ROUTE": TWO, "USERS": [100, 10]})
    one, other = (groups.view(made, r) for r in (records, records[::-1]))
    assert [g.axes for g in one.groups] == [g.axes for g in other.groups]
    assert [g.axes["USERS"] for g in one.groups[:2]] == [10, 100]
    assert one.groups[0].axes["FRAMEWORK"] == "fastapi"


def test_changes_pair_accepted_repetitions_only():
    cells = [
        record(repetition=n, route=route, measured=measurement(rps=rps), reasons=reasons)
        for n, route, rps, reasons in (
            (1, "direct", 100.0, ()), (1, "pgbouncer", 200.0, ()),
            (2, "direct", 100.0, ("steal",)), (2, "pgbouncer", 900.0, ()),
        )
    ]  # fmt: skip
    (change,) = groups.view(manifest(cells), cells).changes()
    assert (change.ratios["rps"].value, change.ratios["rps"].n) == (2.0, 1)
    assert change.ratios["p95_ms"] is None


def test_ceilings_keep_the_best_of_each_route_and_protocol_and_no_unknown_one():
    found = {(c.route, c.protocol) for c in view_of().ceilings()}
    assert found == {("direct", "simple"), ("direct", "prepared"), ("pgbouncer", "simple")}


def test_ceilings_of_several_scenarios_stay_apart():
    """Each scenario is held against its own ceiling, and none is drawn over bars of others."""
    cells = [
        record(axes={"SCENARIO": name}, measured=measurement(rps=rps))
        for name, rps in (("db-test", 100.0), ("heavy", 10.0))
    ]
    ceilings = [
        CeilingRecord(
            scenario=name, route="direct", protocol="simple", clients=20, tps=tps, latency_ms=1.0
        )
        for name, tps in (("db-test", 1000.0), ("heavy", 20.0))
    ]
    made = manifest(cells, {"SCENARIO": ["db-test", "heavy"]}, ceilings=ceilings)
    text = markdown.render(groups.view(made, cells), [])
    assert "| scenario | route | protocol |" in text
    assert "10%" in text.split("How close")[1]
    assert "50%" in text.split("How close")[1]
    assert "an axis (db-test, heavy)" in text


def test_markdown_says_loudly_that_limits_are_not_enforced():
    text = markdown.render(view_of(limits=None, limits_reason="no cgroup | writable"), [])
    assert "> **Limits were NOT enforced: no cgroup \\| writable.**" in text.split("## Result")[0]
    assert "NOT enforced" not in markdown.render(view_of(), [])


def test_markdown_says_it_also_where_single_cells_ran_without_limits():
    cells = [record(measured=measurement(), limits_enforced=False)]
    text = markdown.render(groups.view(manifest(cells), cells), [])
    assert "Limits were NOT enforced" in text
    assert "some of the cells" in text


def test_markdown_has_reasons_ceilings_ratios_and_pictures():
    made, records = run_of({"FRAMEWORK": THREE, "ROUTE": TWO}, repetitions=2)
    records[0] = records[0].model_copy(
        update={"status": "rejected", "reject_reasons": ["steal was 2% | <limit 1%>"]}
    )
    text = markdown.render(groups.view(made, records), ["rps_comparison.png", "cpu_share.png"])
    assert "| `fastapi-direct-u20-r1` | steal was 2% \\| &lt;limit 1%> |" in text
    assert "(plots/rps_comparison.png)" in text
    assert "p95_latency_comparison.png" not in text
    assert "pgbouncer cannot carry prepared statements" in text
    assert "make bench PRESET=quick" in text
    assert "1 of 2 rejected" in text
    assert "RPS ratio" in text


def test_markdown_tables_have_as_many_cells_as_headings():
    text = markdown.render(
        view_of({"FRAMEWORK": THREE, "ROUTE": TWO, "METRICS": ["on", "off"]}), []
    )
    blocks = [b for b in text.split("\n\n") if b.startswith("|")]
    assert len(blocks) >= 6
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1


def test_markdown_names_what_was_not_measured_and_why():
    cells = [record(measured=measurement(missing={"db_cpu": "no CPU counter for postgres"}))]
    made = manifest(cells).model_copy(
        update={"cells": {"one": "0", "two": "0"}, "status": "interrupted", "finished_at": None}
    )
    text = markdown.render(groups.view(made, cells), [])
    assert "| `db_cpu` | no CPU counter for postgres | 1 |" in text
    assert "2 of 2 cells were not measured** (run interrupted)" in text


@pytest.mark.parametrize(
    "axes",
    [
        {"FRAMEWORK": THREE, "ROUTE": TWO, "USERS": [10, 100, 500, 1000]},
        {"FRAMEWORK": THREE, "ROUTE": TWO, "DB_POOL": ["per-request", "persistent"]},
        {"PGBOUNCER_DEFAULT_POOL_SIZE": [2, 40], "PGBOUNCER_POOL_MODE": ["transaction", "session"],
         "DB_POOL": ["persistent", "per-request"], "USERS": [20, 100]},
    ],
)  # fmt: skip
def test_table_fits_a_hundred_columns_as_plain_text(axes):
    made, records = run_of(axes, repetitions=2)
    text = table.text(groups.view(made, records))
    assert max(map(len, text.splitlines())) <= 100
    assert text.isprintable() or "\x1b" not in text
    assert text.count("accepted") == len(records) // 2


def test_table_shows_reasons_limits_and_what_is_left():
    made, records = run_of({"FRAMEWORK": THREE})
    records[1] = records[1].model_copy(update={"status": "rejected", "reject_reasons": ["steal"]})
    made = made.model_copy(update={"limits": None, "limits_reason": "not permitted"})
    text = table.text(groups.view(made, records[:2]))
    assert "limits not enforced: not permitted" in text
    assert "rejected django-direct-u20-r1: steal" in text
    assert "1 of 3 cells not measured" in text


def test_write_leaves_the_same_bytes_each_time(tmp_path: Path):
    made, records = run_of({"FRAMEWORK": ["flask"], "ROUTE": TWO, "USERS": [10, 100]})
    run = Run(tmp_path / made.run_id)
    run.write_manifest(made)
    for one in records:
        run.write_record(one)
    paths = report.write(run)
    first = {path: path.read_bytes() for path in paths}
    assert {path: path.read_bytes() for path in report.write(run)} == first
    names = {str(path.relative_to(run.folder)) for path in paths}
    assert {"summary.csv", "summary_report.md", "plots/rps_over_users.png"} <= names
    assert all(first.values())
    for name in (n for n in names if n.endswith(".png")):
        assert f"(plots/{Path(name).name})" in (run.folder / "summary_report.md").read_text()
    output = io.StringIO()
    report.show(run, Console(file=output, width=100))
    assert "pgbouncer" in output.getvalue()


def test_write_copes_with_a_run_without_records(tmp_path: Path):
    run = Run(tmp_path / "empty")
    run.write_manifest(manifest([]))
    written = [path.name for path in report.write(run)]
    assert written == ["summary.csv", "summary_report.md", "report.html"]


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0, "0"),
        (0.0004, "0.000"),
        (0.25, "0.25"),
        (9.996, "10.0"),
        (99.96, "100"),
        (1234.5, "1,234"),
    ],
)
def test_wording_number_keeps_three_digits(x, text):
    assert wording.number(x) == text


@pytest.mark.parametrize(
    ("x", "text"),
    [(0, "0%"), (0.00001, "<0.01%"), (0.0004, "0.04%"), (0.05, "5.0%"), (0.97, "97%")],
)
def test_wording_percent_never_rounds_something_to_nothing(x, text):
    assert wording.percent(x) == text


@pytest.mark.parametrize(
    ("name", "words"),
    [("DB_CONN_MAX_AGE", "conn max age"), ("PGBOUNCER_POOL_MODE", "pool mode"),
     ("DB_CPUS", "db cpus"), ("PGBOUNCER_CPUS", "pgbouncer cpus"), ("WORKERS", "workers")],
)  # fmt: skip
def test_wording_toggle_is_short_and_unmistakable(name, words):
    assert wording.toggle(name) == words
