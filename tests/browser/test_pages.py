"""The snapshot and the report in a real browser, opened as files."""

from __future__ import annotations

import json

import pytest

from lab.snapshot import dashboards

UIDS = [d.uid for d in dashboards.load()]

#: Panels without anything drawn in them, by title.
UNDRAWN = """
() => [...document.querySelectorAll('.dashboard:not([hidden]) .panel, main > section .panel')]
  .filter((panel) => !panel.closest('details:not([open])'))
  .filter((panel) => {
    const canvas = panel.querySelector('canvas');
    if (canvas) {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return !data.some((v, n) => n % 4 === 3 && v > 0);
    }
    return !panel.querySelector('.stat-value, .bar, td, .is-text p, .panel-body li, .panel-body p')
      || panel.querySelector('.nothing, .failed');
  }).map((panel) => panel.querySelector('h3').textContent)
"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
WAIT_DRAWN = "() => Poolscope.charts.size > 0 && [...Poolscope.charts].every((c) => c.u.status)"


@pytest.mark.parametrize("uid", UIDS)
def test_every_panel_of_a_dashboard_is_drawn(visit, snapshot_url, uid):
    """Lines, heat maps, values, bars and tables, without a server and without a complaint."""
    opened = visit(snapshot_url, hash_=f"#{uid}")
    opened.draw()
    assert opened.page.evaluate(UNDRAWN) == []
    assert opened.page.locator(f'.tabs a[href="#{uid}"]').get_attribute("aria-current") == "page"


def test_panels_lead_to_the_pages_that_have_more_of_them(visit, snapshot_url):
    """Inside this file: an address of Grafana's would be a dead link."""
    opened = visit(snapshot_url, hash_="#poolscope-overview")
    lead = opened.page.locator(".dashboard:not([hidden]) .panel a.more").first
    wanted = lead.get_attribute("href").removeprefix("#")
    assert wanted in UIDS
    lead.click()
    shown = ".dashboard:not([hidden])"
    opened.until(f"document.querySelector('{shown}').dataset.uid === '{wanted}'")
    own = opened.page.locator(f"{shown} a.more[href='#{wanted}']")
    assert own.count() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_follows_the_system_s_colours_and_the_toggle(visit, snapshot_url, dark):
    opened = visit(snapshot_url, dark=dark)
    background = "getComputedStyle(document.body).backgroundColor"
    own = opened.page.evaluate(background)
    assert sum(json.loads(own.replace("rgb(", "[").replace(")", "]"))) < 384 or not dark
    seen = {own}
    for _ in range(3):
        opened.page.click("#theme")
        seen.add(opened.page.evaluate(background))
    assert len(seen) == 2
    assert opened.page.evaluate(background) == own


@pytest.mark.parametrize("which", ["snapshot", "report"])
def test_phone_shows_all_without_scrolling_sideways(visit, snapshot_url, report_url, which):
    url = snapshot_url if which == "snapshot" else report_url
    for uid in UIDS if which == "snapshot" else [""]:
        opened = visit(url, phone=True, hash_=f"#{uid}" if uid else "")
        opened.draw()
        assert opened.page.evaluate(WIDER) <= 0, uid


def test_chart_is_read_by_keyboard(visit, snapshot_url):
    """Arrow keys move the crosshair of every chart and say the values; Escape leaves."""
    opened = visit(snapshot_url)
    opened.draw()
    opened.until(WAIT_DRAWN)
    chart = opened.page.locator(".is-timeseries .chart").first
    chart.focus()
    opened.page.keyboard.press("Home")
    first = opened.page.locator("#said").text_content()
    opened.page.keyboard.press("ArrowRight")
    second = opened.page.locator("#said").text_content()
    assert first != second
    assert "client" in second
    assert opened.page.locator(".readout").first.text_content() != ""
    opened.page.keyboard.press("Escape")
    assert opened.page.locator(".readout").first.text_content() == ""


def test_keyboard_reaches_skip_link_tabs_and_explanations(visit, snapshot_url):
    opened = visit(snapshot_url)
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.className") == "skip"
    opened.page.keyboard.press("Enter")
    assert opened.page.evaluate("document.activeElement.id") == "main"
    info = opened.page.locator(".info").first
    info.focus()
    opened.page.keyboard.press("Enter")
    assert info.get_attribute("aria-expanded") == "true"
    assert opened.page.locator(".about:visible").count() == 1


