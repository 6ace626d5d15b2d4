"""pgbench's command, and its reports of several versions."""

from __future__ import annotations

import re

import pytest
from sqlalchemy.dialects.postgresql import psycopg

from apps.common import tables, workload
from lab.ceiling import (
    CLIENTS,
    SLEEPERS,
    Target,
    clients_for,
    command,
    environment,
    measure,
    parse,
)
from lab.errors import ServiceError
from lab.paths import ROOT
from lab.settings import SCENARIOS, build
from lab.stack.base import Pgbench

TARGET = Target("direct", "poolscope", "service", "secret")
SCRIPTS = ROOT / "database" / "pgbench"
PGBENCH = Pgbench(["/no/pgbench"], {}, str(SCRIPTS), {"direct": ("127.0.0.1", 5432)})

PG15 = """pgbench (15.20 (Debian 15.20-0+deb12u1))
transaction type: db-test.sql
scaling factor: 1
query mode: simple
number of clients: 20
number of threads: 1
maximum number of tries: 1
duration: 3 s
number of transactions actually processed: 8640
number of failed transactions: 0 (0.000%)
latency average = 6.935 ms
initial connection time = 38.112 ms
tps = 2884.121 (without initial connection time)
"""
PG15_CONNECT = PG15.replace(
    "initial connection time = 38.112 ms\ntps = 2884.121 (without initial connection time)",
    "average connection time = 12.5 ms\ntps = 71.5 (including reconnection times)",
)
PG13 = PG15.replace(
    "initial connection time = 38.112 ms\ntps = 2884.121 (without initial connection time)",
    "tps = 2700.5 (including connections establishing)\n"
    "tps = 2884.121 (excluding connections establishing)",
)


@pytest.mark.parametrize("report", [PG15, PG13])
def test_parse_gives_the_rate_without_connecting(report):
    ceiling = parse(report, "db-test", "direct", "simple", connects=False)
    assert (ceiling.latency_ms, ceiling.clients) == (6.935, 20)
    assert ceiling.tps == pytest.approx(2884.121)
    assert (ceiling.duration_s, ceiling.reason) == (2.996, None)


def test_parse_leaves_out_the_first_second():
    """8,640 transactions in 3 s, connecting included; 1,640 of the first leave 7,000 in 2 s."""
    progress = (
        "progress: 1.0 s, 1640.0 tps, lat 12.000 ms stddev 5.3, 0 failed\n"
        "progress: 2.0 s, 3500.0 tps, lat 5.700 ms stddev 2.1, 0 failed\n"
    )
    report = PG15.replace("2884.121", f"{8640 / (3 - 0.038112):.6f}")
    ceiling = parse(progress + report, "db-test", "direct", "simple", connects=False)
    assert ceiling.tps == pytest.approx(3500)
    assert ceiling.latency_ms == pytest.approx((8640 * 6.935 - 1640 * 12) / 7000)
    assert ceiling.duration_s == 2


def test_parse_leaves_out_connecting_that_takes_long():
    """Of 1.2 s of connecting the second second has some, and is left out as well."""
    progress = (
        "progress: 1.0 s, 0.0 tps, lat 0.000 ms stddev 0.0, 0 failed\n"
        "progress: 2.0 s, 1640.0 tps, lat 12.000 ms stddev 5.3, 0 failed\n"
        "progress: 3.0 s, 3500.0 tps, lat 5.700 ms stddev 2.1, 0 failed\n"
    )
    report = PG15.replace("38.112", "1200.0").replace("2884.121", f"{8640 / (4 - 1.2):.6f}")
    ceiling = parse(progress + report, "db-test", "direct", "simple", connects=False)
    assert ceiling.tps == pytest.approx(3500)
    assert ceiling.duration_s == 2


def test_parse_refuses_a_result_of_the_first_second_alone():
    progress = "progress: 1.0 s, 8640.0 tps, lat 6.935 ms stddev 5.3, 0 failed\n"
    with pytest.raises(ServiceError, match="no transaction through direct after its warm-up"):
        parse(progress + PG15, "db-test", "direct", "simple", connects=False)


