"""What a panel's options ask for, from Grafana's model to what the page draws."""

from __future__ import annotations

from typing import Any

import pytest

from lab import page
from lab.files import write_atomic
from lab.snapshot import view
from lab.snapshot.dashboards import Dashboard
from lab.snapshot.frames import Column, DashboardData, PanelData, Series, Span, Table
from tests.browser.conftest import url_of

OVER = Span(1.79e9, 1.79e9 + 99 * 2, 2)
STATUS = {
    "type": "value",
    "options": {
        "accepted": {"text": "accepted", "color": "green"},
        "rejected": {"text": "rejected", "color": "red"},
    },
}
NOT_DUE = {"type": "value", "options": {"-1": {"text": "not due", "color": "gray"}}}


def opened_with(visit, folder, *panels, data=None, marks=None):
    """Open a page of one dashboard with these panels."""
    board = Dashboard({"uid": "x", "title": "X", "panels": list(panels)})
    found = view.dashboard(board, DashboardData(data or {}), OVER) | {"marks": marks or []}
    path = folder / "page.html"
    text = page.render("dashboards.html.j2", "X", {"name": "X", "dashboards": [found]})
    write_atomic(path, text)
    opened = visit(url_of(path))
    opened.draw()
    return opened


def text_panel(content: str) -> dict[str, Any]:
    place = {"x": 0, "y": 1, "w": 12, "h": 8}
    return {
        "id": 1,
        "type": "text",
        "title": "T",
        "gridPos": place,
        "options": {"content": content},
    }


@pytest.fixture
def show(visit, tmp_path):
    """Return a function that opens a page with one panel."""

    def make(kind: str, data: PanelData, *, marks: list[dict[str, Any]] | None = None,
             options: dict[str, Any] | None = None, overrides: list[Any] | None = None,
             w: int = 12, **defaults: Any):  # fmt: skip
        panel = {
            "id": 1, "type": kind, "title": "Panel", "gridPos": {"x": 0, "y": 0, "w": w, "h": 8},
            "options": options or {},
            "fieldConfig": {"defaults": defaults, "overrides": overrides or []},
        }  # fmt: skip
        return opened_with(visit, tmp_path, panel, data={1: data}, marks=marks)

    return make


def line(name: str, *values: float | None) -> Series:
    return Series("A", name, {}, tuple(values[n % len(values)] for n in range(OVER.points)))


def lines(**values: float) -> PanelData:
    return PanelData(tuple(line(name, value) for name, value in values.items()))


def rows(**columns: tuple[Any, ...]) -> PanelData:
    kinds = {n: "string" if isinstance(v[0], str) else "number" for n, v in columns.items()}
    made = tuple(Column(n, kinds[n], v) for n, v in columns.items())
    return PanelData(tables=(Table("A", made),), instant=True)


def by_name(name: str, **properties: Any) -> dict[str, Any]:
    items = [{"id": key.replace("__", "."), "value": v} for key, v in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": items}


# --- one value -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "text"), [({}, "-"), ({"noValue": "nothing runs"}, "nothing runs")]
)
@pytest.mark.parametrize("data", [PanelData(), PanelData((line("a", None),))])
def test_stat_without_a_value_says_so_as_large_as_a_value(show, data, said, text):
    opened = show("stat", data, unit="reqps", **said)
    assert opened.page.locator(".stat-value").all_text_contents() == [text]
    assert opened.page.locator(".nothing").count() == 0


def test_stat_of_a_mapped_number_has_its_words(show):
    opened = show("stat", lines(a=-1.0), mappings=[NOT_DUE])
    assert opened.page.locator(".stat-value").text_content() == "not due"


# --- tables --------------------------------------------------------------------------------------


def test_table_without_rows_says_what_that_means(show):
    opened = show("table", PanelData(), noValue="none firing")
    assert opened.page.locator(".nothing").text_content() == "none firing"


def test_table_maps_words_and_numbers_to_words_and_colours(show):
    data = rows(cell=("a", "b"), status=("accepted", "rejected"), up=(1.0, -1.0))
    opened = show("table", data, overrides=[by_name("status", mappings=[STATUS]),
                                            by_name("up", mappings=[NOT_DUE])])  # fmt: skip
    tone = "(e) => e.style.getPropertyValue('--tone')"
    colors = [e.evaluate(tone) for e in opened.page.locator("td.status").all()]
    wanted = opened.page.evaluate("[Poolscope.variable('good'), Poolscope.variable('bad')]")
    assert colors == wanted
    up = opened.page.locator("td.number")
    assert up.all_text_contents() == ["1", "not due"]
    grey = opened.page.evaluate("Poolscope.color('gray')")
    assert [e.evaluate(tone) for e in up.all()] == ["", grey]


def test_table_shows_a_number_of_unit_string_as_it_is(show):
    opened = show("table", rows(queryid=(1234567.0,), calls=(1234567.0,)),
                  overrides=[by_name("queryid", unit="string")])  # fmt: skip
    assert opened.page.locator("td").all_text_contents() == ["1234567", "1.23 M"]