def test_everything_that_can_be_used_has_a_name(visit, snapshot_url, report_url):
    unnamed = """() => [...document.querySelectorAll('button, a, select, [tabindex="0"]')]
      .filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label')
                       || (e.labels && e.labels.length))).map((e) => e.outerHTML)"""
    for url in (snapshot_url, report_url):
        opened = visit(url)
        opened.draw()
        assert opened.page.evaluate(unnamed) == []
        assert opened.page.locator("html").get_attribute("lang") == "en"
        assert opened.page.locator("h1").count() == 1


def test_legend_hides_a_series_and_data_stays_text(visit, snapshot_url):
    opened = visit(snapshot_url)
    opened.draw()
    opened.until(WAIT_DRAWN)
    first = opened.page.locator(".is-timeseries .legend button").first
    first.click()
    assert first.get_attribute("aria-pressed") == "false"
    assert opened.page.locator(".legend b").count() == 0
    assert "</script><b>" in opened.page.locator(".is-timeseries .legend").first.text_content()


def test_dragging_looks_closer_in_every_chart(visit, snapshot_url):
    opened = visit(snapshot_url)
    opened.draw()
    opened.until(WAIT_DRAWN)
    spans = (
        "() => [...Poolscope.charts].map((c) => Math.round(c.u.scales.x.max - c.u.scales.x.min))"
    )
    whole = set(opened.page.evaluate(spans))
    opened.page.locator(".is-timeseries .chart").first.scroll_into_view_if_needed()
    box = opened.page.locator(".is-timeseries .u-over").first.bounding_box()
    middle = box["y"] + box["height"] / 2
    opened.page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=5)
    opened.page.mouse.up()
    opened.until(f"({spans})()[0] < {min(whole)}")
    closer = opened.page.evaluate(spans)
    assert max(closer) < min(whole)
    opened.page.locator(".is-timeseries .u-over").first.dblclick()
    opened.until(f"({spans})()[0] === {min(whole)}")


def test_report_draws_sorts_and_opens_cells(visit, report_url):
    opened = visit(report_url)
    opened.draw()
    assert opened.page.evaluate(UNDRAWN) == []
    head = opened.page.locator("#result table.sortable th", has_text="RPS")
    read = (
        "() => [...document.querySelectorAll('#result tbody td:nth-child(4)')]"
        ".map((td) => td.dataset.value)"
    )
    head.locator("button").click()
    found = opened.page.evaluate(read)
    assert found[-1] == ""  # what is missing comes last
    figures = [float(value) for value in found[:-1]]
    assert figures == sorted(figures)
    assert head.get_attribute("aria-sort") == "ascending"
    opened.page.locator("details.cell summary").first.click()
    opened.page.wait_for_selector("details.cell[open] canvas")


def test_print_shows_all_panels(visit, report_url):
    opened = visit(report_url)
    opened.page.emulate_media(media="print")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.page.locator(".tabs").is_hidden()
    assert opened.page.evaluate(UNDRAWN) == []


#: Value, unit, decimals, and how Grafana's units are written here.
VALUES = [
    (0.25, "s", None, "250 ms"),
    (0.0000012, "s", None, "1.2 µs"),
    (90, "s", None, "1.5 min"),
    (81.2, "ms", None, "81.2 ms"),
    (0, "s", None, "0 s"),
    (0.9995, "percentunit", None, "100%"),
    (0.00002, "percentunit", None, "<0.01%"),
    (0.083, "percentunit", None, "8.3%"),
    (12.5, "percent", 1, "12.5%"),
    (1536, "bytes", None, "1.5 KiB"),
    (2_500_000, "Bps", None, "2.5 MB/s"),
    (1234.5, "reqps", None, "1,235 req/s"),
    (25_000, "reqps", None, "25 k req/s"),
    (1_250_000, "short", None, "1.25 M"),
    (0.125, "short", 2, "0.13"),
    (3, "suffix:/s", None, "3/s"),
    (3, "suffix: tx", None, "3  tx"),
    (None, "s", None, "–"),
]


def test_units_are_written_as_people_read_them(visit, snapshot_url):
    page = visit(snapshot_url).page
    write = "([v, u, d]) => Poolscope.format.text(v, u, d)"
    found = [page.evaluate(write, [value, unit, places]) for value, unit, places, _ in VALUES]
    assert found == [text for *_, text in VALUES]
