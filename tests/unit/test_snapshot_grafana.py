"""Grafana's snapshot model, by the parts that Grafana's own pages read of it."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from lab.errors import ServiceError
from lab.snapshot import archive as archives
from lab.snapshot import command, dashboards, grafana
from lab.snapshot.dashboards import Dashboard
from lab.snapshot.frames import Column, DashboardData, Mark, PanelData, Series, Span, Table
from lab.snapshot.grafana_api import Grafana
from lab.snapshot.grafana_frames import as_answers, frames
from lab.snapshot.grafana_frames import marks as frame_of_marks
from tests.unit.report_records import measurement, record
from tests.unit.test_snapshot import BOARD, archive_of, run_with

OVER = Span(1000, 1008, 2)
NOTES = [
    {"name": "Windows", "iconColor": "blue", "expr": "x"},
    {"name": "Rejected", "iconColor": "red", "expr": "x"},
]
MARKS = {"Windows": (Mark(1002.0, "cell a", 1006.0),), "Rejected": (Mark(1004.0, "cell b"),)}


def data_of(dashboard):
    """Return something for each panel of a dashboard, in the form that it draws."""
    panels = {}
    for panel in dashboard.panels:
        if panel["type"] == "heatmap":
            found = [Series("A", le, {"le": le}, (None, 1.0, 2.0, 3.0, None)) for le in ("1", "2")]
            panels[panel["id"]] = PanelData(tuple(found))
        elif panel["type"] in ("table", "barchart"):
            columns = (Column("Time", "time", (1008.0,)), Column("cell", "string", ("a",)),
                       Column("RPS", "number", (5.0,)))  # fmt: skip
            panels[panel["id"]] = PanelData(tables=(Table("A", columns),), instant=True)
        else:
            panels[panel["id"]] = PanelData((Series("A", "x", {"job": "j"}, (1.0,) * 5),))
    return DashboardData(panels, MARKS)


def marked(found):
    """Return a committed dashboard with the annotations of these tests."""
    return Dashboard(found.model | {"annotations": {"list": NOTES}})


BOARDS = [marked(d) for d in dashboards.load()]


@pytest.mark.parametrize("dashboard", BOARDS, ids=lambda d: d.uid)
def test_snapshot_asks_nothing_and_carries_all(dashboard):
    """No query to a server, variable or data source is left; every panel has its answer."""
    model = grafana.model(dashboard, data_of(dashboard), OVER, "name")
    assert model["snapshot"]["timestamp"] == "1970-01-01T00:16:48.000Z"
    assert model["time"] == {"from": "1970-01-01T00:16:40.000Z", "to": "1970-01-01T00:16:48.000Z"}
    assert model["templating"] == {"list": []}
    text = json.dumps(model, allow_nan=False)
    assert '"expr"' not in text
    assert "${datasource}" not in text
    for panel in model["panels"]:
        assert "snapshotData" not in panel, "where it is, newer ones leave the query's answer"
        if panel["type"] in ("row", "text"):
            assert panel["targets"] == []
            continue
        assert panel["transformations"] == []
        (query,) = panel["targets"]
        assert panel["datasource"] == query["datasource"] == {"type": "grafana", "uid": "grafana"}
        assert (query["refId"], query["queryType"]) == ("A", "snapshot")
        check_answers(query["snapshot"])
        topics = [a["schema"].get("meta", {}).get("dataTopic") for a in query["snapshot"]]
        drawn = panel["type"] in ("timeseries", "heatmap")
        assert topics.count("annotations") == (2 if drawn else 0), panel["title"]
        assert topics.count(None) >= 1


def check_answers(answers):
    for answer in answers:
        assert set(answer) == {"schema", "data"}
        columns = answer["schema"]["fields"]
        values = answer["data"]["values"]
        assert len(columns) == len(values)
        assert len({len(column) for column in values}) == 1
        for column in columns:
            assert "values" not in column
            assert set(column) >= {"name", "type", "config"}


@pytest.mark.parametrize("dashboard", BOARDS, ids=lambda d: d.uid)
def test_older_grafana_gets_the_form_that_it_reads(dashboard):
    model = grafana.model(dashboard, data_of(dashboard), OVER, "name", release=10)
    for panel in model["panels"]:
        assert panel["targets"] == []
        assert panel["datasource"] is None
        if panel["type"] not in ("row", "text"):
            check_frames(panel["snapshotData"])


@pytest.mark.parametrize("release", [10, 13])
def test_annotations_of_older_grafana_carry_regions(release):
    """Newer ones skip these; they are marks of the whole dashboard."""
    model = grafana.model(BOARDS[0], data_of(BOARDS[0]), OVER, "name", release=release)
    windows, rejected = model["annotations"]["list"]
    assert windows["type"] == "dashboard"
    assert windows["snapshotData"] == [
        {"time": 1_002_000, "timeEnd": 1_006_000, "isRegion": True, "title": "Windows",
         "text": "cell a", "tags": []},
    ]  # fmt: skip
    (moment,) = rejected["snapshotData"]
    assert (moment["time"], moment["isRegion"]) == (1_004_000, False)
    assert "timeEnd" not in moment


def test_frame_of_marks_is_grafanas_annotations():
    """A region is drawn where isRegion is true, from time to timeEnd, with title and text."""
    (answer,) = as_answers([frame_of_marks("Windows", "blue", [Mark(1.0, "a", 3.0), Mark(5, "b")])])
    assert answer["schema"]["meta"] == {"dataTopic": "annotations"}
    names = [column["name"] for column in answer["schema"]["fields"]]
    assert dict(zip(names, answer["data"]["values"], strict=True)) == {
        "time": [1000, 5000],
        "timeEnd": [3000, None],
        "isRegion": [True, False],
        "title": ["Windows", "Windows"],
        "text": ["a", "b"],
        "tags": [[], []],
        "color": ["blue", "blue"],
    }


def check_frames(found):
    assert found
    for frame in found:
        lengths = {len(field["values"]) for field in frame["fields"]}
        assert len(lengths) == 1
        for field in frame["fields"]:
            assert set(field) >= {"name", "type", "config", "values"}
            assert field["type"] in ("time", "number", "string")
            if field["type"] == "time":
                assert all(1_000_000 <= value <= 1_008_000 for value in field["values"])


def test_frames_carry_their_own_unit_and_name():
    """Grafana shows a snapshot's fields by the configuration inside them, not by the panel's."""
    panel = {"type": "timeseries", "fieldConfig": {"defaults": {"unit": "s"}, "overrides": []}}
    over = Span(1000, 1004, 2)
    frame = frames(panel, PanelData((Series("B", "P95", {}, (None, 0.5, 0.6)),)), over)[0]
    value = frame["fields"][1]
    assert value["config"] == {"unit": "s", "displayNameFromDS": "P95"}
    assert frame["refId"] == "B"


def test_frames_of_a_stack_share_one_grid_and_its_interval():
    """Where series begin at other times, Grafana would draw a ramp to the first value of each."""
    data = PanelData((
        Series("A", "early", {}, (1.0, None, 3.0, None, None)),
        Series("A", "late", {}, (None, None, None, 4.0, 5.0)),
    ))  # fmt: skip
    early, late = frames({"type": "timeseries"}, data, OVER)
    for frame in (early, late):
        time = frame["fields"][0]
        assert time["config"] == {"interval": 2000}
        assert time["values"] == [1_000_000, 1_002_000, 1_004_000, 1_006_000, 1_008_000]
    assert early["fields"][1]["values"] == [1.0, None, 3.0, None, None]
    assert late["fields"][1]["values"] == [None, None, None, 4.0, 5.0]


def test_frame_of_one_instant_has_no_interval():
    data = PanelData((Series("A", "x", {}, (1.0,)),), instant=True)
    (frame,) = frames({"type": "stat"}, data, OVER)
    assert frame["fields"][0]["config"] == {}
    assert frame["fields"][0]["values"] == [1_008_000]
    assert frame["meta"] == {"type": "numeric-multi"}


def test_heat_map_has_a_field_per_bucket_without_those_below():
    """Its rows are written by their bound alone, in the panel's unit."""
    series = (Series("A", "+Inf", {"le": "+Inf"}, (5.0, None)),
              Series("A", "0.1", {"le": "0.1"}, (2.0, None)))  # fmt: skip
    over = Span(1000, 1002, 2)
    (frame,) = frames({"type": "heatmap"}, PanelData(series), over)
    assert frame["meta"]["type"] == "heatmap-rows"
    found = {field["name"]: field["values"] for field in frame["fields"]}
    assert found == {"Time": [1_000_000, 1_002_000], "0.1": [2.0, None], "+Inf": [3.0, None]}
    assert frame["fields"][0]["config"] == {"interval": 2000}
    assert [f["config"] for f in frame["fields"][1:]] == [
        {"displayNameFromDS": "0.1"}, {"displayNameFromDS": "+Inf"},
    ]  # fmt: skip


