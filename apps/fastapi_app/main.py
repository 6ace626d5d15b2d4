"""The FastAPI service: routes only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from apps.common import service, workload
from apps.common.failures import ServiceUnavailableError
from apps.common.workload import JSON_TYPE, BadParameterError
from apps.fastapi_app.database import Database

settings = service.load()
parameters = workload.Parameters(
    settings.seed_users, settings.seed_posts, settings.hot_rows, settings.seed
)
database = Database(settings)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Close the pool when the worker ends."""
    yield
    await database.close()


app = FastAPI(title="Poolscope FastAPI service", lifespan=lifespan)


def _json(status: int, body: bytes) -> Response:
    return Response(body, status, media_type=JSON_TYPE)


@app.get(workload.DB_TEST_PATH)
async def db_test(post_id: str | None = None) -> Response:
    """Answer with a post, its author, its comments and their authors."""
    wanted = parameters.post_id(post_id)
    rows = await database.post(wanted) if 0 < wanted <= workload.MAX_POST_ID else []
    return _json(*workload.db_test_answer(rows, wanted))


@app.post(workload.INSERT_PATH)
async def insert() -> Response:
    """Insert one row into `transactions`."""
    return _json(201, workload.encode({"id": await database.insert(parameters.transaction())}))


@app.get(workload.SLOW_QUERY_PATH)
async def slow_query() -> Response:
    """Answer with a random user, after a sleep in the statement."""
    rows = await database.read_slowly(parameters.user_id(), settings.slow_query_ms / 1000)
    return _json(*workload.slow_query_answer(rows, settings.slow_query_ms))


@app.post(workload.HOT_ROW_PATH)
async def hot_row() -> Response:
    """Update a row that all others update too."""
    wanted = parameters.hot_row()
    return _json(*workload.hot_row_answer(wanted, await database.hit(wanted)))


@app.get(workload.HEAVY_PATH)
async def heavy(latitude: str | None = None, longitude: str | None = None) -> Response:
    """Answer with the users nearest to a place."""
    centre = parameters.centre(latitude, longitude)
    return _json(*workload.heavy_answer(centre, await database.nearest(centre)))


@app.get(workload.HEALTH_PATH)
async def healthz() -> Response:
    """Answer 200 after a real query."""
    await database.check()
    return _json(200, workload.HEALTHY)


@app.exception_handler(ServiceUnavailableError)
async def unavailable(request: Request, error: ServiceUnavailableError) -> Response:
    """Answer 503 with a short code."""
    return _json(503, workload.error_body(error.code, error.detail))


@app.exception_handler(BadParameterError)
async def bad_parameter(request: Request, error: BadParameterError) -> Response:
    """Answer 400."""
    return _json(400, workload.error_body(error.code, str(error)))


if settings.metrics == "on":
    from apps.common.exposition import CONTENT_TYPE, exposition
    from apps.fastapi_app.metrics import instrument

    instrument(app)

    @app.get(workload.METRICS_PATH)
    async def metrics() -> Response:
        """Answer with the metrics of all workers."""
        return Response(await run_in_threadpool(exposition), media_type=CONTENT_TYPE)
