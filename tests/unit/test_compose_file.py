"""docker-compose.yml: every toggle with its default, and what is generated for it."""

from __future__ import annotations

import re

import pytest

from apps.common.settings import ServiceSettings
from database import hba
from lab.env_file import _text
from lab.images import offline
from lab.paths import ROOT
from lab.settings import SECRET_FIELDS, TOGGLES
from lab.stack.images import BASE, OWN
from monitoring import compose

TEXT = (ROOT / "docker-compose.yml").read_text()
#: Variables that are no toggles: the lab's own, and compose's.
OWN_VARIABLES = {
    *("COMPOSE_PROJECT_NAME", "RESTART", "HEALTH_INTERVAL", "STATE_DIR", "DEBIAN_IMAGE"),
    *("DB_CPUS_AT_START", "APP_CPUS_AT_START", "PGBOUNCER_CPUS_AT_START"),
    *("PROMETHEUS_STORE", "PROMETHEUS_RETENTION", "PROMETHEUS_CONFIG"),
    *("LOCUST_UID", "LOCUST_GID", "LOCUST_DIR", "LOCUST_WORKERS", "LOCUST_RUN_TIME"),
}
DEFAULTS = dict(re.findall(r"\$\{(\w+):-([^${}]*)\}", TEXT))
USED = set(re.findall(r"\$\{(\w+)", TEXT))


def section(name: str) -> str:
    """Return the text of a top-level part or a service."""
    found = re.search(rf"^((?:  )?){name}:.*\n((?:\1 +.*\n|\n)*)", TEXT, re.MULTILINE)
    assert found, name
    return found[2]


def test_every_variable_is_a_toggle_with_its_default():
    """A default that stands in two places is the same in both."""
    assert USED - set(TOGGLES) == OWN_VARIABLES
    for name, default in DEFAULTS.items():
        if name in TOGGLES:
            assert default == _text(TOGGLES[name].default), name


def test_each_of_our_servers_has_the_token_that_prometheus_asks_for():
    """Without it no sample would be taken."""
    for name in ("x-service-environment", "exporter", "locust-master"):
        assert f"  POOLSCOPE_START_TOKEN: {compose.START_TOKEN}\n" in section(name), name
    assert compose.CONFIG_FILE.read_text().count(f'regex: "{compose.START_TOKEN}/(.+)"') == 3


def test_secrets_have_no_default_and_say_what_to_do():
    """A missing password stops compose with the next step; none is in the file."""
    secrets = {name.upper() for name in SECRET_FIELDS}
    assert secrets <= USED
    assert not secrets & set(DEFAULTS)
    for name in secrets:
        uses = re.findall(rf"\$\{{{name}[^}}]*\}}", TEXT)
        assert all(":?run `make setup`" in use for use in uses), name


def test_service_and_pgbouncer_get_every_toggle_of_theirs():
    """No toggle is lost on the way into a container."""
    service = section("x-service-environment")
    for name in ServiceSettings.model_fields:
        assert f"  {name.upper()}: ${{{name.upper()}:-" in service, name
    bouncer = section("pgbouncer")
    for name in TOGGLES:
        setting = not name.endswith(("_CPUS", "_PORT", "_IMAGE", "_PASSWORD"))
        if name.startswith("PGBOUNCER_") and setting:
            assert f"{name}: ${{{name}" in bouncer, name


def test_a_service_does_not_wait_for_names_that_are_gone():
    """Without it a killed PgBouncer's name was looked for elsewhere for 10 s, and no 503 came."""
    assert 'dns_opt: ["timeout:1", "attempts:1"]' in section("x-service")


def test_ports_are_published_on_loopback_only():
    """Nothing listens on an address that others can reach."""
    published = re.findall(r"(\S*)\$\{\w+_PORT:-\d+\}:\d+", TEXT)
    assert len(published) >= 12
    assert {place.lstrip('["') for place in published} == {"127.0.0.1:"}


def test_the_images_are_those_that_can_be_built_offline():
    """Both lists name the same variables."""
    images = {name for name in TOGGLES if name.endswith("_IMAGE")}
    assert set(offline.variables()) == images - {"GRAFANA_IMAGE"}
    assert set(OWN) | {BASE} < images


def test_prometheus_configuration_is_generated():
    """`python -m monitoring.compose` makes it from the native stack's template."""
    assert compose.CONFIG_FILE.read_text() == compose.render()


@pytest.mark.parametrize("method", hba.AUTH_METHODS)
def test_hba_files_are_generated(method):
    """`python -m database.hba` makes them from the native stack's template."""
    assert (hba.FOLDER / f"{method}.conf").read_text() == hba.render(method)


def test_locust_is_started_alike_on_both_stacks():
    """The load's own options are the same."""
    from lab.load import locust_command

    native = locust_command("python", "f", "h", 1, 1, 1, stop_timeout_s=75, csv_prefix="c")
    options = {word.partition("=")[0] for word in native if word.startswith("--")}
    master = section("locust-master")
    assert not [option for option in options if f"- {option}" not in master]
    assert "--stop-timeout=75" in master
