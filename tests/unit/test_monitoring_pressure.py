"""The most saturated resource: what the verdict on the same figures says, or nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lab.diagnosis import diagnose_record, thresholds
from lab.results import CellRecord, Measurement
from monitoring import signals_pressure as pressure
from monitoring.signals_pressure import most_saturated

from .test_diagnosis_golden import GOLDEN, golden

#: The resource of each verdict that has one; load-generator-or-host has two.
RESOURCE_OF = {
    "max-connections": {"max_connections"},
    "database-cpu": {"database CPU"},
    "service-cpu": {"service CPU"},
    "pgbouncer-cpu": {"PgBouncer CPU"},
    "pgbouncer-pool": {"PgBouncer's pool"},
    "service-pool": {"service's pool"},
    "load-generator-or-host": {"generator CPU", "host CPU"},
}
#: Those whose resource is full beyond doubt: to say nothing of them would be of no use.
PLAIN = ("database-cpu", "service-cpu", "pgbouncer-cpu", "several-cpus")


def recorded(record: CellRecord) -> dict[str, float]:
    """Return the recorded signals of a cell's window, by what was measured over all of it."""
    m = record.measurement
    assert m is not None
    found = {
        **{f"{part}_cpu_ratio": value for part, value in _cpus(m).items()},
        "db_throttled_ratio": m.db_throttled,
        "service_throttled_ratio": m.app_throttled,
        "pgbouncer_throttled_ratio": m.pgbouncer_throttled,
        "generator_cpu_ratio": m.generator_cpu,
        "host_cpu_busy_ratio": m.host_cpu,
        "client_failures_ratio": m.error_rate,
        "client_users": float(record.users),
        "new_connections_per_request": m.new_connections_per_request,
        "pool_wait_mean_seconds": None if m.pool_wait_ms is None else m.pool_wait_ms / 1000,
        "server_latency_mean_seconds": None
        if m.server_mean_ms is None
        else m.server_mean_ms / 1000,
    }
    sampled = ("postgres_connections_room", "postgres_connections_used_ratio", "pool_used_ratio",
               "pgbouncer_pool_used_ratio", "pgbouncer_clients_waiting")  # fmt: skip
    found |= {name: m.sampled.get(name) for name in sampled}
    return {name: value for name, value in found.items() if value is not None}


def _cpus(m: Measurement) -> dict[str, float | None]:
    return {"db": m.db_cpu, "service": m.app_cpu, "pgbouncer": m.pgbouncer_cpu}


def asked(series: dict[str, float], folder: Path) -> list[str]:
    """Return the resources that the query names, as promtool evaluates it."""
    wrong = [{"labels": '{resource="nobody"}', "value": 1}]  # so that promtool says what it found
    test = {
        "rule_files": [],
        "evaluation_interval": "2s",
        "tests": [{
            "interval": "2s",
            "input_series": [
                {"series": f"poolscope:{name}", "values": f"{value:g}x10"}
                for name, value in series.items()
            ],
            "promql_expr_test": [
                {"expr": most_saturated(), "eval_time": "20s", "exp_samples": wrong}
            ],
        }],
    }  # fmt: skip
    path = folder / "pressure.yml"
    path.write_text(json.dumps(test))
    done = subprocess.run(
        [os.environ["PROMTOOL"], "test", "rules", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "FAILED" in said, said
    got = said.partition("got:")[2]
    return [part.partition('"')[0] for part in got.split('resource="')[1:]]


@pytest.mark.parametrize("name", GOLDEN)
def test_most_saturated_is_the_verdicts_resource_or_nothing(name: str, tmp_path: Path) -> None:
    record = golden(name)
    found = diagnose_record(record)
    said = asked(recorded(record), tmp_path)
    allowed = set().union(*(RESOURCE_OF.get(limit, set()) for limit in found.limits))
    assert len(said) <= 1
    assert set(said) <= allowed
    assert said or name not in PLAIN


def test_most_saturated_is_silent_without_data(tmp_path: Path) -> None:
    assert asked({}, tmp_path) == []


def test_most_saturated_names_no_cpu_where_requests_fail(tmp_path: Path) -> None:
    """What the rest of the requests do says little then."""
    assert asked({"db_cpu_ratio": 1.0}, tmp_path) == ["database CPU"]
    assert asked({"db_cpu_ratio": 1.0, "client_failures_ratio": 0.02}, tmp_path) == []


def test_most_saturated_names_the_host_only_where_it_limits(tmp_path: Path) -> None:
    assert asked({"host_cpu_busy_ratio": 0.61}, tmp_path) == []
    assert asked({"host_cpu_busy_ratio": 0.98, "db_cpu_ratio": 0.5}, tmp_path) == ["host CPU"]
    busy = {"host_cpu_busy_ratio": 0.98, "db_cpu_ratio": 1.0}
    assert asked(busy, tmp_path) == ["database CPU"]


#: What makes each resource beside the CPUs be named, and what then keeps it from being named.
POOLED = {
    "service's pool": {
        "pool_used_ratio": 1.0, "pool_wait_mean_seconds": 0.4, "server_latency_mean_seconds": 0.5,
    },
    "PgBouncer's pool": {
        "pgbouncer_pool_used_ratio": 1.0, "pgbouncer_clients_waiting": 8.0, "client_users": 20.0,
    },
    "max_connections": {
        "postgres_connections_used_ratio": 1.0, "postgres_connections_room": 0.0,
        "client_failures_ratio": 0.3,
    },
    "generator CPU": {"generator_cpu_ratio": 0.99},
}  # fmt: skip


@pytest.mark.parametrize("resource", POOLED)
def test_most_saturated_names_each_resource_by_all_of_its_signs(
    resource: str, tmp_path: Path
) -> None:
    signs = POOLED[resource]
    assert asked(signs, tmp_path) == [resource]
    for name in signs:
        assert asked({n: v for n, v in signs.items() if n != name}, tmp_path) == []


@pytest.mark.parametrize("resource", ["service's pool", "PgBouncer's pool"])
@pytest.mark.parametrize(
    "other",
    [
        {"db_cpu_ratio": 0.8},
        {"client_failures_ratio": 0.02},
        {"new_connections_per_request": 0.5},
        {'postgres_active_backends_by_wait{wait_event_type="Lock"}': 3.0},
    ],
    ids=lambda other: next(iter(other)),
)
def test_most_saturated_names_no_pool_that_something_else_fills(
    resource: str, other: dict[str, float], tmp_path: Path
) -> None:
    assert asked(POOLED[resource] | other, tmp_path) == []


def test_most_saturated_keeps_a_margin_to_each_threshold() -> None:
    """Where it said more than the verdict, it could say something else."""
    assert thresholds.CPU.value < pressure.FULL
    assert thresholds.GENERATOR.value < pressure.FULL
    assert thresholds.SLOTS.value < pressure.FULL
    assert thresholds.CPU_IN_BURSTS.value < pressure.FULL_IN_BURSTS
    assert thresholds.THROTTLED.value < pressure.STOPPED
    assert thresholds.POOL_SHARE.value < pressure.QUEUED
    assert thresholds.CONNECTS.value > pressure.CONNECTING
    assert thresholds.FAILURES.value >= pressure.FAILING
    assert thresholds.HOST.value < pressure.HOST_FULL
    assert thresholds.CPU.value > pressure.PART_FREE