def test_table_hides_hidden_columns_and_begins_in_the_order_asked_for(show):
    data = rows(name=("a", "b", "c"), time=(1.0, None, 3.0), secret=("x", "y", "z"))
    opened = show("table", data, options={"sortBy": [{"displayName": "Zeit", "desc": True}]},
                  overrides=[by_name("secret", custom__hidden=True),
                             by_name("time", displayName="Zeit")])  # fmt: skip
    assert opened.page.locator("th").all_text_contents() == ["name", "Zeit"]
    # What is missing comes last, whichever way.
    assert opened.page.locator("td:first-child").all_text_contents() == ["c", "a", "b"]
    opened.page.locator("th button").first.click()
    assert opened.page.locator("td:first-child").all_text_contents() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("${__data.fields.runbook}", "https://example.org/ServiceThrottled.md"),
        ('${__data.fields["runbook"]}', "https://example.org/ServiceThrottled.md"),
        ("https://example.org/?q=${__value.raw}", "https://example.org/?q=ServiceThrottled"),
        ("/d/poolscope-database?var-run=${__value.raw}", None),
        ("javascript:alert(1)", None),
        ("${__data.fields.other}", None),
    ],
)
def test_table_leads_to_the_web_only(show, url, address):
    """An address that holds inside Grafana alone would be a dead link here: text."""
    data = rows(alert=("ServiceThrottled",), runbook=("https://example.org/ServiceThrottled.md",),
                other=("javascript:alert(1)",))  # fmt: skip
    opened = show("table", data, overrides=[by_name("alert", links=[{"title": "x", "url": url}])])
    cell = opened.page.locator("td").first
    assert cell.text_content() == "ServiceThrottled"
    found = cell.locator("a").get_attribute("href") if cell.locator("a").count() else None
    assert found == address


@pytest.mark.parametrize("w", [6, 8])
def test_alerts_fit_a_quarter_of_a_laptop(show, w):
    data = rows(
        severity=("critical", "info"), alert=("ConnectionsNearlyUsed", "LatencyBudgetBurnsFast"),
        state=("firing", "pending"), runbook=("load-generator-or-host", "connection-set-up"),
    )  # fmt: skip
    opened = show("table", data, w=w)
    over = "(e) => e.scrollWidth - e.clientWidth"
    assert opened.page.locator(".scroller").evaluate(over) <= 0
    assert opened.page.locator("td").all_text_contents()[1] == "ConnectionsNearlyUsed"


def test_table_breaks_names_where_their_parts_meet_and_never_a_figure(show):
    data = rows(name=("poolscope:requests_perSecond",), calls=(81234.5,))
    opened = show("table", data)
    assert opened.page.locator("td").first.inner_html() == (
        "poolscope:<wbr>requests_<wbr>per<wbr>Second"
    )
    assert opened.page.locator("td.number wbr").count() == 0


@pytest.mark.parametrize("names", [("cell", "status"), ("status", "cell")])
def test_status_is_seen_on_a_phone_in_the_first_cell_or_as_it(show, names):
    values = {"cell": ("a", "b"), "status": ("accepted", "rejected")}
    opened = show("table", rows(**{name: values[name] for name in names}))
    opened.page.set_viewport_size({"width": 390, "height": 844})
    seen = "() => [...document.querySelectorAll('tbody tr')].map((r) => r.innerText)"
    found = opened.page.evaluate(seen)
    assert [text.count("accepted") + text.count("rejected") for text in found] == [1, 1]
    assert "a" in found[0]


# --- words and rows ------------------------------------------------------------------------------

RUNBOOK = """\
Alert `PoolWait`. See [the guide](https://example.org/guide) and [README](../README.md).
## Change
1. First, which goes
   on here.
2. Second:

   ```sql
   SELECT 1
     FROM x
   ```

3. **Third**.

- a
- b <b>not bold</b>

    make bench
"""


def test_text_panel_has_lists_code_and_links_to_the_web_only(visit, tmp_path):
    opened = opened_with(visit, tmp_path, text_panel(RUNBOOK))
    body = opened.page.locator(".is-text .panel-body")
    found = body.evaluate("(e) => [...e.children].map((c) => [c.tagName, c.innerText.trim()])")
    assert found == [
        ["P", "Alert PoolWait. See the guide and README."],
        ["H4", "Change"],
        ["OL", "First, which goes on here.\nSecond:"],
        ["PRE", "SELECT 1\n  FROM x"],
        ["OL", "Third."],
        ["UL", "a\nb <b>not bold</b>"],
        ["PRE", "make bench"],
    ]
    assert body.locator("ol").last.get_attribute("start") == "3"
    assert [a.get_attribute("href") for a in body.locator("a").all()] == [
        "https://example.org/guide"
    ]


def test_row_that_is_folded_in_grafana_is_folded_here_and_opens(visit, tmp_path):
    place = {"x": 0, "y": 0, "w": 24, "h": 1}
    row = {"id": 2, "type": "row", "title": "Runbooks", "gridPos": place, "collapsed": True,
           "panels": [text_panel("Read this.")]}  # fmt: skip
    opened = opened_with(visit, tmp_path, row)
    assert opened.page.locator(".is-text").is_hidden()
    opened.page.locator("summary", has_text="Runbooks").click()
    assert opened.page.locator(".is-text", has_text="Read this.").is_visible()


