"""`up.json`: what `make up` or `make monitoring` left running, for the commands that come after."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from lab.errors import ConfigError
from lab.files import write_atomic
from lab.stack import project
from lab.stack.home import Home
from lab.stack.process import recorded

STATE = "up.json"
UP, MONITORING = "make up", "make monitoring"


@dataclass(frozen=True)
class Left:
    """What was left running, by which command, and where it answers.

    `settings` are the toggles without secrets, `images` those of the compose stack; both are empty
    where no service runs. `lines` are (name, address), as they were printed.
    """

    command: str
    stack: str
    lines: list[tuple[str, str]]
    ports: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)

    def line(self, name: str) -> str | None:
        """Return an address by its name."""
        return dict(self.lines).get(name)


def write(home: Home, left: Left) -> None:
    """Keep it until `remove`."""
    write_atomic(home.run / STATE, json.dumps(asdict(left), indent=1))


def read(home: Home) -> Left | None:
    """Return what was left running; None where nothing is, or it runs no more.

    Raises ConfigError where the file is damaged.
    """
    path = home.run / STATE
    if not path.is_file() or not _runs(home):
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, list):  # of a version that knew only the lines
            found = {"command": UP, "stack": "", "lines": found}
        known = {f.name: found[f.name] for f in fields(Left) if f.name in found}
        return Left(**known | {"lines": [(name, where) for name, where in found["lines"]]})
    except (OSError, ValueError, TypeError, KeyError):
        raise ConfigError(f"{path} cannot be read; `make down` ends what runs") from None


def remove(home: Home) -> None:
    """Forget it."""
    (home.run / STATE).unlink(missing_ok=True)


def _runs(home: Home) -> bool:
    return any(alive for _, _, alive in recorded(home.run)) or bool(project.running(home))
