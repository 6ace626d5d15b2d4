"""The queueing network against what is known in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.diagnosis.network import Network, with_cpu

PLAIN = Network(
    users=20, database_ms=2.0, waiting_ms=0.0, pgbouncer_ms=0.0, service_ms=2.0, generator_ms=0.0
)


def test_one_user_takes_the_sum_of_all_demands() -> None:
    """Without anybody else there is no queue: X = 1 / (sum of D)."""
    alone = replace(PLAIN, users=1, waiting_ms=5.0)
    assert alone.throughput() == pytest.approx(1000 / (2 + 2 + 5 + 0.5), rel=1e-6)


def test_balanced_queues_share_as_the_formula_says() -> None:
    """K equal queueing centres and no delay: X = N / (N + K - 1) / D."""
    assert PLAIN.throughput() == pytest.approx(20 / 21 / 2 * 1000, rel=0.01)


def test_many_users_reach_the_lowest_bound() -> None:
    """X approaches 1 / D_max and never exceeds it."""
    many = replace(PLAIN, users=1000, database_ms=4.0)
    assert many.throughput() == pytest.approx(250, rel=0.001)
    assert many.throughput() <= 250.0001
    assert many.first_bottleneck() == "database-cpu"


def test_a_pool_lets_only_so_many_inside() -> None:
    """Two connections held 50 ms each give 40 a second, however many users there are."""
    pool = replace(PLAIN, database_ms=0.1, service_ms=0.1, waiting_ms=50.0, pool_slots=2)
    assert pool.throughput() == pytest.approx(40, rel=0.02)
    assert pool.first_bottleneck() == "service-pool"
    assert replace(pool, pool_slots=100).throughput() == pytest.approx(20 / 0.0507, rel=0.05)


def test_nested_limits_bind_at_the_innermost() -> None:
    """PgBouncer's pool binds before the service's larger one and the threads around both."""
    nested = replace(PLAIN, users=60, database_ms=0.1, service_ms=0.1, waiting_ms=50.0,
                     pgbouncer_ms=0.1, pgbouncer_slots=1, pool_slots=16,
                     service_slots=32)  # fmt: skip
    assert nested.throughput() == pytest.approx(20, rel=0.02)
    assert nested.first_bottleneck() == "pgbouncer-pool"


def test_few_users_saturate_nothing() -> None:
    """Four users who wait 200 ms each are far from any bound."""
    light = replace(PLAIN, users=4, waiting_ms=200.0, pool_slots=16)
    assert light.first_bottleneck() == "not-saturated"


def test_more_cpu_moves_the_bound_by_its_ratio() -> None:
    """Twice the limit halves the demand on the whole resource."""
    assert with_cpu(PLAIN, "database", 2.0).bounds()["database-cpu"] == pytest.approx(1000)


def test_a_thousand_users_neither_overflow_nor_underflow() -> None:
    """The convolution stays finite with large populations and very unequal demands."""
    extreme = Network(users=2000, database_ms=200.0, waiting_ms=900.0, pgbouncer_ms=0.001,
                      service_ms=0.01, generator_ms=0.001, pool_slots=500)  # fmt: skip
    assert extreme.throughput() == pytest.approx(5.0, rel=0.01)
