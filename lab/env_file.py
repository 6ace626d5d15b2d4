"""`.env.example`, generated from the settings class, and `.env`, made from it on first use."""

from __future__ import annotations

import secrets
import textwrap
from typing import Any

from dotenv import dotenv_values

from lab.files import write_atomic
from lab.paths import ENV_EXAMPLE, ENV_FILE
from lab.settings import GROUPS, SECRET_FIELDS, TOGGLES, allowed, check_name, host_defaults

#: Names that docker compose reads for itself; no toggles.
COMPOSE_PREFIXES = ("COMPOSE_", "DOCKER_")
PROFILES = "COMPOSE_PROFILES"
COMPOSE_LINES = f"""
# --- docker compose
# what `docker compose up` starts beside the rest; where no Grafana can be had: ${{FRAMEWORK}}
{PROFILES}=${{FRAMEWORK}},grafana
"""
HEADER = """\
# Every toggle of Poolscope: name, default, what it means, what is allowed.
# `.env` is made from this file on first use, with generated passwords; compose and the native
# stack read it. A preset, and `make bench NAME=value`, go over it.
"""


def render(values: dict[str, Any] | None = None) -> str:
    """Return the text of an env file: the defaults, with `values` by variable name over them."""
    parts = [HEADER]
    for group, names in GROUPS.items():
        parts.append(f"\n# --- {group}\n")
        for name in names:
            field = TOGGLES[name.upper()]
            default = "" if name in SECRET_FIELDS else field.default
            value = (values or {}).get(name.upper(), default)
            if name not in SECRET_FIELDS:
                words = "; ".join(filter(None, (field.description, allowed(name.upper()))))
                parts.append(textwrap.fill(words, 98, initial_indent="# ", subsequent_indent="# "))
                parts.append("\n")
            parts.append(f"{name.upper()}={_text(value)}\n")
    return "".join([*parts, COMPOSE_LINES])


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def ensure() -> dict[str, str]:
    """Return `.env` as a mapping, made with generated passwords where it or they are missing.

    Raises ConfigError for a name in it that is no toggle.
    """
    if not ENV_FILE.exists():
        generated = {name.upper(): secrets.token_urlsafe(24) for name in SECRET_FIELDS}
        write_atomic(ENV_FILE, render({**host_defaults(), **generated}), mode=0o600)
    found = {name: value or "" for name, value in dotenv_values(ENV_FILE).items()}
    values = {n: value for n, value in found.items() if not n.startswith(COMPOSE_PREFIXES)}
    for name in values:
        check_name(name, ".env")
    missing = [n.upper() for n in SECRET_FIELDS if not values.get(n.upper())]
    if missing:
        values |= {name: secrets.token_urlsafe(24) for name in missing}
        write_atomic(ENV_FILE, _with(ENV_FILE.read_text(), values, missing), mode=0o600)
    if PROFILES not in found:  # made before there was a compose stack
        write_atomic(ENV_FILE, ENV_FILE.read_text().rstrip("\n") + "\n" + COMPOSE_LINES, mode=0o600)
    return values


def _with(text: str, values: dict[str, str], names: list[str]) -> str:
    """Set some names in an env file's text and leave the user's own lines as they are."""
    kept = [line for line in text.splitlines() if line.split("=")[0].strip() not in names]
    return "\n".join([*kept, *(f"{name}={values[name]}" for name in names)]) + "\n"


if __name__ == "__main__":
    write_atomic(ENV_EXAMPLE, render())
