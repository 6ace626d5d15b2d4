"""The dashboards' JSON files, as data: nothing of the code that makes them is imported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import ConfigError
from lab.paths import DASHBOARDS

#: From what a user feels to the instrument itself; others follow by name.
ORDER = ("overview", "connections", "database", "services", "pgbouncer", "matrix", "monitoring")
#: Those of a write ladder, where there is neither a service nor a matrix of cells.
OF_LADDER = ("ladder", "database", "pgbouncer", "monitoring")
#: Panels without data of their own.
SILENT = frozenset({"row", "text"})

_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Dashboard:
    """One dashboard as Grafana reads it."""

    model: Mapping[str, Any]

    @property
    def uid(self) -> str:
        """The name of its file, and its address in Grafana."""
        return str(self.model["uid"])

    @property
    def title(self) -> str:
        """The name people read."""
        return str(self.model.get("title") or self.uid)

    @property
    def short_title(self) -> str:
        """The name beside its neighbours', without the product's."""
        short = self.title.removeprefix("Poolscope: ")
        return short[:1].upper() + short[1:]

    @property
    def panels(self) -> list[dict[str, Any]]:
        """Every panel from top to bottom, those of collapsed rows too."""
        return list(_flat(self.model.get("panels", ())))

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """The annotations that are queries."""
        listed = self.model.get("annotations", {}).get("list", ())
        return [a for a in listed if annotation_expr(a) and a.get("enable", True)]


def annotation_expr(annotation: Mapping[str, Any]) -> str:
    """Return the query of an annotation, wherever this version of the model keeps it."""
    target = annotation.get("target") or {}
    return str(annotation.get("expr") or target.get("expr") or "")


def filled(text: str, labels: Mapping[str, str]) -> str:
    """Return a legend's or an annotation's text with the labels that it names."""
    return _LABEL.sub(lambda match: labels.get(match[1], ""), text)


def targets(panel: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the queries of a panel that are asked."""
    return [t for t in panel.get("targets") or () if t.get("expr") and not t.get("hide")]


def over_range(panel: Mapping[str, Any]) -> bool:
    """Return whether a panel looks back over the whole range, to compare what was in it."""
    return any(t.get("instant") and "__range" in t["expr"] for t in targets(panel))


def load(folder: Path = DASHBOARDS) -> list[Dashboard]:
    """Read every dashboard; raise ConfigError where there is none or one is no JSON."""
    found = []
    for path in folder.glob("*.json"):
        try:
            found.append(Dashboard(json.loads(path.read_text(encoding="utf-8"))))
        except json.JSONDecodeError as error:
            raise ConfigError(f"dashboard {path} is not valid JSON: {error}") from None
    if not found:
        raise ConfigError(f"no dashboards in {folder}; they are part of a checkout: `git status`")
    return sorted(found, key=_place)


def of_bench(found: list[Dashboard]) -> list[Dashboard]:
    """Return the dashboards that show something of cells."""
    return [d for d in found if _short(d) != "ladder"]


def of_ladder(found: list[Dashboard], *, pgbouncer: bool) -> list[Dashboard]:
    """Return the dashboards that show something of rungs, the ladder's own first."""
    names = [name for name in OF_LADDER if pgbouncer or name != "pgbouncer"]
    return sorted((d for d in found if _short(d) in names), key=lambda d: names.index(_short(d)))


def choose(found: list[Dashboard], name: str | None) -> list[Dashboard]:
    """Return all dashboards, or the one that is named, with or without the product's prefix."""
    if name is None:
        return found
    chosen = [d for d in found if name in (d.uid, _short(d))]
    if not chosen:
        known = ", ".join(_short(d) for d in found)
        raise ConfigError(f"unknown dashboard {name!r}; dashboards: {known}")
    return chosen


def _short(dashboard: Dashboard) -> str:
    return dashboard.uid.removeprefix("poolscope-")


def _place(dashboard: Dashboard) -> tuple[int, str]:
    name = _short(dashboard)
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _flat(panels: Any) -> Iterator[dict[str, Any]]:
    for panel in sorted(panels, key=lambda p: (p["gridPos"]["y"], p["gridPos"]["x"])):
        yield panel
        yield from _flat(panel.get("panels") or ())
