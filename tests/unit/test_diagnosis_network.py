"""The queueing network against what is known in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.diagnosis.demand import demand
from lab.diagnosis.network import Network, network, with_next

from .diagnosis_facts import CALM

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
    assert many.binding() == ["database-cpu"]


def test_a_pool_lets_only_so_many_inside() -> None:
    """Two connections held 50 ms each give 40 a second, however many users there are."""
    pool = replace(PLAIN, database_ms=0.1, service_ms=0.1, waiting_ms=50.0, pool_slots=2)
    assert pool.throughput() == pytest.approx(40, rel=0.02)
    assert pool.binding() == ["service-pool"]
    assert replace(pool, pool_slots=100).throughput() == pytest.approx(20 / 0.0507, rel=0.05)


def test_nested_limits_bind_at_the_innermost() -> None:
    """PgBouncer's pool binds before the service's larger one and the threads around both."""
    nested = replace(PLAIN, users=60, database_ms=0.1, service_ms=0.1, waiting_ms=50.0,
                     pgbouncer_ms=0.1, pgbouncer_slots=1, pool_slots=16,
                     service_slots=32)  # fmt: skip
    assert nested.throughput() == pytest.approx(20, rel=0.02)
    assert nested.binding() == ["pgbouncer-pool"]


def test_few_users_saturate_nothing() -> None:
    """Four users who wait 200 ms each are far from any bound."""
    light = replace(PLAIN, users=4, waiting_ms=200.0, pool_slots=16)
    assert light.binding() == []


def test_slots_of_one_size_bind_together() -> None:
    """Threads that hold little more than the pool's connections are next to it."""
    both = replace(PLAIN, users=40, database_ms=0.1, service_ms=0.1, waiting_ms=50.0,
                   pool_slots=2, service_slots=2)  # fmt: skip
    assert both.binding() == ["service-pool", "workers-or-backlog"]


def test_a_full_cpu_explains_full_slots() -> None:
    """Where the database's CPU is used up, the pool in front of it is only its queue."""
    crowded = replace(PLAIN, users=100, database_ms=10.0, pool_slots=4)
    assert crowded.binding() == ["database-cpu"]


def test_without_a_limit_the_next_one_binds() -> None:
    """What throughput would be comes from the network, not from residence that has queues in it."""
    facts = replace(
        CALM,
        rps=40.0,
        pool_slots=2,
        pool_wait_ms=400.0,
        mean_ms=500.0,
        server_ms=495.0,
        use_ms=50.0,
        waits={"Timeout": 2.0},
        executed_ms=45.0,
    )
    net = network(facts)
    assert net is not None
    found = with_next(demand(facts), facts, net)
    pool = found.of("service-pool")
    assert pool is not None
    gain = replace(net, pool_slots=None).throughput() / net.throughput()
    assert pool.next_rps == pytest.approx(40 * gain)
    assert pool.next_rps > 2 * 40
    threads = found.of("workers")
    assert threads is not None
    assert threads.next_rps == pytest.approx(40)


def test_a_thousand_users_neither_overflow_nor_underflow() -> None:
    """The convolution stays finite with large populations and very unequal demands."""
    extreme = Network(users=2000, database_ms=200.0, waiting_ms=900.0, pgbouncer_ms=0.001,
                      service_ms=0.01, generator_ms=0.001, pool_slots=500)  # fmt: skip
    assert extreme.throughput() == pytest.approx(5.0, rel=0.01)


@pytest.mark.parametrize("users", [500, 1000, 2000])
def test_a_long_wait_and_a_small_pool_keep_to_their_bound(users: int) -> None:
    """Three hundred connections held for a second each are 300 requests per second."""
    net = Network(users=users, database_ms=1.0, waiting_ms=1000.0, pgbouncer_ms=0.0,
                  service_ms=1.0, generator_ms=0.0, pool_slots=300)  # fmt: skip
    assert net.throughput() == pytest.approx(299, rel=0.01)
