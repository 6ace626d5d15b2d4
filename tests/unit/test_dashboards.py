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

from lab.paths import ROOT
from lab.snapshot.evaluate import substituted
from monitoring.alerts import ALERTS
from monitoring.dashboards import FOLDER, files
from monitoring.signals import BY_NAME
from monitoring.signals_pressure import RESOURCES

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
#: Pages whose figures are of no framework and no route.
OF_RUNS = {"poolscope-ladder", "poolscope-monitoring"}
#: Pages of what is over look further back.
LONG = {"poolscope-matrix": "now-3h", "poolscope-ladder": "now-15m"}
#: Width of a column of the grid on a screen of 1366 px beside Grafana's menu, and what a panel's
#: frame and its "i" take of it; of a letter of a title, and of a table's cell: as in Grafana 12.2.
COLUMN_PX, FRAME_PX, INFO_PX, LETTER_PX, PAD_PX = 43.3, 24, 32, 7.2, 12

page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())


def flat(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from flat(panel.get("panels") or [])


def drawn(page: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in flat(page["panels"]) if panel["type"] not in ("row", "text")]


def of_kind(*kinds: str) -> list[Any]:
    """Return every panel of some kinds, as parameters of a test."""
    return [
        pytest.param(panel, id=f"{name}: {panel['title']}")
        for name, one in PAGES.items()
        for panel in drawn(one)
        if panel["type"] in kinds
    ]


def titled(page: str, title: str) -> dict[str, Any]:
    (found,) = (p for p in drawn(PAGES[f"poolscope-{page}"]) if p["title"] == title)
    return found


def override(panel: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        item["id"]: item["value"]
        for one in panel["fieldConfig"]["overrides"]
        if one["matcher"]["options"] == name
        for item in one["properties"]
    }


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
    assert 36 <= page["schemaVersion"] <= 42
    assert page["tags"] == ["poolscope"]
    assert page["refresh"] == "30s"
    assert page["time"] == {"from": LONG.get(page["uid"], "now-5m"), "to": "now"}
    assert page["graphTooltip"] == 1


@page
def test_json_survives_the_sdks_own_models(page: dict[str, Any]) -> None:
    """What Grafana's schema does not know would be lost on the way."""
    register_default_plugins()
    again = json.loads(json.dumps(Dashboard.from_json(page), cls=JSONEncoder))
    # The SDK's annotation has nothing of what is Prometheus's own.
    kept = {name: value for name, value in page.items() if name not in ("annotations", "links")}
    assert list(lost(kept, again)) == []


@page
def test_ids_are_unique_and_panels_do_not_overlap(page: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in flat(page["panels"])]
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
def test_variables_are_defined_used_and_matchers_only(page: dict[str, Any]) -> None:
    """A variable that no panel reads would do nothing; those of a ladder or the instrument do."""
    listed = {variable["name"]: variable for variable in page["templating"]["list"]}
    wanted = {"run"} if page["uid"] in OF_RUNS else {"framework", "route", "run"}
    assert set(listed) == {"datasource"} | wanted
    assert listed.pop("datasource")["hide"] == 2
    text = " ".join(expressions(page))
    for name, variable in listed.items():
        assert variable["includeAll"]
        assert variable["allValue"] == ".*"
        assert not variable.get("multi")
        assert f'=~"${name}"' in text
    bare = re.sub(r"\$__(rate_interval|range)\b", "", text)
    bare = re.sub(r'=~"\$(framework|route|run)"', "", bare)
    assert "$" not in re.sub(r'"\$1"', "", bare)


@page
def test_recorded_series_are_those_of_signals(page: dict[str, Any]) -> None:
    names = {name for expr in expressions(page) for name in re.findall(r"poolscope:(\w+)", expr)}
    assert names <= set(BY_NAME)


@page
def test_windows_are_one_region_each_and_other_marks_are_off(page: dict[str, Any]) -> None:
    """Grafana joins samples that are a step apart; a moment's value is when it was."""
    windows, *moments = page["annotations"]["list"]
    assert windows["enable"]
    assert "useValueForTime" not in windows
    assert windows["textFormat"] == "{{cell_id}}"
    assert windows["step"] == windows["target"]["interval"] == "2s"
    events = [re.findall(r'event="(\w+)"', mark["expr"]) for mark in moments]
    assert events == [["cell_start"], ["window_end"], ["rejected"]]
    for mark in moments:
        assert not mark["enable"]
        assert mark["useValueForTime"]
    for mark in (windows, *moments):
        assert mark["hide"], "its switch would be one more row of the header"
        assert mark["datasource"] == DATASOURCE
        assert mark["target"]["expr"] == mark["expr"]
        for name in ("run",) if page["uid"] in OF_RUNS else ("framework", "route", "run"):
            assert f'=~"${name}"' in mark["expr"].split("lab_cell_info")[1]


@page
def test_header_has_one_menu_of_the_other_dashboards(page: dict[str, Any]) -> None:
    (link,) = page["links"]
    assert (link["type"], link["asDropdown"], link["tags"]) == ("dashboards", True, ["poolscope"])
    assert (link["includeVars"], link["keepTime"]) == (True, True)
    assert "placement" not in link, "from Grafana 12.3 on it would be inside another menu"


@page
def test_links_lead_to_dashboards_and_panels_that_are_there(page: dict[str, Any]) -> None:
    links = [link for panel in drawn(page) for link in panel["links"]]
    for panel in drawn(page):
        for one in panel["fieldConfig"]["overrides"]:
            links += [
                x for item in one["properties"] if item["id"] == "links" for x in item["value"]
            ]
    for link in links:
        found = re.fullmatch(r"/d/([a-z-]+)\?(.*)", link["url"])
        assert found, link["url"]
        assert found[1] in UIDS


@page
def test_lines_of_panels_are_full(page: dict[str, Any]) -> None:
    """No panel stands alone beside an empty place."""
    lines: dict[int, int] = {}
    for panel in drawn(page):
        place = panel["gridPos"]
        lines[place["y"]] = lines.get(place["y"], 0) + place["w"]
    assert set(lines.values()) == {24}


@pytest.mark.parametrize("panel", of_kind("stat", "table", "bargauge"))
def test_titles_are_whole_on_a_laptop(panel: dict[str, Any]) -> None:
    room = panel["gridPos"]["w"] * COLUMN_PX - FRAME_PX - INFO_PX
    assert len(panel["title"]) * LETTER_PX <= room


@pytest.mark.parametrize("panel", of_kind("stat", "bargauge"))
def test_figures_of_now_are_asked_for_now(panel: dict[str, Any]) -> None:
    """The last value of a range may be eight minutes old, and another cell's."""
    assert all(target["instant"] for target in panel["targets"])
    assert panel["fieldConfig"]["defaults"]["noValue"]
    assert panel["options"].get("graphMode", "none") == "none"


@pytest.mark.parametrize("panel", of_kind("timeseries"))
def test_axes_of_a_flat_zero_stay_small(panel: dict[str, Any]) -> None:
    """Grafana takes 0 to 100 where all is 0: 10000% in a panel of shares."""
    field = panel["fieldConfig"]["defaults"]
    assert field.get("max") is not None or 0 < field["custom"]["axisSoftMax"] <= 2**20
    if field["unit"] == "percentunit":
        assert field.get("max", field["custom"].get("axisSoftMax")) <= 1.2


@pytest.mark.parametrize("panel", of_kind("timeseries"))
def test_stacks_have_no_outline(panel: dict[str, Any]) -> None:
    """The outline on top is that of the last series, which may be zero throughout."""
    custom = panel["fieldConfig"]["defaults"]["custom"]
    stacked = custom["stacking"]["mode"] == "normal"
    assert (custom["lineWidth"] == 0) is stacked


@page
def test_figures_are_of_chosen_cells(page: dict[str, Any]) -> None:
    """A filter lets nothing through while no cell of its kind runs; `up` only stands for all."""
    exempt = ("lab_cell", "ALERTS", "scrape_duration", "scrape_errors")
    for panel in [] if page["uid"] == "poolscope-monitoring" else drawn(page):
        for target in panel["targets"]:
            expr = target["expr"]
            assert "absent(" not in expr
            if not any(name in expr for name in exempt):
                assert '{__name__=~"lab_cell_info|up", ' in expr, panel["title"]


def test_overview_tables_fit() -> None:
    for title, cut in (("Cell", "fastapi-pgbouncer-u100-r1"), ("Alerts", "load-generator-or-host")):
        panel = titled("overview", title)
        widths = [
            item["value"]
            for one in panel["fieldConfig"]["overrides"]
            for item in one["properties"]
            if item["id"] == "custom.width"
        ]
        left = panel["gridPos"]["w"] * COLUMN_PX - FRAME_PX - sum(widths)
        assert left >= len(cut) * 6.2 + PAD_PX
    shown = titled("overview", "Alerts")
    assert shown["fieldConfig"]["defaults"]["noValue"] == "none firing"
    assert shown["transformations"][1]["options"]["excludeByName"]["page"]
    hidden = titled("overview", "Cell")["transformations"][1]["options"]["excludeByName"]
    assert hidden["run_id"]


def test_every_runbook_is_a_panel_that_its_alert_leads_to() -> None:
    """The column holds the panel's number, is shown as the runbook's name, and leads there.

    A hidden field would not be found by its name: another one that is shown under it would be.
    """
    pages = {
        p["id"]: p for p in flat(PAGES["poolscope-monitoring"]["panels"]) if p["type"] == "text"
    }
    shown = titled("overview", "Alerts")
    (target,) = shown["targets"]
    numbers = dict(re.findall(r'"runbook", "(\d+)", "page", "([a-z-]+)"', target["expr"]))
    assert set(numbers.values()) == {alert.page for alert in ALERTS}
    column = override(shown, "runbook")
    assert "runbook" not in shown["transformations"][1]["options"]["excludeByName"]
    (link,) = column["links"]
    assert link["url"].startswith("/d/poolscope-monitoring?viewPanel=${__value.raw}&")
    (mapping,) = column["mappings"]
    for number, slug in numbers.items():
        assert mapping["options"][number]["text"] == slug
        assert f"monitoring/runbooks/{slug}.md" in pages[int(number)]["description"]
        assert "## Meaning" in pages[int(number)]["options"]["content"]


@page
def test_rates_of_a_panels_own_are_of_series_that_are_there(page: dict[str, Any]) -> None:
    """A bare rate goes on for a window after its server has ended, into the next cell."""
    for expr in expressions(page):
        for rate, of in re.findall(r"(rate\(([^()]+)\[\$__rate_interval\]\))", expr):
            assert f"{rate} and ({of} or " in expr


@page
def test_units_are_known_to_our_own_pages(page: dict[str, Any]) -> None:
    known = (ROOT / "lab" / "page" / "assets" / "format.js").read_text()
    for panel in drawn(page):
        own = [override(panel, o["matcher"]["options"]) for o in panel["fieldConfig"]["overrides"]]
        units = {panel["fieldConfig"]["defaults"]["unit"], *(o["unit"] for o in own if "unit" in o)}
        for unit in units:
            assert unit.startswith("suffix:") or re.search(rf'[" ]{unit}[":]', known), unit


def test_variables_of_a_panel_leave_groups_alone() -> None:
    """What our own pages ask is what Grafana asks: $1 is a group of label_replace."""
    expr = titled("database", "Time by statement")["targets"][0]["expr"]
    asked = substituted(expr, {"__range": "60s", "run": "x"})
    assert '"statement", "$1"' in asked
    assert "$__range" not in asked
    assert '"$run"' not in asked


def test_all_bars_of_use_over_limit_are_visible() -> None:
    panel = titled("overview", "Use over limit")
    assert panel["gridPos"]["h"] * 38 - 60 >= len(RESOURCES) * 26


def test_top_statements_are_text_first_and_sorted_by_time() -> None:
    panel = titled("database", "Top statements")
    order = panel["transformations"][1]["options"]["indexByName"]
    assert (order["query"], order["queryid"]) == (0, 1)
    assert override(panel, "queryid")["unit"] == "string"
    assert override(panel, "calls")["decimals"] == 0
    assert panel["options"]["sortBy"] == [{"displayName": "time", "desc": True}]


def test_matrix_shows_what_matters_on_a_laptop() -> None:
    panel = titled("matrix", "Cells")
    widths = {
        one["matcher"]["options"]: override(panel, one["matcher"]["options"]).get("custom.width", 0)
        for one in panel["fieldConfig"]["overrides"]
    }
    wanted = {"cell_id", "status", "RPS", "P95", "errors", "conn/rq", "wait", "pgb wait", "why"}
    assert wanted | {"DB", "app", "pgb"} <= set(widths)
    assert sum(widths.values()) + 100 <= 24 * COLUMN_PX - FRAME_PX
    (mapping,) = override(panel, "status")["mappings"]
    assert {n: o["color"] for n, o in mapping["options"].items()} == {
        "accepted": "green",
        "rejected": "red",
    }


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
