"""How a field is shown: a panel's defaults, and what its overrides change for one name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: What of a field's configuration the page's charts read.
SHOWN = ("unit", "decimals", "min", "max", "thresholds", "color", "mappings", "noValue", "links")


def defaults(panel: Mapping[str, Any]) -> dict[str, Any]:
    """Return what holds for every field of a panel."""
    return dict((panel.get("fieldConfig") or {}).get("defaults") or {})


def overrides(panel: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what the panel's overrides set for the field of this name."""
    found: dict[str, Any] = {}
    for override in (panel.get("fieldConfig") or {}).get("overrides") or ():
        if not _matches(override["matcher"], name):
            continue
        for item in override["properties"]:
            _put(found, item["id"], item.get("value"))
    return found


def config(panel: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the whole configuration of one field, as Grafana keeps it inside a data frame."""
    own = overrides(panel, name)
    whole = defaults(panel) | own
    if custom := (defaults(panel).get("custom") or {}) | (own.get("custom") or {}):
        whole["custom"] = custom
    return whole


def shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that the page's charts read, without what is unset."""
    found = {n: settings[n] for n in SHOWN if settings.get(n) not in (None, [], {})}
    custom = settings.get("custom") or {}
    kept = {
        "fill": custom.get("fillOpacity"),
        "width": custom.get("lineWidth"),
        "draw": custom.get("drawStyle"),
        "stack": (custom.get("stacking") or {}).get("mode"),
        "softMin": custom.get("axisSoftMin"),
        "softMax": custom.get("axisSoftMax"),
        "hidden": custom.get("hidden"),
        "limits": (custom.get("thresholdsStyle") or {}).get("mode"),
    }
    if kept := {n: v for n, v in kept.items() if v is not None}:
        found["custom"] = kept
    if name := settings.get("displayName"):
        found["displayName"] = name
    return found


def _matches(matcher: Mapping[str, Any], name: str) -> bool:
    options = matcher.get("options")
    if matcher["id"] == "byName":
        return bool(options == name)
    if matcher["id"] == "byRegexp":
        return re.search(str(options).strip("/"), name) is not None
    return False


def _put(found: dict[str, Any], path: str, value: Any) -> None:
    """Set a property such as `custom.lineWidth`."""
    *folders, last = path.split(".")
    for folder in folders:
        found = found.setdefault(folder, {})
    found[last] = value
