"""Queries to frames to pages, without a server: transformations, grids, archive, dashboards."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest

from lab import runner
from lab.errors import ConfigError, ResultError
from lab.paths import ROOT
from lab.prometheus import QueryRefused
from lab.results import Run
from lab.snapshot import archive as archives
from lab.snapshot import command, dashboards, fields, live, marks, transform, view
from lab.snapshot.archive import Archive
from lab.snapshot.dashboards import Dashboard
from lab.snapshot.evaluate import legend, span, substituted
from lab.snapshot.frames import (
    Column,
    DashboardData,
    Mark,
    PanelData,
    Series,
    Span,
    Table,
    number,
    on_grid,
)
from lab.snapshot.html import fitting
from lab.stack.home import Home
from tests.unit.report_records import manifest, measurement, record


def vector(*rows):
    """Return an instant vector as Prometheus gives it."""
    return [{"metric": labels, "value": [1000.0, value]} for labels, value in rows]


def series(name="a", values=(1.0, 2.0, 3.0), **labels):
    return Series("A", name, labels, tuple(values))


def names(table):
    return [column.name for column in table.columns]


def rows(table):
    return [tuple(c.values[n] for c in table.columns) for n in range(table.rows)]


# --- grids ---------------------------------------------------------------------------------------


def test_span_has_at_most_a_thousand_points_and_whole_steps():
    assert span(1000.4, 1060.2) == Span(1000, 1060, 2)
    assert span(1000.0, 1059.9).end == 1058, "nothing is known of what comes after the end"
    long = span(0, 86_400)
    assert long.points <= 1001
    assert long.step == 87


def test_samples_come_to_their_place_on_the_grid():
    assert on_grid([[1002, "1.5"], [1006, "NaN"]], Span(1000, 1006, 2)) == (None, 1.5, None, None)


@pytest.mark.parametrize(
    ("text", "value"), [("0.123456789", 0.12346), ("+Inf", None), ("NaN", None), ("42", 42.0)]
)
def test_number_keeps_five_digits_and_no_infinity(text, value):
    assert number(text) == value


def test_series_keeps_its_place_without_missing_ends():
    found = series(values=(None, 1.0, None, 2.0, None))
    data = found.to_json()
    assert (data["at"], data["values"]) == (1, [1.0, None, 2.0])
    assert Series.from_json(data, 5) == found


# --- queries -------------------------------------------------------------------------------------


def test_variables_without_a_value_mean_all():
    expr = 'rate(x{run_id=~"$run", route=~"${route}"}[$__rate_interval])'
    values = {"run": "r1", "__rate_interval": "20s"}
    assert substituted(expr, values) == 'rate(x{run_id=~"r1", route=~".*"}[20s])'


def test_legend_names_series_by_labels():
    assert legend({"legendFormat": "{{ name }}, P95"}, {"name": "flask"}) == "flask, P95"
    assert legend({}, {"__name__": "up", "job": "service"}) == "service"
    assert legend({"legendFormat": "__auto"}, {"__name__": "up"}) == "up"


# --- annotations ---------------------------------------------------------------------------------


def answer(moments, value="1", **labels):
    return [{"metric": labels, "values": [[float(m), value] for m in moments]}]


def test_samples_that_follow_each_other_are_one_region():
    """A gap of more than a step ends it; a sample that stands alone is a moment."""
    note = {"textFormat": "{{cell_id}}"}
    found = answer([10, 12, 14, 20, 22, 30], cell_id="a") + answer([16, 18], cell_id="b")
    assert marks.of_answer(note, found, 2) == (
        Mark(10, "a", 14), Mark(16, "b", 18), Mark(20, "a", 22), Mark(30, "a"),
    )  # fmt: skip


def test_values_that_are_times_are_moments():
    note = {"textFormat": "{{cell_id}}", "useValueForTime": True}
    assert marks.of_answer(note, answer([10, 12], "9500", cell_id="a"), 2) == (Mark(9.5, "a"),)
    assert marks.of_answer(note, QueryRefused("no"), 2) == ()


def test_annotations_are_asked_finer_than_curves_and_until_they_are_published():
    """A window of ten seconds lies between two points of a day's curve."""
    day = span(0, 86_400)
    assert day.step == 87
    found = marks.grid(day, day.end + 30)
    assert (found.step, found.end) == (9, day.end + 30)
    assert found.points < 11_000
    assert marks.grid(span(0, 60), 60).step == 2