def test_heat_map_of_nothing_is_no_frame():
    """A frame of times alone is a histogram whose first bucket Grafana fails to find."""
    assert frames({"type": "heatmap"}, PanelData(), OVER) == []


# --- links ---------------------------------------------------------------------------------------

LINKED = {
    "id": 1,
    "type": "stat",
    "title": "x",
    "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
    "links": [
        {"title": "More", "url": "/d/poolscope-database?${__url_time_range}&${__all_variables}"},
        {"title": "More", "url": "/d/poolscope-services"},
        {"title": "Runbook", "url": "https://example.org/runbook"},
    ],
}
OVERVIEW = Dashboard({"uid": "poolscope-overview", "title": "Poolscope: overview",
                      "links": [{"url": "/d/poolscope-database"}], "panels": [LINKED]})  # fmt: skip


def test_links_of_a_snapshot_lead_to_the_other_snapshots():
    """They open in a tab of their own: inside one, Grafana changes the address alone."""
    pages = {"poolscope-overview": ("Overview", "/dashboard/snapshot/a"),
             "poolscope-database": ("Database", "/dashboard/snapshot/b")}  # fmt: skip
    model = grafana.model(OVERVIEW, DashboardData({}), OVER, "name", pages)
    (link,) = model["links"]
    assert (link["title"], link["url"]) == ("Database", "/dashboard/snapshot/b")
    assert (link["type"], link["targetBlank"]) == ("link", True)
    more, runbook = model["panels"][0]["links"]
    assert (more["url"], more["targetBlank"]) == ("/dashboard/snapshot/b", True)
    assert runbook["url"] == "https://example.org/runbook"


