"""Alerts: made of signals that exist, tested by promtool, and each with a page that is right."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import jinja2
import pytest

from apps.common.metrics import BUCKETS
from lab.config import load_preset, plan
from lab.settings import TOGGLES, build
from monitoring.alert import Alert
from monitoring.alerts import ALERTS
from monitoring.rules import ALERTS_FILE, RULES_FILE, render_alerts
from monitoring.signals import BY_NAME, SIGNALS
from monitoring.slo import LATENCY_TARGET_S

from .runbook_pages import INDEX, PAGES, benches, links, queries, toggles

ROOT = Path(__file__).parents[2]
TESTS = (ALERTS_FILE.parents[1] / "tests" / "alerts.yml").read_text()
#: The slugs of the verdicts: each has a page, with or without an alert.
VERDICTS = frozenset(
    (
        *("connection-set-up", "service-pool", "pgbouncer-pool", "pgbouncer-cpu", "database-cpu"),
        *("database-locks", "database-wal-or-io", "max-connections", "service-cpu"),
        *("workers-or-backlog", "load-generator-or-host", "not-saturated", "several", "unclear"),
    )
)
SECTIONS = ("Meaning", "Confirm", "Change", "See that it worked", "Often mistaken for it")
#: In capitals, and no toggle.
WORDS = {"RPS", "SQL", "WAL", "IO", "DB", "LIKE"}

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def recorded(text: str) -> set[str]:
    """Return the names of the recorded series that a text mentions."""
    return set(re.findall(r"poolscope:(\w+)", text))


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool, which tests/conftest.py has found or fetched."""
    command = [os.environ["PROMTOOL"], *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# --- the rules -----------------------------------------------------------------------------------


def test_alerts_file_is_what_the_alerts_make() -> None:
    """To make it again: python -m monitoring.rules."""
    assert ALERTS_FILE.read_text() == render_alerts()


def test_alert_names_are_unique() -> None:
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)


@each_alert
def test_alert_reads_signals_that_exist(alert: Alert) -> None:
    assert recorded(alert.expr) <= set(BY_NAME)
    assert recorded(alert.expr)
    assert recorded(alert.summary) <= set(BY_NAME)


@each_alert
def test_alert_says_numbers_or_names_and_where_its_threshold_is_from(alert: Alert) -> None:
    assert "$value" in alert.summary or "$labels" in alert.summary or "query" in alert.summary
    assert alert.source not in ("", "None")


@each_alert
def test_alert_fires_within_a_short_window(alert: Alert) -> None:
    """The rates look back 10 s; a window may last no longer."""
    assert 0 <= alert.for_s <= 10


@each_alert
def test_alert_divides_by_no_limit(alert: Alert) -> None:
    """0 or no series means unlimited there; the only divisor is a rate, and it is kept above 0."""
    guarded = r" / \(avg_over_time\(poolscope:server_requests_per_second\[\w+\]\) > 0\)"
    assert "/" not in re.sub(guarded, "", alert.expr)


@each_alert
def test_alert_has_a_promtool_test_for_each_case(alert: Alert) -> None:
    """It fires, waits, does not fire at its threshold, and says nothing without data."""
    assert len(re.findall(rf"alertname: {alert.name}\b", TESTS)) == 4


def test_signal_with_a_threshold_alerts_at_its_own() -> None:
    """An alert that compares with a number has that of the signal, where the signal has one."""
    for alert in ALERTS:
        for name, number in re.findall(r"poolscope:(\w+)(?:{[^}]*})? [<>] ([\d.]+)", alert.expr):
            threshold = BY_NAME[name].threshold
            if threshold is not None and name != "samples_missing_ratio":
                assert float(number) == threshold, alert.name


def test_latency_target_is_a_bound_of_the_buckets() -> None:
    """Between two bounds nobody could say how many requests were in time."""
    assert LATENCY_TARGET_S in BUCKETS


def test_prometheus_loads_both_files(tmp_path: Path) -> None:
    """The pattern that the stacks give as rule_files finds signals and alerts."""
    template = jinja2.Template((ALERTS_FILE.parents[1] / "prometheus.yml").read_text())
    config = tmp_path / "prometheus.yml"
    config.write_text(
        template.render(
            scrape_interval_s={"service": 2},
            evaluation_interval_s=2,
            targets={"service": []},
            rule_files=[str(ALERTS_FILE.parent / "*.yml")],
        )
    )
    done = promtool("check", "config", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout
    assert f"{len(SIGNALS)} rules found" in done.stdout
    assert RULES_FILE.parent == ALERTS_FILE.parent


# --- the pages -----------------------------------------------------------------------------------


@each_alert
def test_alert_has_a_page_that_names_it(alert: Alert) -> None:
    page = ROOT / alert.runbook
    assert f"`{alert.name}`" in page.read_text().split("## Meaning")[0]


def test_every_page_is_of_an_alert_or_a_verdict_and_in_the_index() -> None:
    slugs = {page.stem for page in PAGES}
    assert slugs == VERDICTS | {alert.page for alert in ALERTS}
    assert set(links(INDEX)) == {f"{slug}.md" for slug in slugs}
    for alert in ALERTS:
        (row,) = (r for r in INDEX.read_text().splitlines() if r.startswith(f"| [{alert.page}]"))
        assert f"`{alert.name}`" in row


@each_page
def test_page_has_its_sections_one_query_and_links_that_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == SECTIONS
    confirm = text.split("## Confirm")[1].split("## ")[0]
    assert "```promql" in confirm or "```sql" in confirm
    for target in links(page):
        assert (page.parent / target).is_file(), target
    assert page.name not in links(page)


@each_page
def test_page_names_toggles_and_values_that_exist(page: Path) -> None:
    for name, value in toggles(page):
        if name in WORDS:
            continue
        assert name in TOGGLES, name
        if value:
            build({name: value})


@each_page
def test_page_gives_commands_that_can_be_planned(page: Path) -> None:
    for words in benches(page):
        preset = load_preset(words.pop("PRESET", "quick"))
        assert plan(preset, {}, {name: (v, "command line") for name, v in words.items()}).cells


@each_page
def test_page_mentions_signals_that_exist(page: Path) -> None:
    text = page.read_text()
    assert recorded(text) <= set(BY_NAME)
    assert "poolscope:" in text


def test_queries_of_the_pages_are_promql(tmp_path: Path) -> None:
    """Promtool parses each as a rule; test_alerts.py asks a real Prometheus."""
    rules = ["groups:\n  - name: pages\n    rules:"]
    for page in PAGES:
        for query in queries(page, "promql"):
            rules.append(f"      - record: page\n        expr: |\n          {query.strip()}")
            rules.append(f"        labels: {{page: {page.stem}, query: '{len(rules)}'}}")
    path = tmp_path / "pages.yml"
    path.write_text("\n".join(rules) + "\n")
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
