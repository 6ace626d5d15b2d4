"""Sample requests of each scenario, held against the instrument's own SQL.

Each function sends SAMPLES requests, compares answers and tables with what they have to be, and
returns how many rows PostgreSQL must have counted for them. VerificationError says what differs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import httpx
import psycopg

from lab.errors import VerificationError
from lab.settings import Scenario, Settings

SAMPLES = 5
#: Users in an answer of `heavy`.
NEAREST = 10

POST = """
SELECT json_build_object(
    'id', p.id, 'title', p.title, 'body', p.body,
    'author', json_build_object('id', a.id, 'name', a.name),
    'comments', coalesce((
        SELECT json_agg(json_build_object(
                   'id', c.id, 'body', c.body,
                   'author', json_build_object('id', u.id, 'name', u.name)) ORDER BY c.id)
        FROM comments c JOIN users u ON u.id = c.author_id WHERE c.post_id = p.id), '[]'::json)),
    greatest(1, (SELECT count(*) FROM comments c WHERE c.post_id = p.id))
FROM posts p JOIN users a ON a.id = p.author_id WHERE p.id = %s
"""
#: The haversine formula once more, written otherwise: in degrees, by the identity
#: sin(d/2)^2 = (1 - cos d) / 2 for the difference in longitude only.
NEIGHBOURS = """
WITH centre AS (SELECT %s::float8 AS latitude, %s::float8 AS longitude)
SELECT u.id, u.name, u.latitude, u.longitude, 2 * 6371.0088 * asin(sqrt(least(1,
    sind((u.latitude - c.latitude) / 2) * sind((u.latitude - c.latitude) / 2)
    + cosd(u.latitude) * cosd(c.latitude) * (1 - cosd(u.longitude - c.longitude)) / 2)))
