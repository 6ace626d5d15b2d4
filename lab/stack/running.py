"""Where Prometheus and Grafana answer that the lab runs now, whoever started them."""

from __future__ import annotations

import re

from lab.stack import docker, project, state
from lab.stack.home import Home
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
    """Return the URL of the Grafana that was left running, None where none was."""
    page = _line(home, "grafana")
    return page.partition("/d/")[0] if page else None


def _line(home: Home, name: str) -> str | None:
    """Return an address of what `make up` or `make monitoring` left running."""
    left = state.read(home)
    return None if left is None else left.line(name)
