"""The data: the same bytes for the same sizes and seed, and rows that fit together."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from database import seed
from database.fakedata import FakeData, Sizes
from database.settings import ProvisionSettings, SeedSettings, problem

SMALL = Sizes(users=50, posts=200, comments=600)
SETTINGS = SeedSettings.model_validate({"seed_users": 5, "seed_posts": 7, "seed_comments": 8})


def rows(chunks) -> list[list[str]]:
    return [line.split("\t") for line in b"".join(chunks).decode().splitlines()]


@pytest.fixture(scope="module")
def small() -> FakeData:
    return FakeData(SMALL, seed=42)


def test_data_is_equal_for_equal_sizes_and_seed(small):
    """Two generations agree, whatever was drawn from the global generator between them."""
    random.random()
    assert FakeData(SMALL, seed=42).digest() == small.digest()


def test_data_digest_is_the_known_one(small):
    """A change here changes every user's data: measurements before and after do not compare."""
    assert small.digest() == "ffe902810a037d148fbc31e4215781a6e08948057a6e17ec71d21cef1a6d80a3"


def test_data_differs_for_another_seed(small):
    assert FakeData(SMALL, seed=43).digest() != small.digest()


def test_tables_can_be_generated_alone_and_again(small):
    """A table does not depend on which others were generated before it."""
    first = list(small.comments())
    list(small.users())
    assert list(small.comments()) == first


@pytest.mark.parametrize("count", [1, 1999, 2000, 2001, 4000])
def test_ids_run_from_one_without_gaps(count):
    """Also at the edges of a chunk."""
    data = FakeData(Sizes(users=count, posts=1, comments=0), seed=1)
    assert [int(row[0]) for row in rows(data.users())] == list(range(1, count + 1))
    assert list(data.comments()) == []


def test_references_name_existing_rows(small):
    users, posts = set(range(1, 51)), set(range(1, 201))
    assert {int(row[1]) for row in rows(small.posts())} <= users
    comments = rows(small.comments())
    assert {int(row[1]) for row in comments} <= posts
    assert {int(row[2]) for row in comments} <= users


def test_comments_spread_evenly_over_posts():
    """Comments per post follow a Poisson law: its variance equals its mean."""
    posts, comments = 2_000, 10_000
    data = FakeData(Sizes(users=10, posts=posts, comments=comments), seed=42)
    per_post = Counter(int(row[1]) for row in rows(data.comments()))
    mean = comments / posts
    variance = sum((per_post[post] - mean) ** 2 for post in range(1, posts + 1)) / posts
    assert variance == pytest.approx(mean, rel=0.15)


def test_texts_have_the_sizes_of_real_ones(small):
    posts, comments = rows(small.posts()), rows(small.comments())
    assert sum(len(row[2]) for row in posts) / len(posts) == pytest.approx(60, rel=0.1)
    assert sum(len(row[3]) for row in posts) / len(posts) == pytest.approx(400, rel=0.1)
    assert sum(len(row[3]) for row in comments) / len(comments) == pytest.approx(150, rel=0.1)


def test_emails_are_unique_and_rows_have_every_column(small):
    users = rows(small.users())
    assert len({row[2] for row in users}) == SMALL.users
    assert {len(row) for row in users} == {6}
    assert {len(row) for row in [*rows(small.posts()), *rows(small.comments())]} == {5}


def test_places_are_on_the_globe_and_spread_over_it():
    users = rows(FakeData(Sizes(users=2_000, posts=1, comments=0), seed=42).users())
    latitudes, longitudes = ([float(row[column]) for row in users] for column in (4, 5))
    assert all(-90 <= value <= 90 for value in latitudes)
    assert all(-180 <= value <= 180 for value in longitudes)
    assert len({int(value // 30) for value in latitudes}) == 6
    assert len({int(value // 30) for value in longitudes}) == 12


@pytest.mark.parametrize(
    "change", [{"seed_users": 9}, {"seed_posts": 9}, {"seed_comments": 9}, {"seed": 9}]
)
def test_fingerprint_changes_with_size_and_seed(change):
    base = seed.fingerprint(SETTINGS)
    assert seed.fingerprint(SETTINGS) == base
    assert seed.fingerprint(SETTINGS.model_copy(update=change)) != base


class FakeConnection:
    """Answers the statements of `reason_to_load` from a picture of the database."""

    def __init__(self, tables, fingerprints=(), counts=None):
        self.info = SimpleNamespace(dbname="poolscope")
        self._tables, self._fingerprints = tables, fingerprints
        self._counts = counts or {}

    def execute(self, query, _arguments=None):
        text = query if isinstance(query, str) else query.as_string(None)
        if "pg_tables" in text:
            return [(table,) for table in self._tables]
        if "fingerprint" in text:
            return SimpleNamespace(fetchall=lambda: [(f,) for f in self._fingerprints])
        table = text.split('"')[-2]
        return SimpleNamespace(fetchone=lambda: self._counts[table])


FULL = {
    "users": (5, 1, 5),
    "posts": (7, 1, 7),
    "comments": (8, 1, 8),
    "hot_rows": (1000, 1, 1000),
}


def reason(tables=seed.TABLES, fingerprints=None, **counts):
    marks = [seed.fingerprint(SETTINGS)] if fingerprints is None else fingerprints
    conn = FakeConnection(tables, marks, FULL | counts)
    return seed.reason_to_load(conn, SETTINGS)  # type: ignore[arg-type]


def test_check_finds_complete_data():
    assert reason() is None


def test_check_loads_into_an_empty_database():
    assert reason(tables=()) == "no data yet"


def test_check_refuses_partial_data():
    assert reason(comments=(7, 1, 8)) == "partial data: table comments has 7 rows, wanted 8"
    assert reason(fingerprints=[]) == "not marked as complete"
    assert reason(tables=("users", "seed_state")) == "table comments is missing"


def test_check_loads_again_over_the_data_of_an_older_version():
    """Before the table was added, and where an older schema.sql made a table of today."""
    older = tuple(table for table in seed.TABLES if table != "hot_rows")
    assert reason(tables=older) == "table hot_rows is missing"
    assert reason(hot_rows=(1, 1, 1)) == "partial data: table hot_rows has 1 rows, wanted 1000"


def test_check_refuses_ids_with_gaps():
    """The right number of rows is not enough: a random id must name one."""
    assert reason(posts=(7, 1, 8)) == "partial data: table posts has ids from 1 to 8, wanted 1 to 7"
    assert reason(posts=(7, 2, 8)) == "partial data: table posts has ids from 2 to 8, wanted 1 to 7"


def test_check_loads_again_for_other_sizes():
    assert reason(fingerprints=["other"]) == "loaded with another size, seed or version"


def test_check_leaves_foreign_tables_alone():
    with pytest.raises(seed.SeedError, match="'users' that Poolscope did not make"):
        reason(tables=("users",))


def test_problem_names_the_variable_and_hides_passwords(monkeypatch):
    """One line, with what is allowed, and no password in it."""
    for name, value in {
        "SEED_USERS": "0",
        "SCRAM_ITERATIONS": "many",
        "POSTGRES_PASSWORD": "",
        "SERVICE_DB_PASSWORD": "hunter2",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("EXPORTER_DB_PASSWORD", raising=False)
    with pytest.raises(ValidationError) as caught:
        ProvisionSettings()  # type: ignore[call-arg]
    line = problem(caught.value)
    assert "SEED_USERS=0: input should be greater than or equal to 1" in line
    assert "SCRAM_ITERATIONS=many: " in line
    assert "EXPORTER_DB_PASSWORD: field required" in line
    assert "hunter2" not in line
    assert "\n" not in line
