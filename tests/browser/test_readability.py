"""What can be read at first sight: on a laptop, on a phone, on paper."""

from __future__ import annotations

import pytest

from lab.files import write_atomic
from lab.ladder import summary, web
from lab.snapshot import dashboards
from tests.browser.conftest import url_of
from tests.browser.made import NAMES
from tests.unit import ladder_records

UIDS = [d.uid for d in dashboards.load()]

#: What reaches out of the box that holds it: charts, their last values, and tables.
CUT = """
() => {
  const cut = [];
  const shown = (e) => e.getClientRects().length > 0;
  for (const chart of Poolscope.charts) {
    if (!shown(chart.host)) continue;
    const panel = chart.host.closest('.panel').getBoundingClientRect();
    const canvas = chart.u.ctx.canvas.getBoundingClientRect();
    const times = chart.u.data[0];
    const last = canvas.left + (chart.u.bbox.left / devicePixelRatio)
      + chart.u.valToPos(times[times.length - 1], 'x');
    const title = chart.panel.title;
    if (canvas.right > panel.right + 1) cut.push(`${title}: ${canvas.right} of ${panel.right}`);
    if (last > canvas.right) cut.push(`${title}: last value at ${last} of ${canvas.right}`);
    if (canvas.width < panel.width * 0.8) cut.push(`${title}: ${canvas.width} wide`);
  }
  for (const table of document.querySelectorAll('table')) {
    const box = table.closest('.panel, .sheet');
    if (!shown(table) || !box) continue;
    const [own, its] = [table.getBoundingClientRect(), box.getBoundingClientRect()];
    const name = table.caption.textContent;
    if (own.right > its.right + 1) cut.push(`table ${name}: ${own.right} of ${its.right}`);
  }
  return { cut, width: document.documentElement.clientWidth, charts: Poolscope.charts.size,
           paper: getComputedStyle(document.body).backgroundColor, ink: Poolscope.variable('ink') };
}
"""
#: Looks once the page has drawn itself for paper: its own listener comes first.
WATCH_PAPER = f"""
() => matchMedia('print').addEventListener('change', (event) => {{
  if (event.matches) Promise.resolve().then(() => {{ window.onPaper = ({CUT})(); }});
}})
"""

#: Rows higher than what can be seen of them without scrolling sideways.
STRETCHED = """
() => [...document.querySelectorAll('tbody tr')].filter((row) => row.getClientRects().length)
  .filter((row) => {
    const own = row.getBoundingClientRect().height;
    const needed = [...row.cells].filter((cell) => cell.getBoundingClientRect().left < innerWidth)
      .map((cell) => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        const style = getComputedStyle(cell);
        return range.getBoundingClientRect().height + parseFloat(style.paddingTop)
          + parseFloat(style.paddingBottom);
      });
    return own > Math.max(...needed) + 12;
  }).map((row) => row.textContent)
"""
#: The words of each row's status that can be seen without scrolling sideways.
STATUSES = """
(selector) => [...document.querySelectorAll(`${selector} tbody tr`)].map((row) =>
  [...row.querySelectorAll('td.status, .in-first')].filter((e) => {
    const box = e.getBoundingClientRect();
    return box.width > 0 && box.left >= 0 && box.right <= innerWidth;
  }).map((e) => e.textContent).join(' '))
"""


def printed(opened, pdf):
    """Print a page as PDF and return what it was like on paper."""
    opened.page.evaluate(WATCH_PAPER)
    before = opened.page.evaluate(CUT)
    opened.page.pdf(path=str(pdf), format="A4")
    assert pdf.read_bytes().startswith(b"%PDF")
    found = opened.page.evaluate("window.onPaper")
    assert found["width"] < before["width"]  # laid out for the paper, no longer for the screen
    opened.until(f"document.documentElement.clientWidth === {before['width']}")
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("which", ["overview", "matrix", "report"])
def test_print_cuts_no_chart_and_no_table(visit, snapshot_url, report_url, tmp_path, which, dark):
    url = report_url if which == "report" else snapshot_url
    hash_ = "" if which == "report" else f"#poolscope-{which}"
    opened = visit(url, dark=dark, hash_=hash_)
    if dark:
        opened.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    if which == "report":
        opened.page.locator("details.cell summary").first.click()
    found = printed(opened, tmp_path / "page.pdf")
    assert found["cut"] == []
    assert found["charts"] > 0 or which == "matrix"
    assert (found["paper"], found["ink"]) == ("rgb(255, 255, 255)", "#000")
    # Back on the screen the charts have its width and colours again.
    opened.until(f"!({CUT})().cut.length")
    assert opened.page.evaluate("Poolscope.variable('ink')") != "#000"