def test_page_gets_the_ends_of_marks():
    note = {"name": "Windows", "iconColor": "blue", "expr": "x"}
    board = Dashboard(BOARD.model | {"annotations": {"list": [note]}})
    data = DashboardData({}, {"Windows": (Mark(1.0, "a", 3.0), Mark(5.0, "b"))})
    (found,) = view.dashboard(board, data, Span(0, 10, 2))["marks"]
    assert (found["at"], found["end"], found["text"]) == ([1.0, 5.0], [3.0, None], ["a", "b"])


# --- transformations -----------------------------------------------------------------------------


def tables_of_two_queries():
    one = vector(({"cell": "a"}, "1"), ({"cell": "b"}, "2"))
    two = vector(({"cell": "b"}, "20"), ({"cell": "c"}, "30"))
    return (
        transform.table_of(one, "A", "Value #A", number),
        transform.table_of(two, "B", "Value #B", number),
    )


def test_merge_joins_rows_that_agree_in_shared_columns():
    found = transform.merged(tables_of_two_queries())
    assert names(found) == ["Time", "cell", "Value #A", "Value #B"]
    assert [row[1:] for row in rows(found)] == [("a", 1, None), ("b", 2, 20), ("c", None, 30)]


def test_organize_excludes_orders_and_renames():
    data = PanelData(tables=tables_of_two_queries(), instant=True)
    options = {
        "excludeByName": {"Time": True},
        "indexByName": {"Value #B": 0, "cell": 1},
        "renameByName": {"Value #B": "RPS"},
    }
    steps = [{"id": "merge", "options": {}}, {"id": "organize", "options": options}]
    found = transform.apply(data, steps).tables[0]
    assert names(found) == ["RPS", "cell", "Value #A"]


def test_labels_become_columns():
    data = PanelData(series=(series("x", (1.0,), route="direct"), series("x", (2.0,), route="pgb")))
    found = transform.apply(data, [{"id": "labelsToFields"}]).tables[0]
    assert (names(found), rows(found)) == (["route", "x"], [("direct", 1.0), ("pgb", 2.0)])


def test_merge_of_nothing_is_an_empty_table():
    assert transform.merged([]).rows == 0


def test_unknown_transformation_is_refused():
    with pytest.raises(ConfigError, match="transformation 'reduce'"):
        transform.apply(PanelData(), [{"id": "reduce"}])


# --- what a field is shown as --------------------------------------------------------------------

PANEL = {
    "id": 1,
    "type": "timeseries",
    "title": "RPS",
    "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
    "targets": [{"refId": "A", "expr": "up", "legendFormat": "a"}],
    "fieldConfig": {
        "defaults": {"unit": "reqps", "custom": {"fillOpacity": 8, "lineWidth": 1}},
        "overrides": [
            {
                "matcher": {"id": "byName", "options": "b"},
                "properties": [
                    {"id": "unit", "value": "s"},
                    {"id": "custom.lineWidth", "value": 3},
                ],
            }
        ],
    },
}


def test_overrides_hold_for_their_name_only():
    assert fields.config(PANEL, "a")["unit"] == "reqps"
    other = fields.config(PANEL, "b")
    assert (other["unit"], other["custom"]) == ("s", {"fillOpacity": 8, "lineWidth": 3})


# --- dashboards ----------------------------------------------------------------------------------


def test_every_committed_dashboard_can_be_read():
    found = dashboards.load()
    assert found[0].uid == "poolscope-overview"
    for dashboard in found:
        kinds = {p["type"] for p in dashboard.panels}
        known = {"row", "text", "timeseries", "stat", "bargauge", "barchart", "table", "heatmap"}
        assert kinds <= known, dashboard.uid
        for panel in dashboard.panels:
            for step in panel.get("transformations") or ():
                transform.apply(PanelData(), [step])


def test_unknown_dashboard_names_the_known_ones():
    found = dashboards.load()
    assert dashboards.choose(found, "overview") == dashboards.choose(found, "poolscope-overview")
    with pytest.raises(ConfigError, match="unknown dashboard 'overvew'; dashboards: overview, "):
        dashboards.choose(found, "overvew")


