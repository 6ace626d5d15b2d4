"""The Flask service: routes only."""

from __future__ import annotations

from flask import Flask, Response, request

from apps.common import service, workload
from apps.common.failures import ServiceUnavailableError
from apps.common.workload import JSON_TYPE, BadParameterError
from apps.flask_app.database import Database

settings = service.load()
parameters = workload.Parameters(
    settings.seed_users, settings.seed_posts, settings.hot_rows, settings.seed
)
database = Database(settings)
app = Flask(__name__)


def _json(status: int, body: bytes) -> Response:
    return Response(body, status, mimetype=JSON_TYPE)


@app.get(workload.DB_TEST_PATH)
def db_test() -> Response:
    """Answer with a post, its author, its comments and their authors."""
    wanted = parameters.post_id(request.args.get("post_id"))
    rows = database.post(wanted) if 0 < wanted <= workload.MAX_POST_ID else []
    return _json(*workload.db_test_answer(rows, wanted))


@app.post(workload.INSERT_PATH)
def insert() -> Response:
    """Insert one row into `transactions`."""
    return _json(201, workload.encode({"id": database.insert(parameters.transaction())}))


@app.get(workload.SLOW_QUERY_PATH)
def slow_query() -> Response:
    """Answer with a random user, after a sleep in the statement."""
    rows = database.read_slowly(parameters.user_id(), settings.slow_query_ms / 1000)
    return _json(*workload.slow_query_answer(rows, settings.slow_query_ms))


@app.post(workload.HOT_ROW_PATH)
def hot_row() -> Response:
    """Update a row that all others update too."""
    wanted = parameters.hot_row()
    return _json(*workload.hot_row_answer(wanted, database.hit(wanted)))


@app.get(workload.HEAVY_PATH)
def heavy() -> Response:
    """Answer with the users nearest to a place."""
    centre = parameters.centre(request.args.get("latitude"), request.args.get("longitude"))
    return _json(*workload.heavy_answer(centre, database.nearest(centre)))


@app.get(workload.HEALTH_PATH)
def healthz() -> Response:
    """Answer 200 after a real query."""
    database.check()
    return _json(200, workload.HEALTHY)


@app.errorhandler(ServiceUnavailableError)
def unavailable(error: ServiceUnavailableError) -> Response:
    """Answer 503 with a short code."""
    return _json(503, workload.error_body(error.code, error.detail))


@app.errorhandler(BadParameterError)
def bad_parameter(error: BadParameterError) -> Response:
    """Answer 400."""
    return _json(400, workload.error_body(error.code, str(error)))


if settings.metrics == "on":
    from apps.common.exposition import CONTENT_TYPE, exposition
    from apps.flask_app.metrics import ServiceMetrics

    ServiceMetrics(app)

    @app.get(workload.METRICS_PATH)
    def metrics() -> Response:
        """Answer with the metrics of all workers."""
        return Response(exposition(), content_type=CONTENT_TYPE)
