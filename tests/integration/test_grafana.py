"""The native stack's Grafana: no real one can be fetched here, so a stand-in takes its place.

It does what the stack relies on: it reads its environment and arguments, refuses to start without
its own files and the provisioned ones, and answers /api/health.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.errors import ConfigError
from lab.settings import build
from lab.stack import grafana
from lab.stack.home import Home

from .conftest import Lab

STAND_IN = """#!{python}
import http.server, json, os, pathlib, sys
if sys.argv[1:2] != ["server"] or sys.argv[2] != "--homepath":
    sys.exit("not started as Grafana is: " + str(sys.argv))
(pathlib.Path(sys.argv[3]) / "conf" / "defaults.ini").read_text()
provisioning = pathlib.Path(os.environ["GF_PATHS_PROVISIONING"])
source = (provisioning / "datasources" / "prometheus.yml").read_text()
(provisioning / "dashboards" / "poolscope.yml").read_text()
(pathlib.Path(os.environ["GF_PATHS_DATA"]) / "grafana.db").touch()
shown = {{
    "source": os.path.expandvars(source),
    "dashboards": sorted(os.listdir(os.environ["DASHBOARDS_FOLDER"])),
    "environment": dict(os.environ),
}}
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in ("/api/health", "/shown") else 404)
        self.end_headers()
        self.wfile.write(json.dumps(shown).encode())
address = os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"])
http.server.HTTPServer(address, Answer).serve_forever()
"""


def install(folder: Path, text: str, name: str = "grafana") -> Path:
    """Make a folder that looks like an unpacked Grafana."""
    (folder / "bin").mkdir(parents=True)
    (folder / "conf").mkdir()
    (folder / "conf" / "defaults.ini").touch()
    program = folder / "bin" / name
    program.write_text(text.format(python=sys.executable))
    program.chmod(0o755)
    return folder


@pytest.fixture
def without_grafana(lab: Lab) -> Iterator[None]:
    """Take Grafana out of the session's stack again."""
    before = lab.stack.grafana
    yield
    lab.stack._stop(grafana.NAME)
    lab.stack.grafana = before


def test_grafana_of_the_host_shows_the_stacks_prometheus(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_grafana: None
) -> None:
    """It gets provisioning, address, password and folder of the stack, and nothing of the host."""
    monkeypatch.setenv("GRAFANA_HOME", str(install(tmp_path / "grafana", STAND_IN)))
    lab.stack.grafana = grafana.find()
    settings, endpoints = lab.start()
    assert endpoints.grafana is not None
    shown: dict[str, Any] = httpx.get(f"{endpoints.grafana}/shown", trust_env=False).json()
    environment = shown["environment"]
    assert f"url: {endpoints.prometheus}\n" in shown["source"]
    assert "poolscope-overview.json" in shown["dashboards"]
    assert environment["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    password = settings.grafana_admin_password.get_secret_value()
    assert len(password) > 20
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == password
    data = lab.stack.home.root / "data" / "grafana"
    assert Path(environment["GF_PATHS_DATA"]) == data
    assert (data / "grafana.db").is_file()
    assert "POSTGRES_PASSWORD" not in json.dumps(environment)


def test_run_goes_on_without_a_grafana_that_does_not_start(
    lab: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    without_grafana: None,
) -> None:
    """Dashboards are no part of what is measured; its own last words say why."""
    broken = "#!{python}\nimport sys\nsys.exit('no such theme')\n"
    monkeypatch.setenv("GRAFANA_HOME", str(install(tmp_path / "grafana", broken)))
    lab.stack.grafana = grafana.find()
    _, endpoints = lab.start()
    assert endpoints.grafana is None
    assert endpoints.prometheus is not None
    assert "no dashboards" in caplog.text
    assert "no such theme" in caplog.text
    assert grafana.NAME not in lab.stack.ended()


def test_grafana_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install(tmp_path / "grafana", STAND_IN, "grafana-server")
    monkeypatch.delenv("GRAFANA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}/usr/bin")
    found = grafana.find()
    assert found == grafana.Grafana(folder / "bin" / "grafana-server", folder)


@pytest.mark.parametrize("kept_in", ["home", "package"])
def test_grafana_of_a_package_finds_the_plugins_that_came_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_in: str
) -> None:
    """Without them, Grafana 13.2 has no Prometheus data source."""
    folder = install(tmp_path / "grafana", STAND_IN)
    packaged = tmp_path / "plugins-bundled"
    packaged.mkdir()
    monkeypatch.setattr(grafana, "PACKAGED_PLUGINS", packaged)
    if kept_in == "home":
        (folder / "data" / "plugins-bundled").mkdir(parents=True)
    found = grafana.Grafana(folder / "bin" / "grafana", folder)
    command = grafana.command(found, Home(tmp_path / "lab"), build({}))
    expected = str(packaged) if kept_in == "package" else None
    assert command.env.get("GF_PATHS_BUNDLED_PLUGINS") == expected
    assert command.env["GF_PLUGINS_PREINSTALL_AUTO_UPDATE"] == "false"


def test_host_without_grafana_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GRAFANA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert grafana.find() is None


def test_grafana_home_without_grafana_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRAFANA_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=f"GRAFANA_HOME={tmp_path} has no bin/grafana"):
        grafana.find()
