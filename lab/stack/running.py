"""Where Prometheus and Grafana answer that the lab runs now, whoever started them."""

from __future__ import annotations

import json
import re

from lab.stack import docker, project
from lab.stack.home import Home
from lab.stack.manual import STATE, is_up
from lab.stack.process import recorded

#: The lab's own Prometheus scrapes itself, so its configuration names its address.
_SELF = re.compile(r'job_name: prometheus\b.*?targets: \["([^"]+)"\]', re.DOTALL)


def prometheus_of(home: Home) -> str | None:
    """Return the URL of the Prometheus of `make up` or `make bench`, None where neither runs."""
    if url := _line(home, "prometheus"):
        return url
    config = home.run / "prometheus.yml"
    if project.recorded(home):
        container = f"{home.name}-prometheus-1"
        if published := docker.attempt(["docker", "port", container, "9090/tcp"]).split():
            return f"http://{published[0]}"
    alive = home.run.is_dir() and any(n == "prometheus" and up for n, _, up in recorded(home.run))
    if not alive or not config.is_file():
        return None
    found = _SELF.search(config.read_text(encoding="utf-8"))
    return f"http://{found[1]}" if found else None


def grafana_of(home: Home) -> str | None:
    """Return the URL of the Grafana of `make up`, None where none runs."""
    page = _line(home, "grafana")
    return page.partition("/d/")[0] if page else None


def _line(home: Home, name: str) -> str | None:
    """Return an address that `make up` printed, while its stack runs."""
    if not is_up(home):
        return None
    return dict(map(tuple, json.loads((home.run / STATE).read_text()))).get(name)