def test_parse_of_connecting_gives_the_rate_with_it():
    ceiling = parse(PG15_CONNECT, "db-test", "direct", "simple", connects=True)
    assert (ceiling.tps, ceiling.connect_ms) == (pytest.approx(71.5), 12.5)
    found = parse(PG13, "db-test", "direct", "simple", connects=True)
    assert found.tps == pytest.approx(2700.5)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ("", "not understood"),
        (
            PG15.replace("8640", "0").partition("latency")[0],
            "finished no transaction through direct",
        ),
        (PG15.replace("tps = 2884.121 (without initial connection time)", ""), "not understood"),
    ],
)
def test_parse_refuses_what_has_no_figure(report, message):
    with pytest.raises(ServiceError, match=message):
        parse(report, "db-test", "direct", "simple", connects=False)


def test_password_is_in_the_environment_only():
    found = command(PGBENCH, TARGET, "prepared", build({}), 20, 3, True)
    assert not [word for word in found if "secret" in word]
    assert {"--protocol=prepared", "--connect", "--define=posts=50000"} <= set(found)
    env = environment(TARGET, {"PGHOST": "elsewhere", "PATH": "/bin", "LC_ALL": "de_DE"})
    assert env["PGPASSWORD"] == "secret"
    assert (env["LC_ALL"], env["PATH"]) == ("C", "/bin")
    assert "PGHOST" not in env


def test_prepared_is_skipped_with_a_reason_where_it_cannot_work():
    ceiling = measure(PGBENCH, TARGET, "prepared", build({}), prepared_supported=False)
    assert ceiling.tps is None
    assert "cannot carry prepared statements" in str(ceiling.reason)


def test_missing_program_is_a_service_error():
    with pytest.raises(ServiceError, match="could not be started"):
        measure(PGBENCH, TARGET, "simple", build({}))


def test_clients_fit_the_scenario_and_are_never_more_than_postgresql_takes():
    assert clients_for(build({})) == CLIENTS
    assert clients_for(build({"SCENARIO": "hot-row"})) == 2
    assert clients_for(build({"SCENARIO": "hot-row", "HOT_ROWS": "1000"})) == CLIENTS
    assert clients_for(build({"SCENARIO": "heavy", "DB_CPUS": "0.25"})) == 4
    assert clients_for(build({"SCENARIO": "slow-query"})) == SLEEPERS
    few = build({"SCENARIO": "slow-query", "POSTGRES_MAX_CONNECTIONS": "30"})
    assert clients_for(few) == 22


SENT = {
    "db-test": (tables.SELECT_POST, {"post_id": ":id"}),
    "slow-query": (tables.SELECT_SLOWLY, {}),
    "hot-row": (tables.UPDATE_HOT_ROW, {}),
    "heavy": (tables.SELECT_NEAREST, {"latitude_2": ":latitude"}),
    # The service sends its own clock's time and note, and leaves the id to the database.
    "insert": (tables.INSERT_TRANSACTION, {"note": "'poolscope'", "created_at": "now()"}),
}


def test_every_scenario_has_a_script():
    assert {path.stem for path in SCRIPTS.glob("*.sql")} >= set(SCENARIOS) == set(SENT)
    assert set(SCENARIOS) == set(workload.SCENARIOS)


@pytest.mark.parametrize("scenario", SENT)
def test_script_is_the_statement_that_the_services_send(scenario):
    statement, names = SENT[scenario]
    fields = workload.Transaction._fields if scenario == "insert" else None
    compiled = statement.compile(dialect=psycopg.dialect(), column_keys=fields)

    def value(found: re.Match[str]) -> str:
        given = compiled.params[found[1]]
        fixed = str(given) if type(given) in (int, float) else f":{found[1]}"
        return names.get(found[1], fixed)

    sent = re.sub(r"CAST\((.*?) AS DOUBLE PRECISION\)", r"\1", " ".join(str(compiled).split()))
    sent = re.sub(r"%\((\w+)\)s(::INTEGER|::TIMESTAMP WITH TIME ZONE)?", value, sent)
    script = (SCRIPTS / f"{scenario}.sql").read_text()
    lines = [line for line in script.splitlines() if not line.startswith(("--", "\\"))]
    assert " ".join(lines) == f"{sent};"
