"""The ceiling, by the real pgbench on the real PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.ceiling import Target, measure
from lab.errors import ServiceError
from lab.settings import SCENARIOS, build
from lab.stack.base import Pgbench

from .conftest import Lab

SETTINGS = build({"SEED_POSTS": "200", "SEED_USERS": "200"})


@pytest.fixture(scope="module")
def postgres(lab: Lab) -> Target:
    """PostgreSQL of the stack, as a role that may enter any database."""
    settings = lab.settings()
    endpoints = lab.stack.start_database(settings)
    password = settings.postgres_password.get_secret_value()
    return Target("direct", endpoints.database, "postgres", password)


@pytest.fixture(scope="module")
def pgbench(lab: Lab) -> Pgbench:
    return lab.stack.pgbench()


@pytest.mark.parametrize("protocol", ["simple", "prepared"])
def test_ceiling_of_persistent_clients(pgbench, postgres, protocol):
    ceiling = measure(pgbench, postgres, protocol, SETTINGS, clients=4, duration_s=1)
    assert (ceiling.route, ceiling.protocol, ceiling.clients) == ("direct", protocol, 4)
    assert ceiling.tps is not None
    assert ceiling.latency_ms is not None
    assert ceiling.tps > 50
    # Little's law within pgbench itself.
    assert ceiling.tps * ceiling.latency_ms / 1000 == pytest.approx(4, rel=0.1)
    assert (ceiling.connects, ceiling.connect_ms) == (False, None)
    assert ceiling.duration_s == pytest.approx(1, abs=0.3)  # without the warm-up


def test_ceiling_of_connecting_is_lower(pgbench, postgres):
    kept = measure(pgbench, postgres, "simple", SETTINGS, clients=2, duration_s=1)
    ceiling = measure(pgbench, postgres, "simple", SETTINGS, clients=2, duration_s=1, connects=True)
    assert ceiling.connects
    assert kept.tps is not None
    assert ceiling.tps is not None
    assert ceiling.connect_ms is not None
    assert 0 < ceiling.tps < kept.tps / 2
    assert ceiling.connect_ms > 0


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "db-test"])
def test_ceiling_of_every_scenario(pgbench, postgres, scenario):
    settings = SETTINGS.model_copy(update={"scenario": scenario, "slow_query_ms": 20})
    ceiling = measure(pgbench, postgres, "prepared", settings, clients=4, duration_s=1)
    assert (ceiling.scenario, ceiling.clients) == (scenario, 4)
    assert ceiling.tps is not None
    assert ceiling.tps > 0
    if scenario == "slow-query":
        assert ceiling.tps <= 4 / 0.02


def test_ceiling_with_a_wrong_password_says_why(pgbench, postgres):
    with pytest.raises(ServiceError, match=r"ended with code 1.*password authentication failed"):
        measure(pgbench, replace(postgres, password="wrong"), "simple", SETTINGS, duration_s=1)


def test_ceiling_without_the_tables_says_why(pgbench, postgres):
    with pytest.raises(ServiceError, match=r'ended with code 2.*"posts" does not exist'):
        measure(
            pgbench,
            replace(postgres, database="template1"),
            "simple",
            SETTINGS,
            clients=1,
            duration_s=5,
        )
