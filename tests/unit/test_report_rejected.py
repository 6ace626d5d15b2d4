"""Figures of rejected cells: shown and marked everywhere, reckoned with nowhere."""

from __future__ import annotations

import re

import pytest

from lab.ladder import markdown as ladder_markdown
from lab.ladder import summary as ladder_summary
from lab.ladder import web as ladder_web
from lab.report import groups, markdown, table, web, web_panels, web_tables, wording
from lab.results import Run
from tests.unit import ladder_records
from tests.unit.report_records import manifest, measurement, record

REASON = ("CPU steal was 2.0%",)


def view_of(*cells):
    return groups.view(manifest(list(cells)), list(cells))


@pytest.fixture
def view():
    """One combination of each kind: accepted, rejected, some rejected, nothing measured."""
    return view_of(
        record("fastapi", measured=measurement(rps=100.0, p95_ms=50.0, db_cpu=0.5)),
        record("django", reasons=REASON, measured=measurement(rps=9000.0, p95_ms=1.0, db_cpu=0.9)),
        record("flask", measured=measurement(rps=200.0, p95_ms=40.0, db_cpu=0.4)),
        record("flask", repetition=2, reasons=REASON, measured=measurement(rps=7000.0, p95_ms=2.0)),
        record("flask", "pgbouncer", reasons=REASON),
    )


def row_of(found, *words):
    """Return the cells of the one row that begins with these words, by heading."""
    rows = [r for r in found.rows if [c.text for c in r[: len(words)]] == list(words)]
    assert len(rows) == 1
    return dict(zip(found.headings, rows[0], strict=True))


def test_matrix_marks_what_only_rejected_cells_read(view):
    django = row_of(web_tables.matrix(view), "Django")
    assert (django["RPS"].text, django["RPS"].kind) == ("9,000†", "doubted")
    assert (django["DB CPU"].text, django["status"].text) == ("90%†", "rejected")
    assert django["pool wait ms"].text == wording.MISSING
    assert django["PgBouncer CPU"].text == wording.NOT_IN_PATH
    assert wording.DOUBT in web_tables.matrix(view).note


def test_matrix_shows_accepted_cells_alone_where_there_are_any(view):
    flask = row_of(web_tables.matrix(view), "Flask", "direct")
    assert (flask["RPS"].text, flask["RPS"].value, flask["RPS"].kind) == ("200", 200.0, "")
    assert flask["status"].text == "1 of 2 rejected"
    nothing = row_of(web_tables.matrix(view), "Flask", "pgbouncer")
    assert (nothing["RPS"].text, nothing["RPS"].kind) == (wording.MISSING, "")


def test_rejected_figures_are_in_no_order_headline_or_ratio(view):
    """Without a value, a column that is sorted by has them at its end."""
    assert row_of(web_tables.matrix(view), "Django")["RPS"].value is None
    shown = [" ".join(line) for line in web.headlines(view)]
    assert not any("9,000" in line or "7,000" in line or "Django" in line for line in shown)
    pair = view_of(
        record(route="direct", reasons=REASON, measured=measurement(rps=100.0)),
        record(route="pgbouncer", measured=measurement(rps=300.0)),
    )
    found = row_of(web_tables.changes(pair), "FastAPI")
    assert (found["RPS direct"].text, found["RPS through PgBouncer"].text) == ("100†", "300")
    assert (found["RPS ratio"].text, found["pairs"].text) == (wording.MISSING, "0")


def test_other_tables_show_rejected_cells_too(view):
    for made in (web_tables.latency(view), web_tables.processors(view)):
        assert [r[0].text for r in made.rows] == ["FastAPI", "Django", "Flask"]
    assert row_of(web_tables.processors(view), "Django")["PostgreSQL"].text == "90%†"


def test_bars_show_and_tell_rejected_cells(view):
    panel = web_panels.bars(view, web_panels.OVERVIEW)[0]
    _, direct = panel["tables"][0]
    assert direct["values"] == [100.0, 9000.0, 200.0]
    assert direct["rejected"] == [False, True, False]
    assert panel["options"]["notes"] == ["", "direct rejected", "pgbouncer rejected"]


def test_markdown_marks_rejected_figures_and_says_what_the_mark_means(view):
    text = markdown.render(view, [])
    assert "| Django | direct | 10 | 0 | 9,000† |" in text
    assert wording.DOUBT in text
    close = text.split("How close")[1].split("## ")[0]
    assert "9,000" not in close
    clean = markdown.render(view_of(record(measured=measurement())), [])
    assert wording.DOUBTED not in clean


def test_terminal_table_marks_rejected_figures(view):
    text = table.text(view)
    assert re.search(r"Django.* 9,000† .*rejected", text)
    assert wording.DOUBT in text
    assert wording.DOUBTED not in table.text(view_of(record(measured=measurement())))


def test_page_marks_rejected_figures_and_has_the_status_in_two_places(view, tmp_path):
    """In a column of its own, and beside the row's name for a screen too narrow for it."""
    text = web.render(Run(tmp_path / "run"), view)
    assert 'class="number doubted" data-value="" title="rejected: not to be trusted">9,000†' in text
    assert 'data-value="Django">Django<span class="badge in-first rejected">rejected</span>' in text
    assert '<td class="bad status">rejected</td>' in text
    assert text.count(wording.DOUBT) == 2  # below the matrix and the CPUs


def test_long_words_may_break_and_wide_tables_say_so():
    made = web_tables.Table(
        "x", [str(n) for n in range(8)],
        [[web_tables.Cell("x" * (30 if n in (1, 5) else 3)) for n in range(8)]], 2,
    )  # fmt: skip
    assert (made.long, made.wide) == (frozenset({1}), True)
    assert not web_tables.pairs("x", ("a", "b"), {"name": "value"}).wide


def test_ladder_marks_rungs_of_which_nothing_was_accepted():
    """A rejected rung has its figures and no ratio; a second, accepted measurement drops them."""
    lost = {"status": "rejected", "reject_reasons": ["the generator was busy"]}
    records = [
        ladder_records.record("1", ladder_records.measured(100.0)),
        ladder_records.record("2-B", ladder_records.measured(5000.0), **lost),
        ladder_records.record("2-C", ladder_records.measured(700.0)),
        ladder_records.record("2-C", ladder_records.measured(9000.0), cell_id="2-C-r2", **lost),
        ladder_records.record("3-A", **lost),
    ]
    view = ladder_summary.ladder(ladder_records.manifest("1", "2-B", "2-C", "3-A"), records)
    text = ladder_markdown.render(view, [])
    assert "| `2-B` | method of 2-B | 5,000† | n/a | n/a |" in text
    assert "| `2-C` | method of 2-C | 700 | 7.00x | n/a |" in text
    assert "| `3-A` | method of 3-A | n/a | n/a | n/a |" in text
    assert wording.DOUBT in text
    page = ladder_web.render(view, {})
    assert 'title="rejected: not to be trusted">5,000†' in page
    assert '<td class="bad status">rejected</td>' in page
    assert view.best().name == "2-C"