def test_damaged_dashboard_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ConfigError, match=r"x\.json is not valid JSON"):
        dashboards.load(tmp_path)
    with pytest.raises(ConfigError, match="no dashboards in"):
        dashboards.load(tmp_path / "nothing")


# --- the archive ---------------------------------------------------------------------------------

INSTANT = PANEL | {"id": 2, "type": "table", "title": "now"}
OVER_RANGE = INSTANT | {
    "id": 3,
    "targets": [{"refId": "A", "expr": "max_over_time(x[$__range])", "instant": True}],
}
STATEMENTS = OVER_RANGE | {"id": 4, "title": "of no single cell"}
PANELS = [PANEL, INSTANT, OVER_RANGE, STATEMENTS]
BOARD = Dashboard({"uid": "poolscope-x", "title": "X", "panels": PANELS})


def cells_table(*cells):
    figures = tuple(float(n) for n, _ in enumerate(cells))
    columns = (Column("cell_id", "string", cells), Column("RPS", "number", figures))
    return Table("A", columns)


def archive_of(points=20):
    over = Span(1000, 1000 + (points - 1) * 2, 2)
    row = Table("A", (Column("Value", "number", (1.0,)),))
    own = Table("A", (Column("Value", "number", (7.0,)),))
    data = {
        1: PanelData((series("a", range(points)), series("b", [None] * points))),
        2: PanelData(tables=(row,), instant=True),
        3: PanelData(tables=(cells_table("b", "c"),), instant=True),
        4: PanelData(tables=(row,), instant=True),
    }
    shown = {
        "Windows": (
            Mark(1002.0, "b", 1008.0),
            Mark(1010.0, "c", 1020.0),
            Mark(1020.0, "d", 1030.0),
        ),
        "Rejected": (Mark(1012.0, "c"), Mark(1030.0, "d")),
    }
    instants = {n: PanelData(tables=(own,), instant=True) for n in (2, 4)}
    cells = {"c": {BOARD.uid: DashboardData(instants)}}
    return Archive(over, (BOARD,), {BOARD.uid: DashboardData(data, shown)}, cells)


def run_with(tmp_path, *records):
    run = Run(tmp_path / "20261120-160000-test")
    for one in records:
        run.write_record(one)
    run.write_manifest(manifest(list(records)))
    return run


def test_archive_reads_what_it_wrote(tmp_path):
    run = run_with(tmp_path)
    path = run.folder / archives.NAME
    archives.write(path, archive_of())
    first = path.read_bytes()
    found = archives.read(run)
    assert found == archive_of()
    archives.write(path, found)
    assert path.read_bytes() == first


def test_archive_of_a_cell_is_its_warm_up_and_window():
    one = record(cell_id="c", window_start=1010.0, window_end=1020.0, settings={"WARMUP": 4})
    found = archive_of().of_cell(one)
    assert found.over == Span(1006, 1020, 2)
    shown = found.data[BOARD.uid]
    assert shown.panels[1].series[0].values == tuple(range(3, 11))
    assert rows(shown.panels[2].tables[0]) == [(7.0,)]
    assert rows(shown.panels[3].tables[0]) == [("c", 1.0)]
    assert rows(shown.panels[4].tables[0]) == [(7.0,)], "not those of the whole run"
    assert shown.marks["Rejected"] == (Mark(1012.0, "c"),)


def test_archive_of_a_cell_keeps_the_marks_that_overlap_it_clipped():
    """The cell before it ended in its warm-up; the one after it begins where it ends."""
    one = record(cell_id="c", window_start=1010.0, window_end=1020.0, settings={"WARMUP": 4})
    found = archive_of().of_cell(one).data[BOARD.uid].marks["Windows"]
    assert found == (Mark(1006.0, "b", 1008.0), Mark(1010.0, "c", 1020.0))


def test_archive_of_schema_1_is_read_with_its_moments(tmp_path):
    run = run_with(tmp_path)
    path = run.folder / archives.NAME
    archives.write(path, archive_of())
    content = json.loads(gzip.decompress(path.read_bytes()))
    assert content["schema"] == 2
    content["schema"] = 1
    for data in content["data"].values():
        data["marks"] = {"Window start": [[1010.0, "c"]]}
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    found = archives.read(run)
    assert found.data[BOARD.uid].marks == {"Window start": (Mark(1010.0, "c"),)}
    content["schema"] = 3
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(ResultError, match="has schema 3, this version reads 1, 2"):
        archives.read(run)


