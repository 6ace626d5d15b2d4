"""The tables and the statements, for the services that use SQLAlchemy.

Column order, join order and the order of each comparison's sides follow what Django's ORM writes:
pg_stat_statements then gives all three services the same queryid, as test_apps_equal_work.py checks
(a run compares their calls and rows).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)

from apps.common.workload import EARTH_DIAMETER_KM, NEAREST, Centre

metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text),
    Column("latitude", Double),
    Column("longitude", Double),
)
posts = Table(
    "posts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("author_id", Integer),
    Column("title", Text),
    Column("body", Text),
)
comments = Table(
    "comments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("post_id", Integer),
    Column("author_id", Integer),
    Column("body", Text),
)
# Without a type SQLAlchemy sends these two values as they are: with one it adds casts, to VARCHAR
# for instance, which would make another statement of it.
transactions = Table(
    "transactions",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("user_id", Integer),
    Column("amount"),
    Column("note"),
    Column("created_at", DateTime(timezone=True)),
)
hot_rows = Table(
    "hot_rows", metadata, Column("id", Integer, primary_key=True), Column("hits", BigInteger)
)

_writer = users.alias("writer")

#: rows of workload.Row; parameter `post_id`
SELECT_POST = (
    select(
        posts.c.id,
        posts.c.title,
        posts.c.body,
        posts.c.author_id,
        users.c.name,
        comments.c.id,
        comments.c.body,
        comments.c.author_id,
        _writer.c.name,
    )
    .select_from(
        posts.join(users, posts.c.author_id == users.c.id)
        .outerjoin(comments, posts.c.id == comments.c.post_id)
        .outerjoin(_writer, comments.c.author_id == _writer.c.id)
    )
    .where(posts.c.id == bindparam("post_id", type_=Integer))
    .order_by(comments.c.id)
)

#: parameters named like workload.Transaction's fields; returns the new id
INSERT_TRANSACTION = insert(transactions).returning(transactions.c.id)

#: one row: id, name and what pg_sleep gives (nothing); parameters `seconds` and `user_id`
SELECT_SLOWLY = select(
    users.c.id,
    users.c.name,
    func.pg_sleep(bindparam("seconds", type_=Double)).label("slept"),
).where(users.c.id == bindparam("user_id", type_=Integer))

#: parameter `row_id`
UPDATE_HOT_ROW = (
    update(hot_rows)
    .values(hits=hot_rows.c.hits + literal(1, Integer))
    .where(hot_rows.c.id == bindparam("row_id", type_=Integer))
)


def _half_angle_squared(column: Column[float], name: str) -> ColumnElement[float]:
    """Return sin(d/2)^2 for the angle d between a column and a parameter, both in degrees."""
    half = func.radians(column - bindparam(name, type_=Double)) / literal(2.0, Double)
    return func.power(func.sin(half), literal(2.0, Double), type_=Double)


def _distance_km() -> ColumnElement[float]:
    """Return the haversine formula; `least` keeps rounding from leaving asin's domain."""
    across = (
        func.cos(func.radians(bindparam("latitude_2", type_=Double)), type_=Double)
        * func.cos(func.radians(users.c.latitude), type_=Double)
        * _half_angle_squared(users.c.longitude, "longitude")
    )
    part = func.least(
        literal(1.0, Double), _half_angle_squared(users.c.latitude, "latitude") + across
    )
    return literal(EARTH_DIAMETER_KM, Double) * func.asin(func.sqrt(part), type_=Double)


_distance = _distance_km().label("distance")

#: rows of workload.heavy_answer; parameters as of `centre_parameters`
SELECT_NEAREST = (
    select(users.c.id, users.c.name, users.c.latitude, users.c.longitude, _distance)
    .order_by(_distance, users.c.id)
    .limit(literal_column(str(NEAREST), Integer))
)


def centre_parameters(centre: Centre) -> dict[str, float]:
    """Return SELECT_NEAREST's parameters; a value that stands twice is two, as in Django's ORM."""
    return {**centre._asdict(), "latitude_2": centre.latitude}
