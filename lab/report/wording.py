"""How names and numbers are written for people; `n/a` is what could not be measured."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from lab.report.groups import Group, View
from lab.results import Manifest

MISSING = "n/a"
#: PgBouncer's figures on the direct route: there is nothing to measure.
NOT_IN_PATH = "–"
#: Stands behind a figure of rejected cells, which is shown where no cell was accepted.
DOUBTED = "†"
DOUBT = f"{DOUBTED}: rejected; a figure not to be trusted, and part of no mean, ratio or order."
FRAMEWORK_NAMES = {"fastapi": "FastAPI", "django": "Django", "flask": "Flask"}
ROUTE_NAMES = {"direct": "direct", "pgbouncer": "through PgBouncer"}
#: Words that say nothing without the server they belong to, as in DB_CPUS and PGBOUNCER_CPUS.
_NEED_PREFIX = {"cpus", "memory"}


def framework(name: str) -> str:
    """Return a framework's name as its makers write it."""
    return FRAMEWORK_NAMES.get(name, name)


def toggle(name: str) -> str:
    """Return a toggle in short words: DB_CONN_MAX_AGE is "conn max age"."""
    short = name.lower()
    for prefix in ("pgbouncer_", "db_"):
        rest = short.removeprefix(prefix)
        if rest != short and rest not in _NEED_PREFIX:
            short = rest
            break
    return short.replace("_", " ")


def value(value: Any) -> str:
    """Return an axis value as it is written in a preset."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def axes(pairs: tuple[tuple[str, Any], ...], *before: str) -> str:
    """Return axis values in words: "pool mode session, 100 users"."""
    words = [f"{v:,} users" if n == "USERS" else f"{toggle(n)} {value(v)}" for n, v in pairs]
    return ", ".join([*before, *words])


def number(x: float) -> str:
    """Return a rate or a time in three to four significant digits, thousands separated."""
    if x == 0:
        return "0"
    size = abs(x)
    digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.0995 else 3
    return f"{x:,.{digits}f}"


def per_request(x: float) -> str:
    """Return connections per request; small but not zero stays not zero."""
    if x == 0:
        return "0"
    return "<0.001" if 0 < x < 0.0005 else f"{x:.3f}" if x < 0.0995 else f"{x:.2f}"


def percent(x: float) -> str:
    """Return a ratio as per cent; small but not zero stays not zero."""
    if x == 0:
        return "0%"
    if x < 0.0001:
        return "<0.01%"
    return f"{x:.2%}" if x < 0.00995 else f"{x:.1%}" if x < 0.0995 else f"{x:.0%}"


def moment(unix_s: float) -> str:
    """Return a time of day in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """Return a duration as "5 min 12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 s"


def hardware(manifest: Manifest) -> str:
    """Return the host in one line; what the manifest does not know is left out."""
    host = manifest.host
    memory = host.get("memory_bytes")
    parts = [
        f"{host['cores']} cores" if host.get("cores") else "",
        str(host.get("cpu") or ""),
        f"{memory / 2**30:.1f} GiB" if isinstance(memory, int | float) else "",
        str(host.get("system") or ""),
    ]
    return ", ".join(part for part in parts if part) or "hardware unknown"


def limits(manifest: Manifest) -> str:
    """Return the CPU limits in force in one line, or that they are not."""
    if manifest.limits is None:
        return "LIMITS NOT ENFORCED" + (f" ({r})" if (r := manifest.limits_reason) else "")
    servers = {"DB_CPUS": "PostgreSQL", "APP_CPUS": "service", "PGBOUNCER_CPUS": "PgBouncer"}
    given = [
        f"{server} {'varies' if name in manifest.axes else value(manifest.settings[name])}"
        for name, server in servers.items()
        if name in manifest.settings or name in manifest.axes
    ]
    return f"CPU limits: {', '.join(given) or 'see manifest'} ({manifest.limits})"


def figure(group: Group, name: str, text: Callable[[float], str] = number) -> str:
    """Return a mean as text, marked where only rejected cells have it.

    PgBouncer's is not in the path of the direct route.
    """
    if name.startswith("pgbouncer") and group.axes["ROUTE"] == "direct":
        return NOT_IN_PATH
    value = group.reading(name)
    if value is None:
        return MISSING
    return text(value) if group.accepted else doubted(text(value))


def doubted(figure: str) -> str:
    """Return a figure that was read in rejected cells, marked as such."""
    return figure + DOUBTED


def constants(view: View) -> list[str]:
    """Return what all cells of a run have in common, in words."""
    parts = []
    for name, words in (("FRAMEWORK", "{}"), ("ROUTE", "route {}"), ("USERS", "{} users")):
        if len(view.levels[name]) == 1:
            level = view.levels[name][0]
            parts.append(words.format(framework(level) if name == "FRAMEWORK" else value(level)))
    settings = view.manifest.settings
    if "SCENARIO" in settings and "SCENARIO" not in view.varying:
        parts.append(value(settings["SCENARIO"]))
    if "WINDOW" in settings and "WINDOW" not in view.varying:
        parts.append(f"{value(settings['WINDOW'])} s window")
    return parts
