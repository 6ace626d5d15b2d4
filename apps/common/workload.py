"""What every service does: scenarios, parameter ranges, answer shapes and error codes.

All three frameworks take parameters from here and hand their rows back to `shape`, so that equal
requests get byte-equal answers.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

DB_TEST_PATH: Final = "/benchmark/db-test"
INSERT_PATH: Final = "/benchmark/insert"
SLOW_QUERY_PATH: Final = "/benchmark/slow-query"
HOT_ROW_PATH: Final = "/benchmark/hot-row"
HEAVY_PATH: Final = "/benchmark/heavy"
HEALTH_PATH: Final = "/healthz"
METRICS_PATH: Final = "/metrics"

SCENARIOS: Final = {
    "db-test": ("GET", DB_TEST_PATH),
    "insert": ("POST", INSERT_PATH),
    "slow-query": ("GET", SLOW_QUERY_PATH),
    "hot-row": ("POST", HOT_ROW_PATH),
    "heavy": ("GET", HEAVY_PATH),
}

JSON_TYPE: Final = "application/json"
HEALTHY: Final = b'{"status":"ok"}'
HEALTH_SQL: Final = "SELECT 1"

MAX_POST_ID: Final = 2**31 - 1
#: of the heavy statement: users in its answer, and twice the Earth's mean radius (IUGG)
NEAREST: Final = 10
EARTH_DIAMETER_KM: Final = 12_742.0176
_NOTE: Final = "poolscope"

#: Which of the run's workers this process is, in the order they were started; gunicorn's hook says.
worker_number = 0

#: One row of the db-test statement; the comment's four columns are None for a post without any.
#: (post id, title, body, author id, author name,
#:  comment id, comment body, comment author id, comment author name), ordered by comment id.
Row = tuple[int, str, str, int, str, int | None, str | None, int | None, str | None]


class Transaction(NamedTuple):
    """Hold the values of one row of `transactions`; the database gives the id."""

    user_id: int
    amount: Decimal
    note: str
    created_at: datetime


class Centre(NamedTuple):
    """Hold where the heavy statement searches, in degrees."""

    latitude: float
    longitude: float


class BadParameterError(ValueError):
    """Say that a request's parameter is not what it has to be: 400 with a short code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Parameters:
    """Draw the parameters of requests, uniformly over the ids that are in the database.

    Each worker has its own sequence, and the same in every run of one seed.
    """

    def __init__(self, seed_users: int, seed_posts: int, hot_rows: int = 1, seed: int = 42) -> None:
        self._users = seed_users
        self._posts = seed_posts
        self._hot_rows = hot_rows
        self._random = random.Random(f"{seed}-{worker_number}")

    def post_id(self, given: str | None) -> int:
        """Return the post asked for, else a random one of 1 to SEED_POSTS.

        Raises BadParameterError.
        """
        if given is None:
            return int(self._random.random() * self._posts) + 1
        try:
            return int(given)
        except ValueError:
            detail = f"post_id is not a whole number: {given[:40]!r}"
            raise BadParameterError("bad-post-id", detail) from None

    def user_id(self) -> int:
        """Return a random one of 1 to SEED_USERS."""
        return int(self._random.random() * self._users) + 1

    def hot_row(self) -> int:
        """Return a random one of 1 to HOT_ROWS."""
        return int(self._random.random() * self._hot_rows) + 1

    def centre(self, latitude: str | None, longitude: str | None) -> Centre:
        """Return the centre asked for, else a random one.

        Raises BadParameterError.
        """
        if latitude is None and longitude is None:
            draw = self._random.random
            return Centre(draw() * 180 - 90, draw() * 360 - 180)
        return Centre(_degrees("latitude", latitude, 90), _degrees("longitude", longitude, 180))

    def transaction(self) -> Transaction:
        """Return a new row for `transactions`; amounts are 0.01 to 1000.00."""
        draw = self._random.random
        return Transaction(
            user_id=int(draw() * self._users) + 1,
            amount=Decimal(int(draw() * 100_000) + 1).scaleb(-2),
            note=_NOTE,
            created_at=datetime.now(UTC),
        )


def _degrees(name: str, given: str | None, limit: int) -> float:
    try:
        value = float(given or "")
    except ValueError:
        value = math.nan
    if not -limit <= value <= limit:
        detail = f"{name} is not a number from -{limit} to {limit}: {(given or '')[:40]!r}"
        raise BadParameterError("bad-centre", detail)
    return value


def shape(rows: Iterable[Any]) -> dict[str, Any] | None:
    """Make the db-test answer of rows in `Row`'s order; None where there is no such post."""
    answer: dict[str, Any] | None = None
    comments: list[dict[str, Any]] = []
    for post_id, title, body, author_id, author, comment_id, text, writer_id, writer in rows:
        if answer is None:
            answer = {
                "id": post_id,
                "title": title,
                "body": body,
                "author": {"id": author_id, "name": author},
                "comments": comments,
            }
        if comment_id is not None:
            comments.append(
                {"id": comment_id, "body": text, "author": {"id": writer_id, "name": writer}}
            )
    return answer


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode(answer: dict[str, Any]) -> bytes:
    """Return compact UTF-8 JSON: one encoder for all, so that none gets a faster one."""
    return _encode(answer).encode()


def db_test_answer(rows: Iterable[Any], post_id: int) -> tuple[int, bytes]:
    """Return status and body for the rows of a post: 200, or 404 where it does not exist."""
    answer = shape(rows)
    if answer is None:
        return 404, error_body("post-not-found", f"no post has id {post_id}")
    return 200, encode(answer)


def slow_query_answer(rows: Sequence[Any], slept_ms: int) -> tuple[int, bytes]:
    """Return status and body for the user that was read slowly: one row of (id, name, nothing)."""
    [(user_id, name, _nothing)] = rows
    return 200, encode({"id": user_id, "name": name, "slept_ms": slept_ms})


def hot_row_answer(row_id: int, updated: int) -> tuple[int, bytes]:
    """Return status and body for an update and how many rows it changed."""
    return 200, encode({"id": row_id, "updated": updated})


def heavy_answer(centre: Centre, rows: Iterable[Any]) -> tuple[int, bytes]:
    """Return status and body for the users nearest to a centre.

    Rows are (id, name, latitude, longitude, distance in km), nearest first; distances are given
    to the metre.
    """
    nearest = [
        {
            "id": user_id,
            "name": name,
            "latitude": latitude,
            "longitude": longitude,
            "distance_km": round(distance, 3),
        }
        for user_id, name, latitude, longitude, distance in rows
    ]
    return 200, encode({"centre": centre._asdict(), "nearest": nearest})


def error_body(code: str, detail: str) -> bytes:
    """Return the JSON of an error: a short code and one line of detail."""
    first_line = detail.strip().partition("\n")[0]
    return encode({"error": code, "detail": first_line[:200]})
