"""The templates of PgBouncer's and PostgreSQL's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, StrictUndefined, UndefinedError

from lab.settings import Settings, build

ROOT = Path(__file__).resolve().parents[2]
PLACES: dict[str, Any] = {
    "database_host": "127.0.0.1",
    "database_port": 5432,
    "listen_addr": "127.0.0.1",
    "listen_port": 6432,
    "auth_file": "/run/userlist.txt",
    "logfile": "",
    "pidfile": "",
}


def render(path: str, **values: Any) -> str:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string((ROOT / path).read_text()).render(values)


def pgbouncer(version: tuple[int, int], **toggles: Any) -> dict[str, str]:
    values = PLACES | build({}).model_dump() | toggles | {"pgbouncer_version": version}
    lines = [line for line in render("pgbouncer/pgbouncer.ini", **values).splitlines() if line]
    pairs = [line.split("=", 1) for line in lines if "=" in line and not line.startswith(";")]
    return {name.strip(): value.strip() for name, value in pairs}


def test_pgbouncer_template_has_every_toggle():
    """Each toggle of the group changes its own setting, and nothing else."""
    base = pgbouncer((1, 24))
    no_setting = ("_cpus", "_port", "_image", "_password")
    names = [n for n in Settings.model_fields if n.startswith("pgbouncer_")]
    toggles = [n for n in names if not n.endswith(no_setting)]
    for name in toggles:
        changed = pgbouncer((1, 24), **{name: "other"})
        differing = {key for key in base if base[key] != changed[key]}
        assert differing == {name.removeprefix("pgbouncer_")}


def test_pgbouncer_template_knows_the_version():
    """An unknown setting stops PgBouncer before 1.21."""
    assert "max_prepared_statements" not in pgbouncer((1, 18))
    assert "max_prepared_statements" not in pgbouncer((1, 20))
    assert pgbouncer((1, 21))["max_prepared_statements"] == "200"


def test_pgbouncer_template_refuses_a_missing_name():
    with pytest.raises(UndefinedError):
        render("pgbouncer/pgbouncer.ini", **PLACES)


@pytest.mark.parametrize("method", ["scram-sha-256", "md5"])
def test_pg_hba_lets_each_role_into_its_database_only(method):
    text = render("database/pg_hba.conf", auth_method=method, addresses=["127.0.0.1/32"])
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert lines == [
        ["local", "all", "postgres", "scram-sha-256"],
        ["host", "all", "postgres", "127.0.0.1/32", "scram-sha-256"],
        ["host", "poolscope", "poolscope_service", "127.0.0.1/32", method],
        ["host", "poolscope", "poolscope_exporter", "127.0.0.1/32", method],
    ]