# --- charts --------------------------------------------------------------------------------------

SCALE = "(() => { const { min, max } = [...Poolscope.charts][0].u.scales.y; return [min, max]; })()"


@pytest.mark.parametrize(
    ("value", "custom", "low", "high"),
    [
        (0.0, {}, 0, 0.05),  # nothing says how much is much
        (0.0, {"axisSoftMax": 1}, 0, 1),
        (0.4, {"axisSoftMax": 1}, 0, 1),
        (1.0, {"axisSoftMax": 1}, 0, 1),
        (5.0, {"axisSoftMax": 1}, 0, 5.4),
        (0.4, {"axisSoftMax": 1, "axisSoftMin": -1}, -1, 1),
    ],
)
def test_axis_reaches_its_soft_bounds_and_beyond_where_data_does(show, value, custom, low, high):
    opened = show("timeseries", lines(a=value), unit="percentunit", custom=custom)
    opened.until("Poolscope.charts.size > 0 && [...Poolscope.charts][0].u.status === 1")
    assert opened.page.evaluate(SCALE) == pytest.approx([low, high])


@pytest.mark.parametrize(("legend", "hidden"), [({}, False), ({"showLegend": False}, True)])
def test_legend_is_hidden_where_the_panel_has_none(show, legend, hidden):
    opened = show("timeseries", lines(a=1.0), options={"legend": legend})
    assert opened.page.locator(".legend").is_hidden() is hidden


def test_stack_has_no_outline_and_nothing_of_what_is_zero_throughout(show):
    custom = {"stacking": {"mode": "normal"}, "lineWidth": 0, "fillOpacity": 70}
    opened = show("timeseries", lines(active=4.0, idle=2.0, aborted=0.0), custom=custom)
    drawn = "[...Poolscope.charts][0].u.series.slice(1).map((s) => [s.label, s.show, s.width])"
    assert opened.page.evaluate(drawn)[:2] == [["active", True, 0], ["idle", True, 0]]
    assert opened.page.evaluate(drawn)[2][:2] == ["aborted", False]


def test_line_of_width_0_is_an_area_alone(show):
    opened = show("timeseries", lines(a=4.0), custom={"lineWidth": 0, "fillOpacity": 20})
    assert opened.page.evaluate("[...Poolscope.charts][0].u.series[1].width") == 0


# --- regions -------------------------------------------------------------------------------------

#: Whether a chart's canvas is shaded at each of these moments, above the data.
SHADED = """
(moments) => {
  const { u } = [...Poolscope.charts][0];
  const { left, top, width, height } = u.bbox;
  const row = u.ctx.getImageData(left, Math.round(top + height / 2) + 7, width, 1).data;
  return moments.map((at) => row[Math.round(u.valToPos(at, 'x', true) - left) * 4 + 3] > 0);
}
"""
READ = """
(at) => {
  const [chart] = Poolscope.charts;
  chart.read(chart.u.data[0].findIndex((t) => t >= at));
  return document.getElementById('said').textContent;
}
"""
AT = OVER.start


def mark(name: str, at: list[float], text: list[str], **more: Any) -> dict[str, Any]:
    return {"name": name, "color": "blue", "at": at, "text": text, **more}


REGIONS = [mark("Windows", [AT + 20, AT + 120, AT + 190], ["first", "second", "a moment"],
                end=[AT + 100, AT + 160, None])]  # fmt: skip
#: As archives from before there were regions have it.
PAIRS = [
    mark("Window start", [AT + 20, AT + 120], ["first", "second"]),
    mark("Window end", [AT + 100, AT + 160], ["first", "second"]),
]


@pytest.mark.parametrize("marks", [REGIONS, PAIRS], ids=["regions", "pairs"])
@pytest.mark.parametrize("kind", ["timeseries", "heatmap"])
def test_regions_are_shaded_from_their_beginning_to_their_end(show, kind, marks):
    bucket = Series("A", "1", {"le": "1"}, (0.1, *(0.0,) * (OVER.points - 1)))
    data = lines(a=0.001) if kind == "timeseries" else PanelData((bucket,))
    opened = show(kind, data, marks=marks, custom={"axisSoftMax": 1})
    opened.until("Poolscope.charts.size > 0 && [...Poolscope.charts][0].u.status === 1")
    shaded = opened.page.evaluate(SHADED, [AT + t for t in (12, 32, 88, 112, 132, 148, 172)])
    assert shaded == [False, True, True, False, True, True, False]


def test_region_is_named_wherever_one_reads_in_it(show):
    opened = show("timeseries", lines(a=1.0), marks=REGIONS)
    opened.until("Poolscope.charts.size > 0 && [...Poolscope.charts][0].u.status === 1")
    assert "first" in opened.page.evaluate(READ, AT + 60)
    assert "second" in opened.page.evaluate(READ, AT + 140)
    outside = opened.page.evaluate(READ, AT + 110)
    assert "first" not in outside
    assert "second" not in outside
    assert "Windows: a moment" in opened.page.evaluate(READ, AT + 190)
