"""The exporter as a whole: failures stay apart, settings, names of PgBouncer and PostgreSQL."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from pydantic import ValidationError

from monitoring.exporter import pgbouncer, postgres
from monitoring.exporter.collector import PoolscopeCollector
from monitoring.exporter.reading import Reading, gauge
from monitoring.exporter.settings import ExporterSettings
from tests.unit.scrapes import golden, sample_names, samples

ROOT = Path(__file__).parents[2]


@dataclass
class FakeSource:
    """Gives a figure, a problem beside it, an error, or nothing until it is let go."""

    name: str
    problems: list[str] = field(default_factory=list)
    error: Exception | None = None
    wait_for: threading.Event | None = None
    reads: int = 0

    def read(self) -> Reading:
        self.reads += 1
        if self.wait_for is not None:
            self.wait_for.wait(10)
        if self.error is not None:
            raise self.error
        return Reading([gauge(f"{self.name}_figure", "x", [], [((), 1)])], list(self.problems))


def scrape(collector: PoolscopeCollector) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(collector)
    found = samples(generate_latest(registry).decode())
    return {
        name + "".join(f"[{value}]" for _, value in labels): number
        for (name, labels), number in found.items()
    }


def of_families(families: list[Metric]) -> dict[str, float]:
    collector = PoolscopeCollector([_Fixed(families)], [], 1)
    return {k: v for k, v in scrape(collector).items() if not k.startswith("poolscope_")}


@dataclass
class _Fixed:
    families: list[Metric]
    name: str = "fixed"

    def read(self) -> Reading:
        return Reading(self.families)


def test_collector_that_fails_leaves_the_others_alone() -> None:
    """Its figures are absent, not 0."""
    good, bad = FakeSource("good"), FakeSource("bad", error=ConnectionRefusedError("refused"))
    for local, remote in (([good], [bad]), ([bad], [good])):
        figures = scrape(PoolscopeCollector(local, remote, 1))
        assert figures["good_figure"] == 1
        assert "bad_figure" not in figures
        assert figures["poolscope_collector_up[good]"] == 1
        assert figures["poolscope_collector_up[bad]"] == 0


def test_collector_with_a_part_of_its_figures_is_not_up() -> None:
    figures = scrape(PoolscopeCollector([FakeSource("a", problems=["b is gone"])], [], 1))
    assert figures["a_figure"] == 1
    assert figures["poolscope_collector_up[a]"] == 0


def test_collector_does_not_wait_longer_than_its_deadline() -> None:
    """A stopped server costs its own figures; its late answer belongs to no scrape."""
    release = threading.Event()
    slow = FakeSource("slow", wait_for=release)
    collector = PoolscopeCollector([FakeSource("files")], [slow, FakeSource("quick")], 0.05)
    for _ in range(2):
        figures = scrape(collector)
        assert figures["files_figure"] == figures["quick_figure"] == 1
        assert "slow_figure" not in figures
        assert figures["poolscope_collector_up[slow]"] == 0
        assert "poolscope_collector_duration_seconds[slow]" not in figures
    assert slow.reads == 1
    release.set()
    call = collector._remote["slow"]
    assert call._thread is not None
    call._thread.join(5)
    assert scrape(collector)["slow_figure"] == 1


def test_collector_reads_files_while_another_scrape_waits_for_a_server() -> None:
    """CPU is read when a scrape begins, whoever else is still being answered."""
    release = threading.Event()
    files = FakeSource("files")
    collector = PoolscopeCollector([files], [FakeSource("slow", wait_for=release)], 5)
    scrapes = [threading.Thread(target=list, args=(collector.collect(),)) for _ in range(2)]
    for thread in scrapes:
        thread.start()
    deadline = time.monotonic() + 5
    while files.reads < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    both = files.reads
    release.set()
    for thread in scrapes:
        thread.join()
    assert both == 2


def test_collector_logs_changes_not_scrapes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    source = FakeSource("bouncer", error=OSError("connection\nrefused"))
    collector = PoolscopeCollector([source], [], 1)
    for error in (source.error, source.error, None, None, OSError("again")):
        source.error = error
        list(collector.collect())
    assert [record.message for record in caplog.records] == [
        "collector bouncer down: connection refused",
        "collector bouncer up again",
        "collector bouncer down: again",
    ]


def test_fault_of_a_source_is_not_hidden() -> None:
    """Only what the other side can do to us is a failure of a collector."""
    collector = PoolscopeCollector([FakeSource("a", error=TypeError("bug"))], [], 1)
    with pytest.raises(TypeError):
        list(collector.collect())


STATS_118 = {
    "database": "poolscope",
    "total_xact_count": 10,
    "total_query_count": 20,
    "total_received": 300,
    "total_sent": 400,
    "total_xact_time": 5_000_000,
    "total_query_time": 2_500_000,
    "total_wait_time": 310_000,
    "avg_wait_time": 7,
}
STATS_124 = STATS_118 | {
    "total_server_assignment_count": 11,
    "total_client_parse_count": 12,
    "total_server_parse_count": 13,
    "total_bind_count": 14,
}


def test_pgbouncer_times_are_in_seconds() -> None:
    figures = of_families(pgbouncer.stats_families([STATS_118]))
    prefix = "pgbouncer_stats_totals"
    assert figures[f"{prefix}_client_wait_seconds_total[poolscope]"] == pytest.approx(0.31)
    assert figures[f"{prefix}_queries_duration_seconds_total[poolscope]"] == 2.5
    assert figures[f"{prefix}_server_in_transaction_seconds_total[poolscope]"] == 5
    assert figures[f"{prefix}_queries_pooled_total[poolscope]"] == 20
    assert figures[f"{prefix}_received_bytes_total[poolscope]"] == 300


def test_pgbouncer_columns_that_a_version_lacks_are_absent() -> None:
    old = of_families(pgbouncer.stats_families([STATS_118]))
    new = of_families(pgbouncer.stats_families([STATS_124]))
    name = "pgbouncer_stats_totals_server_assignments_total[poolscope]"
    assert name not in old
    assert new[name] == 11
    assert new["pgbouncer_stats_totals_binds_total[poolscope]"] == 14


def test_pgbouncer_maxwait_has_its_microseconds() -> None:
    """The packaged exporter reads 0 here."""
    row = {"database": "d", "user": "u", "cl_waiting": 3, "maxwait": 0, "maxwait_us": 310_000}
    (figure,) = [
        value
        for name, value in of_families(pgbouncer.pools_families([row])).items()
        if name.startswith("pgbouncer_pools_client_maxwait_seconds")
    ]
    assert figure == pytest.approx(0.31)


@pytest.mark.parametrize("column", ["reserve_pool", "reserve_pool_size"])
def test_pgbouncer_reserve_pool_is_found_under_both_names(column: str) -> None:
    row = {"name": "n", "host": None, "port": 1, "database": "d", "pool_size": 2, column: 5}
    figures = of_families(pgbouncer.databases_families([row]))
    (value,) = [v for k, v in figures.items() if k.startswith("pgbouncer_databases_reserve_pool")]
    assert value == 5


def test_pgbouncer_limits_come_from_the_config() -> None:
    rows = [{"key": "max_client_conn", "value": "200"}, {"key": "auth_type", "value": "md5"}]
    assert of_families(pgbouncer.config_families(rows)) == {
        "pgbouncer_config_max_client_connections": 200
    }


def test_pgbouncer_names_are_those_of_the_packaged_exporter() -> None:
    """As 0.11 and later have them: stats under stats_totals, the rest as in 0.10."""

    def of_upstream(text: str) -> Iterator[str]:
        for name in sample_names(text):
            if name != "pgbouncer_exporter_build_info":
                yield name.replace("pgbouncer_stats_", "pgbouncer_stats_totals_")

    ours = {n for n in sample_names(golden("poolscope_exporter")) if n.startswith("pgbouncer_")}
    assert ours == set(of_upstream(golden("pgbouncer_exporter-0.10.2_pgbouncer-1.18")))
    assert ours >= set(of_upstream(golden("pgbouncer_exporter-0.10.2_pgbouncer-1.24")))


def test_postgres_names_do_not_clash_with_postgres_exporters() -> None:
    """Both are scraped; one name with two meanings or sums over both would be wrong."""
    ours = {n for n in sample_names(golden("poolscope_exporter")) if n.startswith("pg_")}
    assert not ours & sample_names(golden("postgres_exporter-0.11.1"))


def test_postgres_sessions_are_in_seconds() -> None:
    row = {column: 1500.0 for column, *_ in postgres.SESSIONS} | {"datname": "poolscope"}
    figures = of_families(postgres.sessions_families([row]))
    assert figures["pg_stat_database_sessions_total[poolscope]"] == 1500
    assert figures["pg_stat_database_session_seconds_total[poolscope]"] == 1.5


def test_postgres_without_lock_waits_has_0_of_them() -> None:
    """It was looked at: this 0 was measured."""
    figures = of_families(postgres.waits_families([]))
    assert figures == {"pg_stat_activity_lock_waits": 0, "pg_stat_activity_client_backends": 1}


def test_postgres_reserved_connections_are_absent_before_16() -> None:
    row = {
        "max_connections": "100",
        "superuser_reserved_connections": "3",
        "reserved_connections": None,
    }
    assert of_families(postgres.settings_families([row])) == {
        "pg_settings_max_connections": 100,
        "pg_settings_superuser_reserved_connections": 3,
    }


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> ExporterSettings:
    for name, value in values.items():
        monkeypatch.setenv(f"EXPORTER_{name.upper()}", value)
    return ExporterSettings()  # type: ignore[call-arg]


def test_settings_join_dsn_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(
        monkeypatch,
        state_file="/x",
        postgres_dsn="postgresql://me@127.0.0.1:5432/poolscope",
        postgres_password="it's secret",
        pgbouncer_dsn="host=127.0.0.1 port=6432 user=stats",
    )
    assert r"password='it\'s secret'" in str(found.postgres_conninfo())
    assert "dbname=pgbouncer" in str(found.pgbouncer_conninfo())
    assert (found.host, found.port) == ("127.0.0.1", 9128)
    assert "secret" not in repr(found)


def test_settings_without_a_dsn_leave_the_source_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch, state_file="/x", pgbouncer_dsn="")
    assert found.postgres_conninfo() is None
    assert found.pgbouncer_conninfo() is None


def test_settings_errors_do_not_show_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """What libpq itself says would quote it: invalid connection option."""
    with pytest.raises(ValidationError) as caught:
        settings(monkeypatch, state_file="/x", postgres_dsn="host=a pass word=hunter2")
    assert "hunter2" not in str(caught.value)


def test_program_says_what_is_missing_and_exits_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitoring.exporter"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "EXPORTER_PORT": "99999999"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "EXPORTER_STATE_FILE: Field required" in done.stderr
    assert "EXPORTER_PORT: Input should be less than or equal to 65535" in done.stderr
    assert "Traceback" not in done.stderr