def test_archive_of_a_cell_without_a_window_says_why():
    lost = record(cell_id="c", window_start=None, window_end=None, reasons=("service ended",))
    with pytest.raises(ResultError, match=r"cell c has no window.*service ended"):
        archive_of().of_cell(lost)


def test_a_run_without_samples_is_one_clear_line(tmp_path):
    run = run_with(tmp_path)
    with pytest.raises(ResultError, match="has no samples of its dashboards"):
        archives.read(run)
    (run.folder / archives.NAME).write_bytes(b"not gzip")
    with pytest.raises(ResultError, match="cannot be read"):
        archives.read(run)


def test_an_unknown_cell_names_the_known_ones(tmp_path, console):
    run = run_with(tmp_path, record(measured=measurement()))
    archives.write(run.folder / archives.NAME, archive_of())
    with pytest.raises(ResultError, match=r"unknown cell 'x'.*cells: fastapi-direct-u10-r1"):
        command.make(run, command.Wanted(cell="x"), console)


def test_snapshot_writes_a_page_and_grafanas_models(tmp_path, console):
    run = run_with(tmp_path, record(measured=measurement()))
    archives.write(run.folder / archives.NAME, archive_of())
    made = command.make(run, command.Wanted(dashboard="x"), console)
    assert [path.name for path in made] == ["poolscope-x.html", "poolscope-x.grafana.json"]
    assert "snapshots/poolscope-x.html" in run.manifest().files
    assert json.loads(made[1].read_text())["dashboard"]["panels"]


def test_page_becomes_coarser_where_there_is_too_much(monkeypatch):
    monkeypatch.setattr("lab.snapshot.html.MOST_BYTES", 1100)
    whole = archive_of(points=400)
    found, step = fitting(whole, [BOARD.uid])
    assert step > whole.over.step
    assert len(json.dumps(found)) < 1300


def test_coarser_values_are_means_of_what_is_there():
    data, over = view.coarser(archive_of(points=5).data[BOARD.uid], Span(1000, 1008, 2), 2)
    assert data.panels[1].series[0].values == (0.5, 2.5, 4.0)
    assert data.panels[1].series[1].values == (None, None, None)
    assert (over.step, over.points) == (4, 3)


# --- the command line's words -----------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [{"PNG": "yes"}, {"GRAFANA_URL": "localhost:3000"}, {"GRAFANA_URL": "http://"}]
)
def test_snapshot_refuses_other_words(words, tmp_path):
    with pytest.raises(ConfigError, match="is not allowed; allowed"):
        command.wanted(words, Home(tmp_path))


def test_only_the_lab_s_own_grafana_gets_its_password(tmp_path):
    def password(url):
        return command.wanted({"GRAFANA_URL": url}, Home(tmp_path)).password

    assert password("http://127.0.0.1:3000/")
    assert password("http://grafana.example") is None
    assert command.wanted({}, Home(tmp_path)).grafana_url is None


@pytest.mark.parametrize("words", [{"PORT": "0"}, {"PORT": "x"}, {"PROMETHEUS_URL": "ftp://x"}])
def test_watch_refuses_other_words(words):
    with pytest.raises(ConfigError, match="is not allowed; allowed"):
        live.wanted(words)


def test_png_without_a_chromium_says_what_to_do(monkeypatch):
    from lab.snapshot import png

    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(ConfigError, match="PNG=1 needs a Chromium"):
        png.chromium()


@pytest.mark.parametrize(
    ("url", "why"),
    [(None, "Prometheus did not run"), ("http://127.0.0.1:1", "Connection refused")],
)
def test_a_run_is_not_lost_where_its_panels_cannot_be_kept(tmp_path, url, why):
    run = run_with(tmp_path, record(measured=measurement()))
    (note,) = runner.keep_panels(run, url)
    assert note.startswith("the dashboards' panels were not kept: ")
    assert why in note
    assert not (run.folder / archives.NAME).exists()


@pytest.mark.parametrize("words", [["snapshot", "RUN=nope"], ["watch", "PORT=x"]])
def test_a_mistake_is_one_line_and_exit_code_2(words):
    done = subprocess.run(
        [sys.executable, "-m", "lab", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("lab: ")
    assert done.stderr.count("\n") == 1
