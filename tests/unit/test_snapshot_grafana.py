"""Grafana's snapshot model, by the parts that Grafana's own pages read of it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lab.errors import ServiceError
from lab.snapshot import dashboards, grafana
from lab.snapshot.frames import Column, DashboardData, Mark, PanelData, Series, Span, Table

OVER = Span(1000, 1008, 2)


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
    marks = {note["name"]: (Mark(1002.0, "cell a"),) for note in dashboard.annotations}
    return DashboardData(panels, marks)


@pytest.mark.parametrize("dashboard", dashboards.load(), ids=lambda d: d.uid)
def test_snapshot_asks_nothing_and_carries_all(dashboard):
    """No query, variable or data source is left; every panel has frames of equal columns."""
    model = grafana.model(dashboard, data_of(dashboard), OVER, "name")
    assert model["snapshot"]["timestamp"] == "1970-01-01T00:16:48.000Z"
    assert model["time"] == {"from": "1970-01-01T00:16:40.000Z", "to": "1970-01-01T00:16:48.000Z"}
    assert model["templating"] == {"list": []}
    text = json.dumps(model, allow_nan=False)
    assert '"expr"' not in text
    assert "${datasource}" not in text
    for panel in model["panels"]:
        assert panel["targets"] == []
        assert panel["datasource"] is None
        if panel["type"] not in ("row", "text"):
            assert panel["transformations"] == []
            check_frames(panel["snapshotData"])
    for note in model["annotations"]["list"]:
        assert note["snapshotData"][0]["time"] == 1_002_000
        assert note["type"] == "dashboard"


def check_frames(frames):
    assert frames
    for frame in frames:
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
    frame = grafana.frames(panel, PanelData((Series("B", "P95", {}, (None, 0.5, 0.6)),)), OVER)[0]
    time, value = frame["fields"]
    assert time["values"] == [1_002_000, 1_004_000]
    assert value["config"] == {"unit": "s", "displayNameFromDS": "P95"}
    assert frame["refId"] == "B"


def test_heat_map_has_a_field_per_bucket_without_those_below():
    series = (Series("A", "+Inf", {"le": "+Inf"}, (5.0, None)),
              Series("A", "0.1", {"le": "0.1"}, (2.0, None)))  # fmt: skip
    over = Span(1000, 1002, 2)
    (frame,) = grafana.frames({"type": "heatmap"}, PanelData(series), over)
    assert frame["meta"]["type"] == "heatmap-rows"
    found = {field["name"]: field["values"] for field in frame["fields"]}
    assert found == {"Time": [1_000_000, 1_002_000], "0.1": [2.0, None], "+Inf": [3.0, None]}


class Stub(BaseHTTPRequestHandler):
    """Answers as Grafana's snapshot API does: 200 with a key, or a status with a message."""

    answer: tuple[int, object] = (200, {"key": "abc", "url": "http://elsewhere/x"})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, content = type(self).answer
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
        grafana.post(api, {})


def test_a_stored_snapshot_has_an_address(api):
    assert grafana.post(f"{api}/", {"name": "x"}) == f"{api}/dashboard/snapshot/abc"


def test_an_unreachable_grafana_is_one_clear_line():
    with pytest.raises(ServiceError, match=r"grafana at http://127\.0\.0\.1:1 is not reachable"):
        grafana.post("http://127.0.0.1:1", {})
