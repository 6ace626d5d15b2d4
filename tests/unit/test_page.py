"""A page is one file that asks for nothing, and nothing in its data can become markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from lab import page
from lab.report import groups, web
from lab.results import Run
from lab.snapshot import view
from lab.snapshot.dashboards import Dashboard
from lab.snapshot.frames import DashboardData, Span
from tests.unit.report_records import THREE, TWO, measurement, record, run_of

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028&"


def rendered(**data):
    return page.render("dashboards.html.j2", HOSTILE, {"name": HOSTILE, "dashboards": [], **data})


def test_data_cannot_end_its_element():
    text = rendered()
    assert text.count("</script>") == 2
    assert "<img" not in text
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert json.loads(found[1])["name"] == HOSTILE


def test_policy_allows_the_page_s_own_script_and_style_only():
    text = rendered()
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0]
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)[0]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    for kind, content in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy


def test_page_names_no_other_place():
    """No address is fetched: none stands in style or markup; uPlot's own is in its comment."""
    text = re.sub(r"/\*!.*?\*/", "", rendered(), flags=re.DOTALL)
    assert not re.search(r"(src|href)=\"(?!#|data:)", text)
    assert "url(" not in text
    assert "@import" not in text


def test_the_library_s_licence_and_version_are_beside_it():
    assert "MIT License" in (page.ASSETS / "uPlot.LICENSE").read_text()
    assert "uPlot (v1.6.32)" in (page.ASSETS / "uPlot.iife.min.js").read_text()[:200]


def report_of(tmp_path, made, records):
    run = Run(tmp_path / made.run_id)
    return web.render(run, groups.view(made, records))


def test_report_has_every_cell_and_the_command(tmp_path):
    made, records = run_of({"FRAMEWORK": THREE, "ROUTE": TWO, "USERS": [10, 100]})
    text = report_of(tmp_path, made, records)
    for one in records:
        assert f'id="cell-{one.cell_id}"' in text
    assert "make bench PRESET=quick" in text
    assert "make bench PRESET=quick FRAMEWORK=flask ROUTE=pgbouncer USERS=100" in text
    assert ">verdict</th>" in text
    assert "12 of 12" in text


def test_report_escapes_everything(tmp_path):
    lost = record(reasons=(HOSTILE,), axes={"DB_POOL": HOSTILE})
    made, _ = run_of({"FRAMEWORK": ["flask"]})
    changes = {
        "command": HOSTILE, "description": HOSTILE, "notes": [HOSTILE], "limits": None,
        "limits_reason": HOSTILE, "host": {"cpu": HOSTILE}, "versions": {HOSTILE: HOSTILE},
        "cells": {lost.cell_id: ""}, "overrides": {"X": HOSTILE},
    }  # fmt: skip
    text = report_of(tmp_path, made.model_copy(update=changes), [lost])
    assert "<img" not in text
    assert text.count("</script>") == 2


def test_report_shows_verdicts_and_reasons(tmp_path):
    verdict = "limited by PostgreSQL's CPU"
    kept = record(measured=measurement(db_cpu=0.99), verdict=verdict)
    lost = record("flask", reasons=("CPU steal was 2.0%",))
    made, _ = run_of({"FRAMEWORK": ["fastapi", "flask"]})
    made = made.model_copy(update={"cells": {kept.cell_id: "", lost.cell_id: "", "more": ""}})
    text = report_of(tmp_path, made, [kept, lost])
    assert "limited by PostgreSQL&#39;s CPU" in text
    assert "CPU steal was 2.0%" in text
    assert "1 rejected, 1 not measured" in text


def test_report_of_a_run_without_cells_is_a_page(tmp_path):
    made, _ = run_of({"FRAMEWORK": ["flask"]})
    assert "Do it again" in report_of(tmp_path, made, [])


def shown(**panel):
    """Return what of a panel reaches the page."""
    whole = {"id": 1, "type": "table", "title": "T", "gridPos": {"x": 0, "y": 0, "w": 6, "h": 4}}
    board = Dashboard({"uid": "x", "title": "X", "panels": [whole | panel]})
    (found,) = view.dashboard(board, DashboardData({}), Span(0, 2, 2))["panels"]
    return found


def test_page_gets_what_its_charts_honour_and_no_more():
    custom = {"axisSoftMax": 1, "axisSoftMin": 0, "hidden": True, "width": 300, "lineWidth": 0}
    links = [{"title": "runbook", "url": "${__data.fields.runbook}"}]
    defaults = {"noValue": "none firing", "links": links, "custom": custom, "filterable": True}
    found = shown(fieldConfig={"defaults": defaults, "overrides": []})
    assert found["config"] == {
        "noValue": "none firing",
        "links": links,
        "custom": {"softMax": 1, "softMin": 0, "hidden": True, "width": 0},
    }


def test_page_gets_the_order_and_whether_there_is_a_legend():
    order = [{"displayName": "RPS", "desc": True}]
    assert shown(options={"sortBy": order, "footer": {}})["options"] == {
        "sortBy": order, "calc": "lastNotNull"
    }  # fmt: skip
    assert shown(options={"legend": {"showLegend": False}})["options"]["legend"] is False
    assert "legend" not in shown(options={"legend": {"showLegend": True}})["options"]
