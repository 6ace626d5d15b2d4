"""The Django service's views: one set per DJANGO_MODE, all with the same answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from apps.common import workload
from apps.common.failures import ServiceUnavailableError
from apps.common.workload import JSON_TYPE, BadParameterError, Centre, Parameters
from apps.django_app import database

_service = settings.SERVICE
parameters = Parameters(_service.seed_users, _service.seed_posts, _service.hot_rows, _service.seed)
SLOW_QUERY_MS: int = _service.slow_query_ms


def _json(status: int, body: bytes) -> HttpResponse:
    # Django gives no length by itself, and gunicorn would send the body in chunks.
    length = {"Content-Length": str(len(body))}
    return HttpResponse(body, content_type=JSON_TYPE, status=status, headers=length)


def _failure(error: BadParameterError | ServiceUnavailableError) -> HttpResponse:
    status = 400 if isinstance(error, BadParameterError) else 503
    return _json(status, workload.error_body(error.code, str(error)))


def _in_range(post_id: int) -> bool:
    return 0 < post_id <= workload.MAX_POST_ID


def _answered(view: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Answer a request that cannot be served with 400 or 503."""

    @wraps(view)
    def answered(request: HttpRequest) -> HttpResponse:
        try:
            return view(request)
        except (BadParameterError, ServiceUnavailableError) as error:
            return _failure(error)

    return answered


def _answered_async(view: Callable[..., Awaitable[HttpResponse]]) -> Any:
    """Do the same for a method that is awaited."""

    @wraps(view)
    async def answered(self: Any, request: HttpRequest) -> HttpResponse:
        try:
            return await view(self, request)
        except (BadParameterError, ServiceUnavailableError) as error:
            return _failure(error)

    return answered


def _centre(request: HttpRequest) -> Centre:
    return parameters.centre(request.GET.get("latitude"), request.GET.get("longitude"))


@_answered
def db_test(request: HttpRequest) -> HttpResponse:
    """Answer with a post, its author, its comments and their authors."""
    wanted = parameters.post_id(request.GET.get("post_id"))
    rows = database.post(wanted) if _in_range(wanted) else []
    return _json(*workload.db_test_answer(rows, wanted))


@_answered
def insert(request: HttpRequest) -> HttpResponse:
    """Insert one row into `transactions`."""
    return _json(201, workload.encode({"id": database.insert(parameters.transaction())}))


@_answered
def slow_query(request: HttpRequest) -> HttpResponse:
    """Answer with a random user, after a sleep in the statement."""
    rows = database.read_slowly(parameters.user_id(), SLOW_QUERY_MS / 1000)
    return _json(*workload.slow_query_answer(rows, SLOW_QUERY_MS))


@_answered
def hot_row(request: HttpRequest) -> HttpResponse:
    """Update a row that all others update too."""
    wanted = parameters.hot_row()
    return _json(*workload.hot_row_answer(wanted, database.hit(wanted)))


@_answered
def heavy(request: HttpRequest) -> HttpResponse:
    """Answer with the users nearest to a place."""
    centre = _centre(request)
    return _json(*workload.heavy_answer(centre, database.nearest(centre)))


@_answered
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 after a real query."""
    database.check()
    return _json(200, workload.HEALTHY)


class AsyncViews:
    """Holds the same views for ASGI, over the async ORM or over threads."""

    def __init__(self, statements: database.AsyncStatements) -> None:
        self._statements = statements

    @_answered_async
    async def db_test(self, request: HttpRequest) -> HttpResponse:
        """Answer with a post, its author, its comments and their authors."""
        wanted = parameters.post_id(request.GET.get("post_id"))
        rows = await self._statements.post(wanted) if _in_range(wanted) else []
        return _json(*workload.db_test_answer(rows, wanted))

    @_answered_async
    async def insert(self, request: HttpRequest) -> HttpResponse:
        """Insert one row into `transactions`."""
        new_id = await self._statements.insert(parameters.transaction())
        return _json(201, workload.encode({"id": new_id}))

    @_answered_async
    async def slow_query(self, request: HttpRequest) -> HttpResponse:
        """Answer with a random user, after a sleep in the statement."""
        rows = await self._statements.read_slowly(parameters.user_id(), SLOW_QUERY_MS / 1000)
        return _json(*workload.slow_query_answer(rows, SLOW_QUERY_MS))

    @_answered_async
    async def hot_row(self, request: HttpRequest) -> HttpResponse:
        """Update a row that all others update too."""
        wanted = parameters.hot_row()
        return _json(*workload.hot_row_answer(wanted, await self._statements.hit(wanted)))

    @_answered_async
    async def heavy(self, request: HttpRequest) -> HttpResponse:
        """Answer with the users nearest to a place."""
        centre = _centre(request)
        return _json(*workload.heavy_answer(centre, await self._statements.nearest(centre)))

    @_answered_async
    async def healthz(self, request: HttpRequest) -> HttpResponse:
        """Answer 200 after a real query; Django has no async cursor."""
        await database.check_in_thread()
        return _json(200, workload.HEALTHY)


def metrics(request: HttpRequest) -> HttpResponse:
    """Answer with the metrics of all workers."""
    from apps.common.exposition import CONTENT_TYPE, exposition

    return HttpResponse(exposition(), content_type=CONTENT_TYPE)


async_metrics = sync_to_async(metrics)
