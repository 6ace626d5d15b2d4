"""A picture of a page, by a Chromium where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import ConfigError, ServiceError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH = 1600
#: Pixels of a line of the grid with the gap below it, and of everything around the grid.
LINE, ROW, AROUND = 41, 46, 220
TIMEOUT_S = 60


def chromium() -> str:
    """Return the program's path; `CHROMIUM` names it by hand. Raises ConfigError."""
    chosen = os.environ.get("CHROMIUM")
    found = shutil.which(chosen) if chosen else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        tried = chosen or ", ".join(NAMES)
        raise ConfigError(
            f"PNG=1 needs a Chromium, and there is none here (looked for {tried}); "
            "`apt install chromium`, name it by CHROMIUM=<path>, or leave PNG=1 out"
        )
    return found


def height(model: Mapping[str, Any]) -> int:
    """Return the pixels that a dashboard of Grafana's grid takes on our page."""
    panels = model.get("panels", ())
    lines = max((p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels), default=10)
    return AROUND + lines * LINE + ROW * sum(p["type"] == "row" for p in panels)


def shoot(program: str, page: Path, anchor: str, tall: int, picture: Path) -> None:
    """Write a picture of a page at one of its anchors; raise ServiceError where that fails."""
    with tempfile.TemporaryDirectory(prefix="poolscope-png-") as profile:
        done = _run([program, *_flags(profile, tall), f"--screenshot={picture}",
                     f"{page.resolve().as_uri()}#{anchor}"])  # fmt: skip
    if done.returncode or not picture.is_file():
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ServiceError(f"{program} made no picture of {page.name}: {last[0]}")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{command[0]} could not draw the page: {error}") from None


def _flags(profile: str, tall: int) -> list[str]:
    flags = [
        "--headless",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--virtual-time-budget=4000",
        f"--user-data-dir={profile}",
        f"--window-size={WIDTH},{tall}",
    ]
    # Chromium refuses its own sandbox to root; the page is ours and runs no other script.
    return [*flags, "--no-sandbox"] if os.geteuid() == 0 else flags
