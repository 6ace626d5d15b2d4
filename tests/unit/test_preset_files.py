"""The presets that come with Poolscope: they can be planned, and keep their time."""

from __future__ import annotations

import pytest

from lab.config import Plan, load_preset, plan, presets

#: Seconds of a cell beside warm-up and window, and of a run beside its cells.
CELL_OVERHEAD_S, RUN_OVERHEAD_S = 5, 40
NAMES = (
    *("smoke", "quick", "reference", "connect", "django-tuning", "pgbouncer-sizing"),
    *("auth", "prepared", "overhead", "monitoring", "scenarios"),
)


def planned(name: str) -> Plan:
    return plan(load_preset(name), {}, {})


def seconds(run: Plan) -> float:
    cells = [c.settings.warmup + c.settings.window + CELL_OVERHEAD_S for c in run.cells]
    return sum(cells) + RUN_OVERHEAD_S


def test_presets_are_the_documented_ones():
    assert set(presets()) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_preset_can_be_planned_and_says_its_minutes(name):
    """Workers are not replaced inside a window, and every cell names the same axes."""
    run = planned(name)
    assert "minutes" in run.preset.description
    assert {cell.settings.max_requests for cell in run.cells} == {0}
    assert len({frozenset(cell.axes) for cell in run.cells}) == 1
    assert len({cell.cell_id for cell in run.cells}) == len(run.cells)
    assert seconds(run) < 40 * 60


def test_smoke_and_quick_keep_their_time():
    assert seconds(planned("smoke")) < 2 * 60
    assert seconds(planned("quick")) < 6 * 60
    assert {c.settings.warmup + c.settings.window for c in planned("quick").cells} <= {15, 13}


@pytest.mark.parametrize(
    ("name", "cells"),
    [("smoke", 6), ("quick", 12), ("reference", 24), ("connect", 60), ("scenarios", 10)],
)
def test_preset_has_the_cells_of_its_matrix(name, cells):
    assert len(planned(name).cells) == cells


def test_connecting_presets_connect_per_request():
    assert all(cell.settings.connects_per_request for cell in planned("auth").cells)
    levels = {cell.settings.connects_per_request for cell in planned("connect").cells}
    assert levels == {True, False}


def test_django_tuning_never_keeps_connections_under_asgi():
    """They would belong to a task and leak with it."""
    for cell in planned("django-tuning").cells:
        kept = cell.settings.db_pool == "persistent" and cell.settings.db_conn_max_age > 0
        assert not (kept and cell.settings.django_mode != "wsgi")
