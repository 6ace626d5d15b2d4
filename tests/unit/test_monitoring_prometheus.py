"""Prometheus's configuration and rules, as promtool reads them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import jinja2
import pytest

from monitoring.rules import RULES_FILE
from monitoring.signals import EVALUATION_INTERVAL_S, SCRAPE_INTERVAL_S

ROOT = Path(__file__).parents[2]
FOLDER = RULES_FILE.parents[1]


@pytest.fixture(scope="module")
def promtool() -> str:
    """Promtool, which tests/conftest.py has found or fetched."""
    return os.environ["PROMTOOL"]


def render(**changed: object) -> str:
    values: dict[str, object] = {
        "scrape_interval_s": SCRAPE_INTERVAL_S,
        "evaluation_interval_s": EVALUATION_INTERVAL_S,
        "targets": {job: ["127.0.0.1:1234"] for job in SCRAPE_INTERVAL_S} | {"locust": []},
        "rule_files": [str(RULES_FILE)],
        "start_token": "c0ffee00",
        "instances": {"postgres": "postgres_exporter-1795192316000"},
        "paths": {"postgres": "/metrics/c0ffee00"},
    }
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    template = environment.from_string((FOLDER / "prometheus.yml").read_text())
    return template.render(values | changed)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_config_is_valid(promtool: str, tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text(render())
    done = run(promtool, "check", "config", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout


def test_config_has_every_job_and_no_label_of_its_own() -> None:
    text = render()
    for job in SCRAPE_INTERVAL_S:
        assert f"job_name: {job}\n" in text
    assert "    labels:" not in text
    assert " target_label: instance" in text


def test_config_needs_every_value() -> None:
    with pytest.raises((jinja2.UndefinedError, TypeError)):
        render(targets={})


def test_rules_pass_promtools_tests(promtool: str) -> None:
    done = run(promtool, "test", "rules", *map(str, sorted((FOLDER / "tests").glob("*.yml"))))
    assert done.returncode == 0, done.stdout + done.stderr
