"""The state file: which services run, where they are accounted, and how the cells go."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class ServiceState(BaseModel):
    """One running service.

    `cgroup` maps cgroup v1 controllers (`cpu`, `cpuacct`, `memory`) to folders, or `unified` to the
    one folder of v2; null means that its processes are counted one by one below `pid`. `cpus` (in
    cores) and `memory_bytes` are the limits in force, null where none is.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    pid: int | None = Field(None, ge=1)
    cgroup: dict[str, Path | None] | None = None
    cpus: float | None = Field(None, gt=0)
    memory_bytes: int | None = Field(None, gt=0)


class Moment(BaseModel):
    """Something that happened to a cell, or will at a moment decided in advance; `at` is Unix."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    run_id: str
    cell_id: str
    event: str
    at: float


class CellResult(BaseModel):
    """A finished cell: what it was, and what was measured, null where it could not be."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    labels: dict[str, str]
    figures: dict[str, float | None]


class State(BaseModel):
    """The whole file.

    `due` names who has to answer now, of the servers postgres and pgbouncer and of the scrape jobs
    service and locust: it is written once they are ready, and before they are stopped. Null where
    nobody says it, as with a stack that was started by hand.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    services: dict[str, ServiceState] = Field(default_factory=dict)
    cell: dict[str, str | int | float | bool | None] | None = None
    moments: tuple[Moment, ...] = ()
    results: tuple[CellResult, ...] = ()
    due: tuple[str, ...] | None = None


def load_state(path: Path, *, optional: bool = False) -> State:
    """Read the state file; raise OSError if it cannot be read, ValueError if it makes no sense.

    An optional one that is not there is an empty one.
    """
    if optional and not path.exists():
        return State()
    stat = path.stat()
    return _parsed(path, (stat.st_ino, stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=2)
def _parsed(path: Path, version: tuple[int, ...]) -> State:
    """Parse once for all sources: with the results of a long run it takes milliseconds."""
    try:
        return State.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise ValueError(f"state file {path}: {place}: {first['msg']}") from None
