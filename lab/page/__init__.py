"""One self-contained HTML file: our own style and script, uPlot, and the data, all inside.

Nothing is fetched: the file's own policy forbids it, and lets no script run but the one that was
put in. Pure functions, no input but the files of this folder.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

HERE = Path(__file__).parent
ASSETS = HERE / "assets"
STYLES = ("uPlot.min.css", "page.css")
#: In the order in which each needs what stands before it.
SCRIPTS = (
    *("uPlot.iife.min.js", "format.js", "base.js", "axes.js", "chart.js", "heat.js", "along.js"),
    *("table.js", "panels.js", "prose.js", "page.js"),
)


def render(
    template: str,
    title: str,
    data: Mapping[str, Any],
    *,
    facts: Sequence[str] = (),
    notes: Sequence[str] = (),
    live: bool = False,
    folder: Path = HERE,
    **more: Any,
) -> str:
    """Return a page; `folder` holds the template where it is not one of this package."""
    loader = jinja2.FileSystemLoader([folder, HERE])
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    style, script = assets()
    return environment.get_template(template).render(
        title=title,
        facts=facts,
        notes=notes,
        live=live,
        kind=template.partition(".")[0],
        policy=policy(style, script, live=live),
        style=Markup(style),
        script=Markup(script),
        data=embedded(data),
        **more,
    )


def embedded(data: Mapping[str, Any]) -> Markup:
    """Return data as JSON that cannot end the script element it stands in."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for char, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(char, code)
    # Both end a line in older scripts, but not in JSON.
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return Markup(text)


def policy(style: str, script: str, *, live: bool) -> str:
    """Return the page's Content-Security-Policy: this script, and its own server at most."""
    connect = "'self'" if live else "'none'"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'sha256-{_digest(script)}'",
            # uPlot and the charts set sizes and colours on elements, which counts as inline style.
            f"style-src 'sha256-{_digest(style)}'",
            "img-src data:",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


@cache
def assets() -> tuple[str, str]:
    """Return style and script as they stand in every page."""
    style = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in STYLES)
    script = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return style, script


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
