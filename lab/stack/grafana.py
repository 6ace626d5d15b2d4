"""Grafana for the native stack, where the host has one: it is in no Debian release.

What it shows comes from monitoring/grafana, as in compose: data source and dashboards are
provisioned by file, so that they are there on first start with no click.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab.errors import ConfigError
from lab.paths import ROOT
from lab.settings import Settings
from lab.stack import servers
from lab.stack.home import Home
from lab.stack.process import Command

NAME = "grafana"
FOLDER = ROOT / "monitoring" / "grafana"
#: The first start makes its database: that takes a throttled machine long.
READY_S = 120
#: The program that takes `server` as its first word, and the one that older releases have.
PROGRAMS = ("grafana", "grafana-server")
PACKAGED_HOME = Path("/usr/share/grafana")
#: Where packages of 13.2 and later keep the plugins that come with Grafana, its Prometheus data
#: source among them; their service unit says so, and nothing in PACKAGED_HOME does.
PACKAGED_PLUGINS = Path("/var/lib/grafana/plugins-bundled")


@dataclass(frozen=True)
class Grafana:
    """A Grafana of the host: its program, and the folder with its `conf` and `public`."""

    program: Path
    home: Path


def find() -> Grafana | None:
    """Return the host's Grafana: GRAFANA_HOME's, else the one on the path.

    Raises ConfigError where GRAFANA_HOME is set and has none.
    """
    if chosen := os.environ.get("GRAFANA_HOME"):
        folder = Path(chosen)
        for name in PROGRAMS:
            if (program := folder / "bin" / name).is_file() and _complete(folder):
                return Grafana(program, folder)
        raise ConfigError(
            f"GRAFANA_HOME={chosen} has no bin/grafana with conf/defaults.ini; name the folder "
            "that Grafana's archive was unpacked to, or leave it out"
        )
    for name in PROGRAMS:
        if (found := shutil.which(name)) is None:
            continue
        program = Path(found).resolve()
        for folder in (program.parent.parent, PACKAGED_HOME):
            if _complete(folder):
                return Grafana(program, folder)
    return None


def _complete(folder: Path) -> bool:
    return (folder / "conf" / "defaults.ini").is_file()


def command(found: Grafana, home: Home, s: Settings) -> Command:
    """Return Grafana's command: everything is in the environment, and no file of the host's."""
    data = home.root / "data" / "grafana"
    data.mkdir(parents=True, exist_ok=True)
    args = [str(found.program), *(["server"] if found.program.name == "grafana" else [])]
    args += ["--homepath", str(found.home)]
    return Command(NAME, args, {**_environment(s), **_paths(data), **_bundled(found)}, data)


def _environment(s: Settings) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PROMETHEUS_URL": f"http://{servers.HOST}:{s.prometheus_port}",
        "DASHBOARDS_FOLDER": str(FOLDER / "dashboards"),
        "GF_SERVER_HTTP_ADDR": servers.HOST,
        "GF_SERVER_HTTP_PORT": str(s.grafana_port),
        "GF_SECURITY_ADMIN_PASSWORD": s.grafana_admin_password.get_secret_value(),
        # It listens on loopback only: who is on this host may look, and nothing more.
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_USERS_ALLOW_SIGN_UP": "false",
        # Nothing is sent out or fetched.
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        "GF_PLUGINS_PREINSTALL_AUTO_UPDATE": "false",
        "GF_SECURITY_DISABLE_GRAVATAR": "true",
        "GF_SNAPSHOTS_EXTERNAL_ENABLED": "false",
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(
            FOLDER / "dashboards" / "poolscope-overview.json"
        ),
        "GF_LOG_MODE": "console",
        "GF_LOG_LEVEL": "warn",
    }


def _paths(data: Path) -> dict[str, str]:
    return {
        "HOME": str(data),
        "GF_PATHS_DATA": str(data),
        "GF_PATHS_LOGS": str(data / "log"),
        "GF_PATHS_PLUGINS": str(data / "plugins"),
        "GF_PATHS_PROVISIONING": str(FOLDER / "provisioning"),
    }


def _bundled(found: Grafana) -> dict[str, str]:
    """Return where the plugins that came with a packaged Grafana are, if not in its home."""
    if (found.home / "data" / "plugins-bundled").is_dir() or not PACKAGED_PLUGINS.is_dir():
        return {}
    return {"GF_PATHS_BUNDLED_PLUGINS": str(PACKAGED_PLUGINS)}


def url(s: Settings) -> str:
    """Return Grafana's address."""
    return f"http://{servers.HOST}:{s.grafana_port}"