def test_snapshot_of_which_no_other_is_known_has_no_links_to_pages():
    model = grafana.model(OVERVIEW, DashboardData({}), OVER, "name")
    assert model["links"] == []
    assert [link["title"] for link in model["panels"][0]["links"]] == ["Runbook"]


def test_title_beside_its_neighbours_is_short():
    assert OVERVIEW.short_title == "Overview"
    assert Dashboard({"uid": "x", "title": "Poolscope: PgBouncer"}).short_title == "PgBouncer"


# --- a Grafana -----------------------------------------------------------------------------------


class Stub(BaseHTTPRequestHandler):
    """Answers as Grafana's API does: its version, and a snapshot's key or a message."""

    answer: tuple[int, object] | None = None
    version: ClassVar[object] = {"database": "ok", "version": "13.2.3"}
    stored: ClassVar[list[dict[str, object]]] = []

    def do_GET(self):
        known = self.path == "/api/health"
        self.send(200 if known else 404, type(self).version if known else {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).stored.append(body)
        self.send(*(type(self).answer or (200, {"key": body["key"], "url": "http://elsewhere/x"})))

    def send(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def api():
    """A server that speaks Grafana's side of the request; a Grafana itself is in no package."""
    server = HTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    Stub.stored.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((403, {"message": "no permission"}), "refused the snapshot: 403 no permission"),
        ((200, {}), "refused the snapshot: 200 no reason"),
        ((502, ["x"]), "refused the snapshot: 502 no reason"),
        ((400, {"message": "Dashboard not found"}), r"400 Dashboard not found; .*import"),
    ],
)
def test_a_refused_snapshot_is_one_clear_line(api, monkeypatch, answer, message):
    monkeypatch.setattr(Stub, "answer", answer)
    with pytest.raises(ServiceError, match=message):
        Grafana.at(api).post({}, "abc")


