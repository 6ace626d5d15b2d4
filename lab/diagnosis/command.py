"""`make diagnose`: of stored cells, or of what runs now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from lab import results
from lab.diagnosis import live, show, stored
from lab.errors import ConfigError
from lab.stack.home import Home
from lab.stack.running import prometheus_of

#: More cells than this are shown in short, unless one is asked for.
SHOWN_WHOLE = 3


def diagnose(options: Mapping[str, str], folder: Path, home: Home, console: Console) -> int:
    """Print the diagnoses that the options ask for; return the exit code."""
    if options.get("LIVE") or options.get("PROMETHEUS_URL"):
        url = options.get("PROMETHEUS_URL") or prometheus_of(home)
        if url is None:
            raise ConfigError(
                "no stack is running; start one with `make up`, or give PROMETHEUS_URL"
            )
        mapping = options.get("MAPPING")
        found = [live.diagnose(url, Path(mapping) if mapping else None)]
    else:
        run = results.find(folder, options.get("RUN") or "latest")
        found = stored.of_run(run, options.get("CELL") or None)
    for place, one in enumerate(found):
        if place:
            console.print()
        show.show(one, console, whole=len(found) <= SHOWN_WHOLE)
    if len(found) > SHOWN_WHOLE:
        console.print("\n`make diagnose CELL=<cell>` shows one cell whole", highlight=False)
    return stored.exit_code(found)
