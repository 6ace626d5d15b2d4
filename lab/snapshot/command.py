"""`make snapshot`: the files of a run's dashboards, without a server."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from lab import env_file
from lab.errors import ConfigError, ResultError
from lab.files import write_atomic
from lab.results import Run
from lab.snapshot import archive as archives
from lab.snapshot import dashboards as pages
from lab.snapshot import grafana, html, png
from lab.snapshot.archive import Archive, Record
from lab.snapshot.dashboards import Dashboard
from lab.snapshot.grafana_api import Grafana, new_key
from lab.stack.home import Home
from lab.stack.running import grafana_of

FOLDER = "snapshots"


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; None stands for all of it."""

    cell: str | None = None
    dashboard: str | None = None
    png: bool = False
    grafana_url: str | None = None
    password: str | None = field(default=None, repr=False)


def wanted(options: Mapping[str, str], home: Home) -> Wanted:
    """Return what the command's words ask for; raise ConfigError for what cannot be.

    Without GRAFANA_URL it is the Grafana of `make up`, where that runs.
    """
    switch = options.get("PNG", "0")
    if switch not in ("0", "1"):
        raise ConfigError(f"PNG={switch} is not allowed; allowed: 0, 1")
    own = grafana_of(home)
    url = options.get("GRAFANA_URL") or os.environ.get("GRAFANA_URL") or own
    if url and not re.match(r"https?://[^/]", url):
        raise ConfigError(f"GRAFANA_URL={url} is not allowed; allowed: http://host:port")
    password = _password(url, own) if url else None
    return Wanted(options.get("CELL"), options.get("DASHBOARD"), switch == "1", url, password)


def _password(url: str, own: str | None) -> str | None:
    """Return the administrator's password of the lab's own Grafana, and of no other."""
    env = env_file.ensure()
    port = env.get("GRAFANA_PORT", "")
    ours = {own, f"http://127.0.0.1:{port}", f"http://localhost:{port}"}
    return env.get("GRAFANA_ADMIN_PASSWORD") if url.rstrip("/") in ours else None


def make(run: Run, asked: Wanted, console: Console) -> list[Path]:
    """Write a run's snapshots, print their paths and return them.

    Raises ServiceError where a Grafana does not take them; the files are written then.
    """
    program = png.chromium() if asked.png else None
    cell = None if asked.cell is None else _cell(run, asked.cell)
    archive = archives.read(run)
    chosen = pages.choose(list(archive.dashboards), asked.dashboard)
    folder = run.folder / FOLDER
    label = f"run {run.run_id}"
    if cell is not None:
        archive, folder = archive.of_cell(cell), folder / cell.cell_id
        label = f"cell {cell.cell_id} of {label}"
    page = folder / ("dashboards.html" if asked.dashboard is None else f"{chosen[0].uid}.html")
    write_atomic(page, html.render(archive, run.manifest(), cell, [d.uid for d in chosen]))
    made = [page]
    for dashboard in chosen:
        made.append(folder / f"{dashboard.uid}.grafana.json")
        data = archive.data[dashboard.uid]
        whole = grafana.model(dashboard, data, archive.over, f"{dashboard.title}, {label}")
        body = grafana.request(whole)
        write_atomic(made[-1], json.dumps(body, separators=(",", ":"), allow_nan=False))
        if program is not None:
            made.append(folder / f"{dashboard.uid}.png")
            png.shoot(program, page, dashboard.uid, png.height(dashboard.model), made[-1])
    for path in made:
        console.print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)", highlight=False)
    run.write_manifest(run.manifest())
    if asked.grafana_url is not None:
        _store(Grafana.at(asked.grafana_url, asked.password), archive, chosen, label, console)
    return made


def _store(
    server: Grafana, archive: Archive, chosen: list[Dashboard], label: str, console: Console
) -> None:
    """Store dashboards in a Grafana, each with links to the others, and print their addresses."""
    release = server.release()
    keys = {d.uid: new_key() for d in chosen}
    pages = {d.uid: (d.short_title, server.address(keys[d.uid])) for d in chosen}
    for dashboard in chosen:
        name = f"{dashboard.title}, {label}"
        data = archive.data[dashboard.uid]
        whole = grafana.model(dashboard, data, archive.over, name, pages, release=release)
        address = server.post(grafana.request(whole), keys[dashboard.uid])
        console.print(f"{name}: {address}", highlight=False)


def _cell(run: Run, cell_id: str) -> Record:
    records = {record.cell_id: record for record in archives.measured(run)[0]}
    if cell_id not in records:
        known = ", ".join(records) or "none"
        raise ResultError(f"unknown cell {cell_id!r} in run {run.run_id}; cells: {known}")
    return records[cell_id]
