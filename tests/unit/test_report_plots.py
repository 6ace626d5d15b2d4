"""The report's pictures: which there are, what they show, and that odd records do not stop them."""

from __future__ import annotations

import matplotlib
import pytest

from lab.report import canvas, groups, layout, lines, plots
from lab.results import CellRecord, Measurement
from tests.unit.report_records import CEILINGS, THREE, TWO, manifest, measurement, record, run_of

ALWAYS = ["rps_comparison.png", "p95_latency_comparison.png", "connections_per_request.png",
          "cpu_share.png", "latency_budget.png"]  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n"


def view_of(axes, repetitions=1, **changes):
    made, records = run_of(axes, repetitions, **changes)
    return groups.view(made, records)


def words(view, name="rps_comparison.png"):
    """Return every text of a picture."""
    with canvas.style():
        figure = plots.pictures(view)[name](view).figure
    found = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    return " | ".join(text for text in found if text)


def bare(**changes) -> CellRecord:
    """Return a record of a cell that gave nothing at all."""
    none = dict.fromkeys(
        name for name, field in Measurement.model_fields.items() if field.default is None
    )
    return record(measured=measurement(requests=0, rps=0.0, statuses={}, **none), **changes)


@pytest.mark.parametrize(
    ("axes", "more"),
    [
        ({"FRAMEWORK": THREE, "ROUTE": TWO}, []),
        ({"FRAMEWORK": THREE, "ROUTE": TWO, "USERS": [10, 100]}, ["rps_over_users.png"]),
        ({"FRAMEWORK": THREE, "METRICS": ["on", "off"]}, ["rps_over_metrics.png"]),
        (
            {"PGBOUNCER_DEFAULT_POOL_SIZE": [2, 5, 10], "PGBOUNCER_POOL_MODE": ["a", "b"]},
            ["rps_over_pgbouncer_default_pool_size.png", "rps_over_pgbouncer_pool_mode.png"],
        ),
    ],
)
def test_render_draws_what_the_axes_ask_for(axes, more):
    found = plots.render(view_of(axes))
    assert list(found) == ALWAYS + more
    assert all(png.startswith(PNG) and len(png) > 5000 for png in found.values())


def test_render_gives_the_same_bytes_and_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    one, two = (plots.render(view_of({"ROUTE": TWO}, repetitions=3)) for _ in range(2))
    assert one == two
    assert dict(matplotlib.rcParams) == before
    assert b"Software" not in one["rps_comparison.png"]


@pytest.mark.parametrize(
    "records",
    [
        [bare()],
        [bare(), bare(route="pgbouncer"), bare(users=100), bare(repetition=2)],
        [record(measured=None, reasons=("did not start",))],
        [record(measured=None, reasons=("x",)), record(users=50, measured=None, reasons=("x",))],
        [record("starlette", measured=measurement(), axes={"METRICS": None})],
    ],
)
def test_render_copes_with_records_that_measured_nothing(records):
    made = manifest(records, host={}, settings={}, ceilings=[], limits=None)
    found = plots.render(groups.view(made, records))
    assert set(ALWAYS) - {"latency_budget.png"} <= set(found)


def test_render_draws_nothing_of_nothing():
    assert plots.render(groups.view(manifest([]), [])) == {}


def test_bars_mark_rejected_missing_and_partly_rejected_cells():
    made, records = run_of({"FRAMEWORK": THREE, "ROUTE": TWO}, repetitions=2)
    rejected = {"status": "rejected", "reject_reasons": ["steal"]}
    for index, cell in enumerate(records):
        if cell.framework == "django" and cell.route == "direct":
            records[index] = cell.model_copy(update=rejected)
    records[0] = records[0].model_copy(update=rejected)
    flask = next(i for i, r in enumerate(records) if r.framework == "flask")
    for index in (flask, flask + len(records) // 2):
        records[index] = record("flask", users=20, repetition=records[index].repetition,
                                measured=measurement(p95_ms=None))  # fmt: skip
    view = groups.view(made, records)
    assert "rejected (" in words(view)
    assert "(1 of 2 rejected)" in words(view)
    assert "rejected: not to be trusted" in words(view)
    assert "n/a" in words(view, "p95_latency_comparison.png")
    assert "not in the path" in words(view, "cpu_share.png")


def test_footer_names_run_hardware_and_limits():
    shown = words(view_of({"ROUTE": TWO}))
    assert "20261120-160000-test" in shown
    assert "2 cores, Intel Xeon" in shown
    assert "PostgreSQL 0.25" in shown
    unlimited = view_of({"ROUTE": TWO}, limits=None, limits_reason="not permitted")
    assert "LIMITS NOT ENFORCED (not permitted)" in words(unlimited)
    assert "share of the host's cores" in words(unlimited, "cpu_share.png")


def test_ceilings_are_drawn_to_scale_near_and_beyond_a_break_when_far():
    near = view_of({"ROUTE": TWO}, ceilings=[CEILINGS[0].model_copy(update={"tps": 450.0})])
    far = view_of({"ROUTE": TWO})
    assert "pgbench direct, simple 450/s" in words(near)
    assert "off the axis" not in words(near)
    assert "//" not in words(near)
    assert "pgbench direct, prepared 5,262/s (off the axis)" in words(far)
    assert "//" in words(far)


@pytest.mark.parametrize(("slowest", "log"), [(90.0, False), (110.0, True)])
def test_latency_axis_is_logarithmic_beyond_a_spread_of_twenty(slowest, log):
    cells = [record(users=n, measured=measurement(p95_ms=ms)) for n, ms in ((1, 5.0), (2, slowest))]
    view = groups.view(manifest(cells), cells)
    panels = [layout.Panel(title, plots.P95, rows) for title, rows in layout.by_users(view)]
    scale = layout.scale(panels, 3.0)
    assert scale.log is log
    assert scale.high > slowest


def test_axes_that_change_together_share_one_picture():
    cells = [
        record(axes={"WORKERS": w, "THREADS": 16 // w}, measured=measurement()) for w in (1, 2, 4)
    ]
    view = groups.view(manifest(cells, {"WORKERS": [1, 2, 4], "THREADS": [16, 8, 4]}), cells)
    assert lines.axes(view) == ["WORKERS"]
    assert lines.followers(view, "WORKERS") == ("THREADS",)


def test_lines_leave_a_gap_for_a_rejected_point_and_mark_it():
    made, records = run_of({"USERS": [10, 100, 500]})
    records[1] = records[1].model_copy(update={"status": "rejected", "reject_reasons": ["steal"]})
    view = groups.view(made, records)
    with canvas.style():
        figure = lines.chart(view, "USERS").figure
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    (y,) = [list(line.get_ydata()) for line in drawn]
    assert y[1] != y[1]
    assert any(line.get_marker() == "x" for line in figure.axes[0].lines)


def test_panels_never_carry_too_many_lines():
    view = view_of(
        {"ROUTE": TWO, "USERS": [10, 100], "DB_POOL": ["a", "b", "c"], "WORKERS": [1, 2]}
    )
    found = lines._panels(lines.lines_along(view, "WORKERS"))
    assert max(len(panel) for _, panel in found) <= lines.MOST_LINES