def test_a_stored_snapshot_has_the_address_that_it_was_given(api):
    """Who knows the key can read it, and who knows the other one can delete it."""
    server = Grafana.at(f"{api}/")
    assert server.post({"name": "x"}, "abc") == f"{api}/dashboard/snapshot/abc"
    assert server.address("abc") == "/dashboard/snapshot/abc"
    (body,) = Stub.stored
    assert (body["name"], body["key"]) == ("x", "abc")
    assert re.fullmatch("[0-9a-f]{32}", body["deleteKey"])


def test_grafana_below_a_path_has_its_snapshots_there():
    assert Grafana.at("http://x:1/grafana/").address("k") == "/grafana/dashboard/snapshot/k"


def test_grafana_of_the_lab_is_asked_as_its_administrator():
    assert Grafana.at("http://x:1", "secret").account == ("admin", "secret")
    assert Grafana.at("http://a:b@x:1", "secret") == Grafana("http://x:1", ("a", "b"))


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ({"version": "10.4.1"}, 10),
        ({"version": "13.2.3"}, 13),
        ({"database": "ok"}, 11),
        (["x"], 11),
    ],
)
def test_release_of_grafana_is_the_first_number_of_its_version(api, monkeypatch, version, release):
    """One that hides its version counts as new."""
    monkeypatch.setattr(Stub, "version", version)
    assert Grafana.at(api).release() == release


def test_an_unreachable_grafana_is_one_clear_line():
    with pytest.raises(ServiceError, match=r"grafana at http://127\.0\.0\.1:1 is not reachable"):
        Grafana.at("http://127.0.0.1:1").post({}, "abc")


@pytest.mark.parametrize(("version", "inside"), [("10.4.1", "snapshotData"), ("13.2.3", "targets")])
def test_stored_snapshots_know_each_other(api, monkeypatch, tmp_path, console, version, inside):
    """Each has links to all others, at the keys under which those are stored."""
    monkeypatch.setattr(Stub, "version", {"version": version})
    run = run_with(tmp_path, record(measured=measurement()))
    whole = archive_of()
    other = Dashboard(BOARD.model | {"uid": "poolscope-y", "title": "Poolscope: y"})
    data = {**whole.data, other.uid: whole.data[BOARD.uid]}
    archives.write(run.folder / archives.NAME,
                   archives.Archive(whole.over, (BOARD, other), data, {}))  # fmt: skip
    command.make(run, command.Wanted(grafana_url=api), console)
    x, y = Stub.stored
    assert [link["url"] for link in x["dashboard"]["links"]] == [f"/dashboard/snapshot/{y['key']}"]
    assert [link["url"] for link in y["dashboard"]["links"]] == [f"/dashboard/snapshot/{x['key']}"]
    assert x["dashboard"]["panels"][0][inside]
    printed = console.file.getvalue()
    assert f"{api}/dashboard/snapshot/{x['key']}" in printed
    kept = json.loads((run.folder / "snapshots" / "poolscope-x.grafana.json").read_text())
    assert "key" not in kept, "a file can be stored twice"
    assert kept["dashboard"]["links"] == []


def test_fields_of_a_snapshot_lead_to_no_live_dashboard():
    """An alert's runbook is a panel of a Grafana that may not be there."""
    overview = next(d for d in dashboards.load() if d.uid == "poolscope-overview")
    assert "viewPanel" in json.dumps(overview.model)
    over = Span(1000, 1010, 2)
    made = grafana.model(overview, DashboardData({}), over, "name")
    assert "viewPanel" not in json.dumps(made)
