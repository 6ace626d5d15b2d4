"""Every scenario is proved before it is loaded, and what is not the work is noticed."""

from __future__ import annotations

import pytest

from lab import edges, equal_work
from lab.errors import VerificationError
from lab.samples import SAMPLES
from lab.settings import FRAMEWORKS, SCENARIOS

from .conftest import Lab


@pytest.fixture(scope="module")
def works() -> dict[str, equal_work.Work]:
    """What the first framework's requests were, by scenario."""
    return {}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_scenario_is_equal_work(lab: Lab, works, framework: str) -> None:
    """The same statements and rows in all three, and PostgreSQL's count is that of the requests."""
    route = "pgbouncer" if framework == "fastapi" else "direct"
    toggles = {"FRAMEWORK": framework, "ROUTE": route, "SLOW_QUERY_MS": 30, "HOT_ROWS": 3}
    settings, endpoints = lab.start(**toggles, MONITORING="off")
    with lab.sql(endpoints) as connection:
        for scenario in SCENARIOS:
            asked = settings.model_copy(update={"scenario": scenario})
            work = equal_work.prove(endpoints.service, asked, connection)
            assert works.setdefault(scenario, work).difference(work) is None
            assert work.statements == works[scenario].statements, work.texts
            assert edges.count(connection).calls == SAMPLES

        def refused(scenario: str, **claims: int) -> str:
            asked = settings.model_copy(update={"scenario": scenario, **claims})
            with pytest.raises(VerificationError) as caught:
                equal_work.prove(endpoints.service, asked, connection)
            return str(caught.value)

        assert "$.slept_ms is 30, expected 500" in refused("slow-query", slow_query_ms=500)
        if framework == "fastapi":
            connection.execute(
                "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS"
                " 'BEGIN NEW.hits = OLD.hits; RETURN NEW; END'"
            )
            connection.execute(
                "CREATE TRIGGER lose BEFORE UPDATE ON hot_rows FOR EACH ROW EXECUTE FUNCTION lose()"
            )
            try:
                assert "not what was updated" in refused("hot-row")
            finally:
                connection.execute("DROP FUNCTION lose CASCADE")


def test_service_role_may_do_its_statements_and_no_more(lab: Lab) -> None:
    """Of everything that a role can be allowed, on tables and on columns."""
    with lab.sql(lab.stack.start_database(lab.settings())) as connection:
        tables = connection.execute(
            "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
            " WHERE grantee = 'poolscope_service'"
        ).fetchall()
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.role_column_grants"
            " WHERE grantee = 'poolscope_service' AND privilege_type = 'UPDATE'"
        ).fetchall()
    read = {(name, "SELECT") for name in ("users", "posts", "comments", "transactions", "hot_rows")}
    assert set(tables) == read | {("transactions", "INSERT")}
    assert columns == [("hot_rows", "hits")]


def test_data_of_an_older_version_is_loaded_again(lab: Lab) -> None:
    """A data folder from before the scenarios has neither their table nor their columns."""
    settings = lab.settings()
    with lab.sql(lab.stack.start_database(settings)) as connection:
        connection.execute("DROP TABLE hot_rows")
        connection.execute("ALTER TABLE users DROP COLUMN latitude, DROP COLUMN longitude")
        connection.execute("UPDATE seed_state SET fingerprint = 'of an older version'")
    lab.stack._provision_key = ()  # as in a new process
    with lab.sql(lab.stack.start_database(settings)) as connection:
        found = connection.execute(
            "SELECT (SELECT count(latitude) FROM users), (SELECT count(*) FROM hot_rows)"
        ).fetchone()
        assert found == (settings.seed_users, 1000)
        readable = "has_table_privilege('poolscope_service', 'hot_rows', 'SELECT')"
        assert connection.execute(f"SELECT {readable}").fetchone() == (True,)
