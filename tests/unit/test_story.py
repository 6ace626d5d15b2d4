"""What dashboards are told of a run."""

from __future__ import annotations

from typing import cast

import pytest

from lab.stack.base import Stack, Story
from lab.story import CELLS, RunStory, result
from tests.unit.report_records import measurement, record


class Told:
    """A stack that keeps what it was told last."""

    story = Story()

    def publish(self, story: Story) -> None:
        self.story = story


def test_story_keeps_what_the_last_cells_did() -> None:
    """Prometheus has the rest; a resumed run's cells come back all at once, for one cell's time."""
    told = Told()
    story = RunStory(cast(Stack, told))
    for number in range(CELLS + 2):
        story.moment("r1", f"c{number}", "cell_start", float(number))
        story.moment("r1", f"c{number}", "window_start", number + 0.5)
    assert [m.cell_id for m in told.story.moments[::2]] == [f"c{n}" for n in range(2, CELLS + 2)]
    assert told.story.moments[-1].at == CELLS + 1.5
    story.finished(*(record("flask", "direct", users) for users in range(1, CELLS + 4)))
    assert len(told.story.state()["results"]) == CELLS + 3
    story.finished(record("fastapi", "direct", 10))
    assert len(told.story.state()["results"]) == CELLS
    assert told.story.results[-1].labels["framework"] == "fastapi"
    assert len(told.story.state()["moments"]) == 2 * CELLS


def test_result_has_times_in_seconds_and_leaves_out_nothing_measured() -> None:
    measured = measurement(rps=400.0, p95_ms=70.0)
    one = record("fastapi", "pgbouncer", 10).model_copy(update={"measurement": measured})
    found = result(one)
    assert found.labels["framework"] == "fastapi"
    assert found.labels["users"] == "10"
    assert found.labels["status"] == "accepted"
    assert found.figures["p95_seconds"] == pytest.approx(0.07)
    assert found.figures["rps"] == 400
    assert found.figures["p50_seconds"] is None
    assert found.figures["measured"] == 1


def test_result_of_a_cell_without_a_measurement_has_no_figures_but_is_there() -> None:
    one = record("fastapi", "direct", 10).model_copy(
        update={"measurement": None, "status": "rejected"}
    )
    found = result(one)
    assert found.figures.pop("measured") == 0
    assert set(found.figures.values()) == {None}
    assert found.labels["status"] == "rejected"


def test_result_names_the_other_axes() -> None:
    """Cells that differ in another axis must not be drawn as one."""
    one = record("flask", "direct", 10)
    axes = {"FRAMEWORK": "flask", "ROUTE": "direct", "USERS": 10, "DB_POOL": "per-request"}
    found = result(one.model_copy(update={"axes": axes}))
    assert found.labels["variant"] == "db_pool=per-request"