FROM users u, centre c ORDER BY 5, 1 LIMIT %s
"""
#: Kilometres that two ways to write the formula may lie apart: the services give metres.
CLOSE_KM = 0.002

SLEPT = """
SELECT min(s.min_exec_time) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
WHERE r.rolname = 'poolscope_service' AND s.query LIKE '%pg_sleep%'
"""

Sampling = Callable[[httpx.Client, Settings, psycopg.Connection], int]


def ask(client: httpx.Client, method: str, path: str) -> Any:
    """Return the JSON of an answer with 200 or 201; raise VerificationError for any other."""
    try:
        answer = client.request(method, path)
    except httpx.HTTPError as error:
        raise VerificationError(f"{method} {path} of {client.base_url} failed: {error}") from None
    if answer.status_code not in (200, 201):
        raise VerificationError(
            f"{method} {path} answered {answer.status_code}: {answer.text[:200]}"
        )
    return answer.json()


def db_test(client: httpx.Client, s: Settings, connection: psycopg.Connection) -> int:
    """Compare sample posts."""
    rng = random.Random(s.seed)
    total = 0
    for post_id in rng.sample(range(1, s.seed_posts + 1), min(SAMPLES, s.seed_posts)):
        row = connection.execute(POST, (post_id,)).fetchone()
        if row is None:
            raise VerificationError(f"post {post_id} is not in the database; `make seed` loads it")
        expected, rows = row
        got = ask(client, "GET", f"/benchmark/db-test?post_id={post_id}")
        _same(f"post {post_id}", got, expected)
        total += rows
    return total


def insert(client: httpx.Client, s: Settings, connection: psycopg.Connection) -> int:
    """Insert sample rows and look for each in the table."""
    for _ in range(SAMPLES):
        got = ask(client, "POST", "/benchmark/insert")
        found = connection.execute("SELECT 1 FROM transactions WHERE id = %s", (got["id"],))
        if found.fetchone() is None:
            raise VerificationError(f"transaction {got['id']} was acknowledged but is not there")
    return SAMPLES


def slow_query(client: httpx.Client, s: Settings, connection: psycopg.Connection) -> int:
    """Compare sample users, and the time that PostgreSQL itself took for each statement."""
    for _ in range(SAMPLES):
        got = ask(client, "GET", "/benchmark/slow-query")
        found = connection.execute("SELECT name FROM users WHERE id = %s", (got["id"],)).fetchone()
        name = found[0] if found else None
        expected = {"id": got["id"], "name": name, "slept_ms": s.slow_query_ms}
        _same(f"user {got['id']}", got, expected)
    row = connection.execute(SLEPT).fetchone()
    if row is None or row[0] is None or row[0] < s.slow_query_ms:
        took = "no time" if row is None or row[0] is None else f"{row[0]:.1f} ms"
        raise VerificationError(f"slow-query took {took}, SLOW_QUERY_MS is {s.slow_query_ms}")
    return SAMPLES


def hot_row(client: httpx.Client, s: Settings, connection: psycopg.Connection) -> int:
    """Compare what the rows counted with what was acknowledged."""
    before = _hits(connection)
    for _ in range(SAMPLES):
        got = ask(client, "POST", "/benchmark/hot-row")
        _same("update", got, {"id": got["id"], "updated": 1})
        before[got["id"]] = before.get(got["id"], 0) + 1
    if (after := _hits(connection)) != before:
        raise VerificationError(f"hot_rows counted {sum(after.values())}, not what was updated")
    if beyond := [row for row in after if row > s.hot_rows and after[row]]:
        raise VerificationError(f"row {beyond[0]} was updated with HOT_ROWS={s.hot_rows}")
    return SAMPLES


def _hits(connection: psycopg.Connection) -> dict[int, int]:
    return dict(connection.execute("SELECT id, hits FROM hot_rows").fetchall())


def heavy(client: httpx.Client, s: Settings, connection: psycopg.Connection) -> int:
    """Compare the neighbours of sample centres."""
    rng = random.Random(s.seed)
    total = 0
    for _ in range(SAMPLES):
        centre = {
            "latitude": round(rng.uniform(-90, 90), 5),
            "longitude": round(rng.uniform(-180, 180), 5),
        }
        asked = "&".join(f"{name}={value:.5f}" for name, value in centre.items())
        got = ask(client, "GET", f"/benchmark/heavy?{asked}")
        rows = connection.execute(NEIGHBOURS, (*centre.values(), NEAREST)).fetchall()
        _same_distances(got, [row[4] for row in rows])
        names = ("id", "name", "latitude", "longitude", "distance_km")
        nearest = [dict(zip(names, row, strict=True)) for row in rows]
        for mine, theirs in zip(nearest, got["nearest"], strict=True):
            mine["distance_km"] = theirs["distance_km"]
        _same(f"centre {asked}", got, {"centre": centre, "nearest": nearest})
        total += len(rows)
    return total


def _same_distances(got: Any, expected: list[float]) -> None:
    found = [user["distance_km"] for user in got["nearest"]]
    if len(found) != len(expected):
        raise VerificationError(f"heavy gave {len(found)} users, expected {len(expected)}")
    for a, b in zip(found, expected, strict=True):
        if abs(a - b) > CLOSE_KM:
            raise VerificationError(f"heavy: a distance is {a} km, expected {b:.3f}")


def _same(what: str, got: Any, expected: Any) -> None:
    if got != expected:
        raise VerificationError(f"{what}: JSON differs: {_first_difference(got, expected)}")


def _first_difference(got: Any, expected: Any, path: str = "$") -> str:
    if isinstance(got, dict) and isinstance(expected, dict):
        for key in expected.keys() | got.keys():
            if got.get(key) != expected.get(key):
                return _first_difference(got.get(key), expected.get(key), f"{path}.{key}")
    if isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            if a != b:
                return _first_difference(a, b, f"{path}[{i}]")
    return f"{path} is {got!r:.80}, expected {expected!r:.80}"


OF: dict[Scenario, Sampling] = {
    "db-test": db_test,
    "insert": insert,
    "slow-query": slow_query,
    "hot-row": hot_row,
    "heavy": heavy,
}
