"""The runbooks as panels to read in Grafana, and the way from an alert to its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from monitoring.alerts import ALERTS
from monitoring.dashboards.panel import COLUMNS, Panel, Row

FOLDER = Path(__file__).parents[1] / "runbooks"
#: Panels have numbers by their place; these have their own, since links name them.
FIRST_ID = 1001
PAGE = "poolscope-monitoring"


def pages() -> list[Path]:
    """Return the runbooks' files, in the order of their panels."""
    return [path for path in sorted(FOLDER.glob("*.md")) if path.name != "README.md"]


def numbers() -> dict[str, int]:
    """Return the number of each runbook's panel by its file's name."""
    return {path.stem: FIRST_ID + place for place, path in enumerate(pages())}


def cell() -> dict[str, Any]:
    """Return how a table shows a panel's number: as the runbook's name, which leads to it."""
    names = {
        str(number): {"text": name, "index": number - FIRST_ID}
        for name, number in numbers().items()
    }
    url = f"/d/{PAGE}?viewPanel=${{__value.raw}}&${{__url_time_range}}"
    return {
        "mappings": [{"type": "value", "options": names}],
        "links": [{"title": "Open the runbook", "url": url}],
    }


def with_runbook(expr: str) -> str:
    """Return alerts with a label `runbook`: the number of the panel with their page."""
    found = numbers()
    for slug in sorted({alert.page for alert in ALERTS}):
        expr = f'label_replace({expr}, "runbook", "{found[slug]}", "page", "{slug}")'
    return expr


def row() -> Row:
    """Return every runbook as a panel of text."""
    panels = tuple(
        Panel(
            "text",
            re.sub(r"^# ", "", path.read_text(encoding="utf-8").splitlines()[0]),
            f"monitoring/runbooks/{path.name}: what it means, one query that confirms it, what to"
            " change, how to see that it worked.",
            options={"content": _body(path)},
            width=COLUMNS // 2,
            height=14,
            number=FIRST_ID + place,
        )
        for place, path in enumerate(pages())
    )
    return Row("Runbooks", panels, folded=True)


def _body(path: Path) -> str:
    """Return a page without its title; links between pages would lead nowhere in Grafana."""
    text = path.read_text(encoding="utf-8").partition("\n")[2].strip()
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text)