@pytest.fixture
def ladder_url(tmp_path):
    """The page of a ladder with a rejected rung, opened as a file."""
    seconds = [{"t": 1.79e9 + n, "rows": 100.0 * n} for n in range(10)]
    lost = {"status": "rejected", "reject_reasons": ["the generator was busy"]}
    names = ("1", "2-A", "2-B", "2-C", "3-A")
    records = [
        ladder_records.record(name, ladder_records.measured(10.0 ** (n + 2), timeline=seconds),
                              **(lost if name == "2-B" else {}))
        for n, name in enumerate(names)
    ]  # fmt: skip
    text = web.render(summary.ladder(ladder_records.manifest(*names), records), {})
    write_atomic(tmp_path / "ladder.html", text)
    return url_of(tmp_path / "ladder.html")


def test_ladder_is_whole_on_paper_on_a_laptop_and_on_a_phone(visit, ladder_url, tmp_path):
    opened = visit(ladder_url)
    opened.page.locator("details.cell summary").first.click()
    opened.page.wait_for_selector("details.cell[open] canvas")
    assert opened.page.evaluate(CUT)["cut"] == []
    assert printed(opened, tmp_path / "page.pdf")["cut"] == []
    phone = visit(ladder_url, phone=True)
    assert phone.page.evaluate(STRETCHED) == []
    found = phone.page.evaluate(STATUSES, "#result")
    assert found == ["accepted", "accepted", "rejected", "accepted", "accepted"]
    assert phone.page.locator("#result td.doubted").first.text_content() == "10,000†"


@pytest.mark.parametrize("uid", UIDS)
def test_laptop_cuts_no_chart_and_no_table(visit, snapshot_url, uid):
    opened = visit(snapshot_url, hash_=f"#{uid}")
    opened.draw()
    assert opened.page.evaluate(CUT)["cut"] == []


def test_laptop_shows_every_column_of_the_report_s_result(visit, report_url):
    opened = visit(report_url)
    assert opened.page.evaluate(CUT)["cut"] == []
    found = opened.page.evaluate(STATUSES, "#result")
    assert found == ["accepted"] * (len(found) - 1) + ["rejected"]


def test_phone_has_rows_as_high_as_their_text_and_every_status(visit, snapshot_url, report_url):
    report = visit(report_url, phone=True)
    assert report.page.evaluate(STRETCHED) == []
    found = report.page.evaluate(STATUSES, "#result")
    assert found == ["accepted"] * (len(found) - 1) + ["rejected"]
    matrix = visit(snapshot_url, phone=True, hash_="#poolscope-matrix")
    matrix.draw()
    assert matrix.page.evaluate(STRETCHED) == []
    found = matrix.page.evaluate(STATUSES, ".dashboard:not([hidden]) .is-table")
    assert sorted(found) == ["accepted", "accepted", "rejected"]


def test_rejected_cells_have_marked_figures_and_come_last_in_any_order(visit, report_url):
    opened = visit(report_url)
    opened.draw()
    rps = opened.page.locator("#result table.sortable th", has_text="RPS").locator("button")
    last = opened.page.locator("#result tbody tr").last
    for _ in range(2):
        rps.click()
        assert last.locator("td.status").text_content() == "rejected"
        assert last.locator("td.doubted").first.text_content().endswith("†")
    assert "not to be trusted" in last.locator("td.doubted").first.get_attribute("title")
    bars = opened.page.locator("#result .is-barchart", has_text="100 users").first
    assert bars.locator(".bar-fill.rejected").count() == 1
    assert bars.locator(".bar-value.rejected").text_content().endswith("†")
    assert "† rejected: not to be trusted" in bars.locator(".legend").text_content()


def test_names_of_series_stay_whole_on_paper(visit, snapshot_url, tmp_path):
    """The legend is not scrolled there: all of its lines are shown."""
    opened = visit(snapshot_url)
    opened.page.emulate_media(media="print")
    opened.until("Poolscope.charts.size > 0")
    hidden = "() => [...document.querySelectorAll('.dashboard:not([hidden]) .legend')]" \
        ".filter((l) => l.scrollHeight > l.clientHeight + 2).length"  # fmt: skip
    assert opened.page.evaluate(hidden) == 0
    assert NAMES[0] in opened.page.locator(".is-timeseries .legend").first.text_content()
