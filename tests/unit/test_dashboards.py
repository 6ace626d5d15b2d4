"""The dashboards' JSON: what Grafana needs of it, and what the snapshot draws."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboards import FOLDER, files
from monitoring.signals import BY_NAME

PAGES: dict[str, dict[str, Any]] = {
    p.stem: json.loads(p.read_text()) for p in FOLDER.glob("*.json")
}
UIDS = {
    f"poolscope-{name}"
    for name in (
        *("overview", "connections", "database", "services", "pgbouncer", "matrix", "ladder"),
        "monitoring",
    )
}
KINDS = {"row", "text", "timeseries", "stat", "bargauge", "barchart", "table", "heatmap"}
TRANSFORMATIONS = {"merge", "organize", "labelsToFields"}
CALCS = {"lastNotNull", "mean", "max"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
MOMENTS = {"cell_start", "window_start", "window_end", "rejected"}

page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())


def drawn(page: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in page["panels"] if panel["type"] != "row"]


def expressions(page: dict[str, Any]) -> Iterator[str]:
    for panel in drawn(page):
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in page["annotations"]["list"])


def lost(wanted: Any, found: Any, place: str = "") -> Iterator[str]:
    """Yield where something of `wanted` is not in `found`, which may have more (defaults)."""
    if isinstance(wanted, dict):
        for name, value in wanted.items():
            if name in found:
                yield from lost(value, found[name], f"{place}/{name}")
            else:
                yield f"{place}/{name}"
    elif isinstance(wanted, list) and len(wanted) == len(found):
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from lost(one, other, f"{place}/{number}")
    elif wanted != found:
        yield place


def test_files_are_what_the_signals_make() -> None:
    """To make them again: python -m monitoring.dashboards."""
    assert {path: path.read_text() for path in FOLDER.glob("*.json")} == files()
    assert set(PAGES) == UIDS


@page
def test_file_is_its_uid_and_a_version_that_grafana_11_reads(page: dict[str, Any]) -> None:
    assert PAGES[page["uid"]] is page
    assert 36 <= page["schemaVersion"] <= 41
    assert page["tags"] == ["poolscope"]
    assert page["refresh"] == "5s"
    assert page["graphTooltip"] == 1


@page
def test_json_survives_the_sdks_own_models(page: dict[str, Any]) -> None:
    """What Grafana's schema does not know would be lost on the way."""
    register_default_plugins()
    again = json.loads(json.dumps(Dashboard.from_json(page), cls=JSONEncoder))
    # The SDK's annotation has nothing of what is Prometheus's own.
    kept = {name: value for name, value in page.items() if name != "annotations"}
    assert list(lost(kept, again)) == []


@page
def test_ids_are_unique_and_panels_do_not_overlap(page: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in page["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in page["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert not cells & taken, panel["title"]
        taken |= cells


@page
def test_panels_use_only_what_the_snapshot_draws(page: dict[str, Any]) -> None:
    for panel in page["panels"]:
        assert panel["type"] in KINDS
    for panel in drawn(page):
        assert {t["id"] for t in panel["transformations"]} <= TRANSFORMATIONS
        reduced = panel["options"].get("reduceOptions", {"calcs": ["mean"]})
        assert set(reduced["calcs"]) <= CALCS
        assert {o["matcher"]["id"] for o in panel["fieldConfig"]["overrides"]} <= {"byName"}


@page
def test_every_panel_says_how_to_read_it(page: dict[str, Any]) -> None:
    for panel in drawn(page):
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0].get("value") is None


@page
def test_targets_are_complete(page: dict[str, Any]) -> None:
    for panel in drawn(page):
        assert panel["datasource"] == DATASOURCE
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(refs) == len(set(refs))
        for target in panel["targets"]:
            assert target["datasource"] == DATASOURCE
            assert target["instant"] is not target["range"]
            assert target["format"] in ("time_series", "table", "heatmap")
            assert "legendFormat" in target


@page
def test_variables_are_defined_and_used_as_matchers_only(page: dict[str, Any]) -> None:
    defined = {variable["name"] for variable in page["templating"]["list"]}
    assert defined == {"datasource", "framework", "route", "run"}
    for variable in page["templating"]["list"]:
        if variable["type"] == "query":
            assert variable["includeAll"]
            assert variable["allValue"] == ".*"
    for expr in expressions(page):
        bare = re.sub(r"\$__(rate_interval|range)\b", "", expr)
        bare = re.sub(r'=~"\$(framework|route|run)"', "", bare)
        assert "$" not in bare


@page
def test_recorded_series_are_those_of_signals(page: dict[str, Any]) -> None:
    names = {name for expr in expressions(page) for name in re.findall(r"poolscope:(\w+)", expr)}
    assert names <= set(BY_NAME)


@page
def test_moments_are_drawn_at_their_value(page: dict[str, Any]) -> None:
    annotations = page["annotations"]["list"]
    assert {re.findall(r'event="(\w+)"', a["expr"])[0] for a in annotations} == MOMENTS
    for annotation in annotations:
        assert annotation["useValueForTime"]
        assert annotation["enable"]
        assert annotation["expr"].endswith("* 1000")
        assert annotation["datasource"] == DATASOURCE


@page
def test_links_lead_to_dashboards_that_are_there(page: dict[str, Any]) -> None:
    links = [*page["links"], *(link for panel in drawn(page) for link in panel["links"])]
    found = {re.fullmatch(r"/d/([a-z-]+)(\?.*)?", link["url"])[1] for link in links}  # type: ignore[index]
    assert found <= UIDS
    assert {link["url"] for link in page["links"]} == {f"/d/{uid}" for uid in UIDS - {page["uid"]}}


def test_prometheus_takes_every_expression(tmp_path: Path) -> None:
    """Promtool reads them all as rules, with the variables at their value for all."""
    rules = []
    for number, expr in enumerate(e for one in PAGES.values() for e in expressions(one)):
        text = re.sub(r"\$__(rate_interval|range)\b", "60s", expr)
        text = re.sub(r"\$(framework|route|run)\b", ".*", text)
        rules.append({"record": f"x:{number}", "expr": text})
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [os.environ["PROMTOOL"], "check", "rules", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules)} rules found" in done.stdout


def test_provisioning_gives_the_data_source_that_the_dashboards_ask_for() -> None:
    """Both stacks fill in the same two variables; nothing else of the files differs."""
    provisioning = FOLDER.parent / "provisioning"
    source = (provisioning / "datasources" / "prometheus.yml").read_text()
    provider = (provisioning / "dashboards" / "poolscope.yml").read_text()
    assert re.findall(r"^ +url: (.+)$", source, re.MULTILINE) == ["$PROMETHEUS_URL"]
    assert re.findall(r"^ +path: (.+)$", provider, re.MULTILINE) == ["$DASHBOARDS_FOLDER"]
    assert re.findall(r"^ +type: (.+)$", source, re.MULTILINE) == ["prometheus"]
    (uid,) = re.findall(r"^ +uid: (.+)$", source, re.MULTILINE)
    for one in PAGES.values():
        (chosen,) = [v for v in one["templating"]["list"] if v["type"] == "datasource"]
        assert chosen["current"]["value"] == uid
