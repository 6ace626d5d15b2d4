"""Django's database adapter: the ORM, plain and async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.db import Error, connection
from django.db.models import F, Func, TextField, Value
from django.db.models.functions import ASin, Cos, Least, Power, Radians, Sin, Sqrt
from psycopg_pool import PoolTimeout, TooManyRequests

from apps.common import failures, workload
from apps.common.failures import ServiceUnavailableError
from apps.common.workload import EARTH_DIAMETER_KM, NEAREST, Centre
from apps.django_app.models import HotRow, Post, Transaction, User

_COLUMNS = (
    *("id", "title", "body", "author_id", "author__name"),
    *("comments__id", "comments__body", "comments__author_id", "comments__author__name"),
)


@contextmanager
def _failures_named() -> Iterator[None]:
    """Raise ServiceUnavailableError where the database cannot answer."""
    try:
        yield
    except Error as error:
        cause = error.__cause__ or error
        if isinstance(cause, PoolTimeout | TooManyRequests):
            raise ServiceUnavailableError(failures.POOL_TIMEOUT, str(cause)) from error
        code = failures.code_of(cause)
        if code is None:
            raise
        raise ServiceUnavailableError(code, str(cause)) from error


def _post_rows(post_id: int) -> Any:
    return Post.objects.filter(id=post_id).order_by("comments__id").values_list(*_COLUMNS)


def post(post_id: int) -> Sequence[Any]:
    """Return rows in workload.Row's order; none where there is no such post."""
    with _failures_named():
        return list(_post_rows(post_id))


async def apost(post_id: int) -> Sequence[Any]:
    """Do the same by the async ORM."""
    with _failures_named():
        return [row async for row in _post_rows(post_id)]


def insert(transaction: workload.Transaction) -> int:
    """Insert one row and return its id."""
    with _failures_named():
        return int(Transaction.objects.create(**transaction._asdict()).pk)


async def ainsert(transaction: workload.Transaction) -> int:
    """Do the same by the async ORM."""
    with _failures_named():
        return int((await Transaction.objects.acreate(**transaction._asdict())).pk)


def _user_slowly(user_id: int, seconds: float) -> Any:
    slept = Func(Value(seconds), function="pg_sleep", output_field=TextField())
    return User.objects.filter(id=user_id).annotate(slept=slept).values_list("id", "name", "slept")


def read_slowly(user_id: int, seconds: float) -> Sequence[Any]:
    """Return the row of a user, for workload.slow_query_answer, after a sleep in the statement."""
    with _failures_named():
        return list(_user_slowly(user_id, seconds))


async def aread_slowly(user_id: int, seconds: float) -> Sequence[Any]:
    """Do the same by the async ORM."""
    with _failures_named():
        return [row async for row in _user_slowly(user_id, seconds)]


def hit(row_id: int) -> int:
    """Count one up in a row of `hot_rows`; return how many rows were updated."""
    with _failures_named():
        return HotRow.objects.filter(id=row_id).update(hits=F("hits") + 1)


async def ahit(row_id: int) -> int:
    """Do the same by the async ORM."""
    with _failures_named():
        return await HotRow.objects.filter(id=row_id).aupdate(hits=F("hits") + 1)


def _half_angle_squared(column: str, degrees: float) -> Any:
    """Return sin(d/2)^2 for the angle d between a column and a value, both in degrees."""
    return Power(Sin(Radians(F(column) - degrees) / 2.0), 2.0)


def _nearest_rows(centre: Centre) -> Any:
    """Use the haversine formula; `Least` keeps rounding from leaving asin's domain."""
    across = (
        Cos(Radians(Value(centre.latitude)))
        * Cos(Radians("latitude"))
        * _half_angle_squared("longitude", centre.longitude)
    )
    part = Least(1.0, _half_angle_squared("latitude", centre.latitude) + across)
    return (
        User.objects.annotate(distance=EARTH_DIAMETER_KM * ASin(Sqrt(part)))
        .order_by("distance", "id")
        .values_list("id", "name", "latitude", "longitude", "distance")[:NEAREST]
    )


def nearest(centre: Centre) -> Sequence[Any]:
    """Return the users nearest to a centre, as rows of workload.heavy_answer."""
    with _failures_named():
        return list(_nearest_rows(centre))


async def anearest(centre: Centre) -> Sequence[Any]:
    """Do the same by the async ORM."""
    with _failures_named():
        return [row async for row in _nearest_rows(centre)]


def check() -> None:
    """Run SELECT 1."""
    with _failures_named(), connection.cursor() as cursor:
        cursor.execute(workload.HEALTH_SQL)


@dataclass(frozen=True)
class AsyncStatements:
    """The statements as an ASGI view awaits them."""

    post: Callable[[int], Awaitable[Sequence[Any]]]
    insert: Callable[[workload.Transaction], Awaitable[int]]
    read_slowly: Callable[[int, float], Awaitable[Sequence[Any]]]
    hit: Callable[[int], Awaitable[int]]
    nearest: Callable[[Centre], Awaitable[Sequence[Any]]]


by_async_orm = AsyncStatements(apost, ainsert, aread_slowly, ahit, anearest)
#: by sync_to_async, one hop to the request's thread each
in_thread = AsyncStatements(
    sync_to_async(post),
    sync_to_async(insert),
    sync_to_async(read_slowly),
    sync_to_async(hit),
    sync_to_async(nearest),
)
check_in_thread = sync_to_async(check)
