"""What has to answer now: who is not due is not asked, and is not down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monitoring.exporter.parents import ParentGroups
from monitoring.exporter.reading import FAILURES
from monitoring.exporter.state import State, load_state

#: The jobs whose servers come and go with the cells.
TARGETS = ("service", "locust")


@dataclass(frozen=True)
class Due:
    """The servers that run (`servers`) and the scrape jobs that have a target now (`targets`).

    None stands for not known: then every collector is asked, and nothing is said of the targets.
    """

    servers: frozenset[str] | None = None
    targets: frozenset[str] | None = None


def due_now(state_file: Path, groups: ParentGroups | None = None) -> Due:
    """Read what is due from the state file; servers in containers must be there as well."""
    try:
        state = load_state(state_file, optional=groups is not None)
        running = state.services.keys() if groups is None else groups.find().keys()
    except FAILURES:
        return Due()  # the collectors that read the same say why
    if not running and groups is not None:
        # An engine without groups: only the state can know, and where it does not all are asked.
        return Due(None if state.due is None else frozenset(state.due), _targets(state))
    return Due(_servers(state, frozenset(running)), _targets(state))


def _servers(state: State, running: frozenset[str]) -> frozenset[str]:
    return running if state.due is None else running & frozenset(state.due)


def _targets(state: State) -> frozenset[str] | None:
    return None if state.due is None else frozenset(state.due).intersection(TARGETS)
