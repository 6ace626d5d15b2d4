"""Parameters, answers and error codes of the services."""

from __future__ import annotations

from decimal import Decimal

import psycopg
import pytest
from psycopg import errors

from apps.common import failures, workload

ROWS = [
    (7, "title", "bödy", 3, "Ann", 1, "first", 4, "Bob"),
    (7, "title", "bödy", 3, "Ann", 2, "second", 3, "Ann"),
]


def test_shape_nests_comments_in_row_order() -> None:
    assert workload.shape(ROWS) == {
        "id": 7,
        "title": "title",
        "body": "bödy",
        "author": {"id": 3, "name": "Ann"},
        "comments": [
            {"id": 1, "body": "first", "author": {"id": 4, "name": "Bob"}},
            {"id": 2, "body": "second", "author": {"id": 3, "name": "Ann"}},
        ],
    }


def test_shape_of_a_post_without_comments_has_an_empty_list() -> None:
    answer = workload.shape([(7, "t", "b", 3, "Ann", None, None, None, None)])
    assert answer is not None
    assert answer["comments"] == []


def test_answer_without_rows_is_404() -> None:
    status, body = workload.db_test_answer([], 9)
    assert (status, b"post-not-found" in body) == (404, True)


def test_parameters_stay_in_range_and_give_whole_cents() -> None:
    parameters = workload.Parameters(seed_users=3, seed_posts=2)
    assert {parameters.post_id(None) for _ in range(200)} == {1, 2}
    rows = [parameters.transaction() for _ in range(200)]
    assert {row.user_id for row in rows} == {1, 2, 3}
    assert all(Decimal("0.01") <= row.amount <= 1000 for row in rows)
    assert all(row.amount.as_tuple().exponent == -2 for row in rows)


def test_parameters_repeat_for_a_seed_and_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run can be done again with the same ids; its workers do not ask for the same ones."""

    def drawn(worker: int, seed: int) -> list[int]:
        monkeypatch.setattr(workload, "worker_number", worker)
        parameters = workload.Parameters(1, 50_000, seed=seed)
        return [parameters.post_id(None) for _ in range(5)]

    assert drawn(1, 42) == drawn(1, 42) == [27437, 44598, 40720, 28912, 13041]
    assert len({tuple(drawn(worker, seed)) for worker in (1, 2) for seed in (42, 43)}) == 4


def test_parameters_refuse_an_id_that_is_not_a_number() -> None:
    parameters = workload.Parameters(1, 1)
    assert parameters.post_id("12") == 12
    with pytest.raises(workload.BadParameterError, match="whole number"):
        parameters.post_id("1 OR 1=1")


def test_parameters_of_hot_row_spread_over_as_many_rows_as_asked() -> None:
    one, three = workload.Parameters(1, 1), workload.Parameters(1, 1, hot_rows=3)
    assert {one.hot_row() for _ in range(20)} == {1}
    assert {three.hot_row() for _ in range(200)} == {1, 2, 3}


def test_parameters_of_heavy_are_the_ones_given_or_on_the_globe() -> None:
    parameters = workload.Parameters(1, 1)
    assert parameters.centre("-90", "180.0") == (-90.0, 180.0)
    for _ in range(50):
        latitude, longitude = parameters.centre(None, None)
        assert -90 <= latitude <= 90
        assert -180 <= longitude <= 180


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [("91", "0"), ("0", "-181"), ("nan", "0"), ("inf", "0"), ("north", "0"), ("1", None)],
)
def test_parameters_refuse_a_place_that_is_none(latitude: str, longitude: str | None) -> None:
    with pytest.raises(workload.BadParameterError, match="is not a number from") as caught:
        workload.Parameters(1, 1).centre(latitude, longitude)
    assert caught.value.code == "bad-centre"


def test_heavy_answer_gives_metres() -> None:
    rows = [(3, "Ann", 1.5, 2.5, 12.3456789)]
    status, body = workload.heavy_answer(workload.Centre(1.0, 2.0), rows)
    assert (status, body) == (
        200,
        b'{"centre":{"latitude":1.0,"longitude":2.0},"nearest":[{"id":3,"name":"Ann",'
        b'"latitude":1.5,"longitude":2.5,"distance_km":12.346}]}',
    )


def test_error_body_keeps_one_short_line() -> None:
    assert workload.error_body("code", "one\ntwo") == b'{"error":"code","detail":"one"}'


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.QueryCanceled(), "statement-timeout"),
        (errors.AdminShutdown(), "database-unavailable"),
        (errors.CannotConnectNow(), "database-unavailable"),
        (errors.TooManyConnections(), "database-unavailable"),
        (errors.ProtocolViolation(), "database-unavailable"),
        (errors.InvalidCatalogName(), "database-unavailable"),
        (psycopg.OperationalError("connection refused"), "database-unavailable"),
        (psycopg.InterfaceError("the connection is closed"), "database-unavailable"),
        (ConnectionRefusedError(), "database-unavailable"),
        (errors.UndefinedTable(), None),
        (errors.InsufficientPrivilege(), None),
        (ValueError(), None),
    ],
)
def test_code_of_tells_outages_from_defects(error: Exception, code: str | None) -> None:
    assert failures.code_of(error) == code
