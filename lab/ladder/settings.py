"""The ladder's own settings, and the lab's as far as they mean something to it.

Precedence: defaults, `.env`, the environment, the command line. The limits and the number of
connections in `.env` are those of `make bench`: the ladder asks what PostgreSQL can do without. So
is synchronous_commit: a rung without it says so, and the others wait for the disk.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import psutil
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lab import settings as lab_settings
from lab.config import check_host, memory_size
from lab.errors import ConfigError
from lab.settings import PORT_FIELDS, TOGGLES, Settings

#: Connections of the largest rung's pool, of the lab and its exporters, and some to spare.
MAX_CONNECTIONS = 250


def _tps(text: str) -> str:
    if text != "max" and not (text.replace(".", "", 1).isdigit() and float(text) > 0):
        raise ValueError("neither max nor a number above 0")
    return text


class LadderSettings(BaseModel):
    """What `make ladder` takes beside the lab's toggles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rungs: str = Field("all", description="names, or beginnings of names: 2-B,3-D")
    target_tps: Annotated[str, AfterValidator(_tps)] = Field(
        "max", description="rows per second, or max"
    )
    duration: int = Field(8, ge=2, le=3600, description="measured seconds of each rung")
    warmup: int = Field(1, ge=0, le=600, description="seconds of writing before them")
    batch: int | None = Field(None, ge=1, le=100_000, description="rows per write")
    pool: int | None = Field(None, ge=1, le=10_000, description="connections")
    route: Literal["direct", "pgbouncer"] = Field("direct", description="of the pooled rungs")
    db_cpus: float | None = Field(None, gt=0, le=256, description="cores; without it no limit")
    repetitions: int = Field(1, ge=1, le=100, description="measurements of each rung")
    interval: float = Field(10, gt=0, le=3600, description="seconds between lines of the CSV")

    @property
    def rate(self) -> float | None:
        """Intended rows per second, None for as many as can be."""
        return None if self.target_tps == "max" else float(self.target_tps)

    def public(self) -> dict[str, Any]:
        """Return every setting by its variable name."""
        return {name.upper(): value for name, value in self.model_dump(mode="json").items()}


OWN = {name.upper(): field for name, field in LadderSettings.model_fields.items()}
_WORDS = {
    "RUNGS": "names of rungs with commas between them, or all",
    "TARGET_TPS": "max, or a number above 0",
    "ROUTE": "direct, pgbouncer",
}
#: What each rung decides by itself, and so no setting does.
RUNGS_OWN = "POSTGRES_SYNCHRONOUS_COMMIT"
#: The lab's toggles that change something here.
SHARED = frozenset(
    name
    for name in TOGGLES
    if name.startswith(("POSTGRES_", "PGBOUNCER_", "SCRAM_", "SEED"))
    or name.lower() in PORT_FIELDS
    or name in ("STACK", "MONITORING", "WATCH_PAGE", "DB_MEMORY")
) - {RUNGS_OWN}


def check_name(name: str, source: str) -> None:
    """Raise ConfigError for a name that the ladder does not take, with the nearest one it does."""
    known = [*OWN, *sorted(SHARED)]
    if name in known:
        return
    if name == RUNGS_OWN:
        raise ConfigError(
            f"{name} ({source}) is decided by each rung: 3-A is 2-B with it off; RUNGS=2-B,3-A "
            "compares them"
        )
    if name in TOGGLES:
        raise ConfigError(f"{name} ({source}) means nothing to the ladder; it takes {_own()}")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"the ladder takes {_own()}"
    raise ConfigError(f"unknown setting {name} ({source}); {hint}")


def _own() -> str:
    return ", ".join(OWN)


def from_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what the environment sets; other programs' names are none of ours."""
    return {name: value for name, value in environ.items() if name in OWN or name in SHARED}


def set_aside(env_file: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> str | None:
    """Say that a synchronous_commit from elsewhere is not taken, None where it would change none.

    It is refused on the command line, where it was meant for the ladder.
    """
    value = environ.get(RUNGS_OWN) or env_file.get(RUNGS_OWN) or "on"
    if value == "on":
        return None
    return f"{RUNGS_OWN}={value} is for other commands: here it is on, but on rung 3-A"


def build(
    env_file: Mapping[str, str], overrides: Mapping[str, tuple[str, str]]
) -> tuple[LadderSettings, Settings]:
    """Return the ladder's settings and the lab's for its stack.

    `overrides` maps a name to (value, source). Raises ConfigError with the variable, its value,
    where it came from and what is allowed.
    """
    for name, (_, source) in overrides.items():
        check_name(name, source)
    own = _ladder({n: v for n, v in overrides.items() if n in OWN})
    given = {n: v for n, (v, _) in overrides.items() if n in SHARED}
    sources = dict.fromkeys(env_file, ".env") | {n: s for n, (_, s) in overrides.items()}
    cores = psutil.cpu_count() or 1
    values: dict[str, Any] = {
        **env_file,
        "POSTGRES_MAX_CONNECTIONS": MAX_CONNECTIONS,
        "DB_MEMORY": f"{psutil.virtual_memory().total // 2**20}m",
        **given,
        RUNGS_OWN: "on",
        "DB_CPUS": own.db_cpus or cores,
        "PGBOUNCER_CPUS": cores,
        "METRICS": "off",  # there is no service
    }
    settings = lab_settings.build(values, sources)
    check_host(settings, cores, psutil.virtual_memory().total)
    memory_size(settings.db_memory)
    return own, settings


def _ladder(given: Mapping[str, tuple[str, str]]) -> LadderSettings:
    try:
        return LadderSettings.model_validate({n.lower(): v for n, (v, _) in given.items()})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        raise ConfigError(
            f"{name}={first['input']!r} ({given[name][1]}) is not allowed; allowed: {allowed(name)}"
        ) from None


def allowed(name: str) -> str:
    """Say in words which values a setting of the ladder takes."""
    if name in _WORDS:
        return _WORDS[name]
    field = OWN[name]
    kind = "a whole number" if "int" in str(field.annotation) else "a number"
    words = {"ge": "at least", "gt": "above", "le": "at most"}
    bounds = [
        f"{text} {bound}"
        for item in field.metadata
        for attribute, text in words.items()
        if (bound := getattr(item, attribute, None)) is not None
    ]
    return ", ".join([kind, *bounds])
