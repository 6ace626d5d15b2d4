"""Presets and settings to cells, validated before anything starts."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from lab.errors import ConfigError
from lab.paths import PRESETS
from lab.settings import (
    IMAGE_FIELDS,
    PORT_FIELDS,
    SECRET_FIELDS,
    TOGGLES,
    Settings,
    build,
    check_name,
    host_defaults,
)

#: Toggles that hold for a whole run, so that an axis of them would mean nothing.
RUN_WIDE = frozenset(
    {"REPETITIONS", "STACK", "SEED", "WATCH_PAGE"}
    | {n.upper() for n in (*PORT_FIELDS, *IMAGE_FIELDS, *SECRET_FIELDS)}
)
#: Axes with a column of their own in every table, in this order.
MAIN_AXES = ("FRAMEWORK", "ROUTE", "USERS")


@dataclass(frozen=True)
class Preset:
    """A TOML file's content: fixed settings, axes to multiply, coupled variants, exclusions."""

    name: str
    description: str
    settings: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, list[Any]] = field(default_factory=dict)
    variants: list[dict[str, Any]] = field(default_factory=list)
    exclude: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Cell:
    """One combination of axis values at one repetition: the unit that is measured."""

    cell_id: str
    axes: dict[str, Any]
    repetition: int
    settings: Settings

    @property
    def digest(self) -> str:
        """Hash of every setting that can change the measurement; ports and secrets cannot."""
        relevant = {
            name: value
            for name, value in self.settings.public().items()
            if name.lower() not in PORT_FIELDS and name not in ("REPETITIONS", "WATCH_PAGE")
        }
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """A run before it starts: its preset, its other axes and its cells in running order."""

    preset: Preset
    axes: dict[str, list[Any]]
    cells: tuple[Cell, ...]
    seed: int

    @property
    def other_axes(self) -> tuple[str, ...]:
        """Names of the axes beside framework, route and users."""
        return tuple(name for name in self.axes if name not in MAIN_AXES)


def presets() -> dict[str, str]:
    """Return each preset's description by its name."""
    return {
        path.stem: load_preset(path.stem).description for path in sorted(PRESETS.glob("*.toml"))
    }


def load_preset(name: str) -> Preset:
    """Read `loadtest/presets/<name>.toml`; raise ConfigError where it is missing or wrong."""
    path = PRESETS / f"{name}.toml"
    if not re.fullmatch(r"[a-z0-9-]+", name) or not path.is_file():
        known = ", ".join(p.stem for p in sorted(PRESETS.glob("*.toml")))
        raise ConfigError(f"unknown preset {name!r}; presets: {known}")
    return read_preset(path)


def read_preset(path: Path) -> Preset:
    """Read a preset file; raise ConfigError with the file and what is wrong in it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"preset {path.name} is not valid TOML: {error}") from None
    if unknown := set(data) - {"description", "settings", "axes", "variants", "exclude"}:
        raise ConfigError(f"preset {path.name} has an unknown table {sorted(unknown)[0]!r}")
    preset = Preset(
        name=path.stem,
        description=str(data.get("description", "")),
        settings=data.get("settings", {}),
        axes=data.get("axes", {}),
        variants=data.get("variants", []),
        exclude=data.get("exclude", []),
    )
    source = f"preset {preset.name}"
    for name in itertools.chain(preset.settings, *preset.variants, *preset.exclude):
        check_name(name, source)
    for name, values in preset.axes.items():
        check_axis(name, source)
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{source}: axis {name} needs a list of values")
    return preset


def check_axis(name: str, source: str) -> None:
    """Raise ConfigError for a name that is no toggle or cannot differ between cells."""
    check_name(name, source)
    if name in RUN_WIDE:
        raise ConfigError(f"{name} ({source}) holds for a whole run and cannot be an axis")


def plan(
    preset: Preset, env_file: Mapping[str, str], overrides: Mapping[str, tuple[str, str]]
) -> Plan:
    """Join the sources into cells, in running order.

    `overrides` maps a toggle to its value and source ("command line" or "environment"); a value
    with commas lists several. An override replaces an axis's values, picks the variants that have
    it, or fixes a setting.
    """
    sources = dict.fromkeys(env_file, ".env") | dict.fromkeys(
        preset.settings, f"preset {preset.name}"
    )
    base: dict[str, Any] = {**host_defaults(), **env_file, **preset.settings}
    axes = {name: list(values) for name, values in preset.axes.items()}
    variants = preset.variants
    for name, (text, source) in overrides.items():
        check_name(name, source)
        values = [part.strip() for part in text.split(",")]
        sources[name] = source
        if any(name in variant for variant in variants):
            variants = _narrow(variants, name, values, source)
        elif name in axes or len(values) > 1:
            check_axis(name, source)
            axes[name] = list(values)
        else:
            base[name] = text
    combinations = list(_combinations(axes, variants, preset.exclude))
    if not combinations:
        raise ConfigError(f"preset {preset.name}: nothing is left to run after narrowing")
    built = [(axis, build(base | axis, sources)) for axis in combinations]
    for _, settings in built:
        check_combination(settings)
    first = built[0][1]
    names = list(dict.fromkeys(itertools.chain(axes, *variants)))
    typed = [({name: _value(s, name) for name in a}, s) for a, s in built]
    typed = list({_slug(a): (a, s) for a, s in typed}.values())  # USERS=10,10 is one level
    values_of = {n: list(dict.fromkeys(a[n] for a, _ in typed if n in a)) for n in names}
    cells = _in_order(typed, first.repetitions, first.seed)
    return Plan(preset, values_of, cells, first.seed)


def _value(settings: Settings, name: str) -> Any:
    """Return a toggle's validated value, so that "10" and 10 are one axis level."""
    return getattr(settings, name.lower())


def _narrow(
    variants: list[dict[str, Any]], name: str, values: Sequence[str], source: str
) -> list[dict[str, Any]]:
    kept = [v for v in variants if str(v.get(name)).lower() in {x.lower() for x in values}]
    if not kept:
        there = ", ".join(dict.fromkeys(str(v[name]) for v in variants if name in v))
        raise ConfigError(
            f"{name}={','.join(values)} ({source}) is in no variant of the preset; there: {there}"
        )
    return kept


def _combinations(
    axes: Mapping[str, list[Any]],
    variants: Sequence[Mapping[str, Any]],
    exclude: Iterable[Mapping[str, Any]],
) -> Iterable[dict[str, Any]]:
    excluded = list(exclude)
    for values in itertools.product(*axes.values()):
        for variant in variants or [{}]:
            cell = dict(zip(axes, values, strict=True)) | dict(variant)
            if not any(all(cell.get(k) == v for k, v in e.items()) for e in excluded):
                yield cell


def _in_order(
    combinations: Sequence[tuple[dict[str, Any], Settings]], repetitions: int, seed: int
) -> tuple[Cell, ...]:
    """Shuffle each repetition on its own, so that drift of the host spreads over all cells."""
    rng = random.Random(seed)
    cells = []
    for repetition in range(1, repetitions + 1):
        for axes, settings in rng.sample(combinations, len(combinations)):
            shown = dict(axes)
            for name in MAIN_AXES:
                shown.setdefault(name, _value(settings, name))
            cells.append(Cell(f"{_slug(shown)}-r{repetition}", shown, repetition, settings))
    return tuple(cells)


def _slug(axes: Mapping[str, Any]) -> str:
    main = [f"u{axes[n]}" if n == "USERS" else str(axes[n]) for n in MAIN_AXES if n in axes]
    rest = [f"{n.lower()}_{axes[n]}" for n in axes if n not in MAIN_AXES]
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join([*main, *rest]))


def check_combination(settings: Settings) -> None:
    """Raise ConfigError for toggles that contradict each other or exceed the host."""
    s = settings
    asgi = s.framework == "fastapi" or (s.framework == "django" and s.django_mode != "wsgi")
    if s.db_pool == "psycopg" and s.framework != "django":
        raise ConfigError(
            f"DB_POOL=psycopg is Django's own pool; FRAMEWORK={s.framework} pools through "
            "SQLAlchemy: use DB_POOL=persistent"
        )
    if s.worker_class != "auto" and (s.worker_class == "asgi") != asgi:
        kind = "ASGI" if asgi else "WSGI"
        raise ConfigError(
            f"WORKER_CLASS={s.worker_class} cannot serve FRAMEWORK={s.framework} ({kind}); "
            "use WORKER_CLASS=auto"
        )
    if asgi and s.worker_connections != TOGGLES["WORKER_CONNECTIONS"].default:
        raise ConfigError(
            f"WORKER_CONNECTIONS={s.worker_connections} does nothing for FRAMEWORK={s.framework}: "
            "gunicorn's asgi workers take every connection; leave it out"
        )
    if s.db_prepared == "on" and s.route == "pgbouncer" and s.pgbouncer_pool_mode == "statement":
        raise ConfigError(
            "DB_PREPARED=on with PGBOUNCER_POOL_MODE=statement: use transaction or session"
        )
    if s.scenario == "slow-query" and 0 < s.db_statement_timeout <= s.slow_query_ms:
        raise ConfigError(
            f"SLOW_QUERY_MS={s.slow_query_ms} never ends before "
            f"DB_STATEMENT_TIMEOUT={s.db_statement_timeout}; lower the one or raise the other"
        )
    check_host(settings, psutil.cpu_count() or 1, psutil.virtual_memory().total)


def check_host(settings: Settings, cores: int, memory_bytes: int) -> None:
    """Raise ConfigError for a limit above what the host has."""
    for name in ("db_cpus", "app_cpus", "pgbouncer_cpus"):
        if (value := getattr(settings, name)) > cores:
            raise ConfigError(f"{name.upper()}={value:g} is above this host's {cores} cores")
    for name in ("db_memory", "app_memory"):
        if memory_size(value := getattr(settings, name)) > memory_bytes:
            total = memory_bytes / 2**20
            raise ConfigError(f"{name.upper()}={value} is above this host's {total:.0f} MB")


def memory_size(text: str) -> int:
    """Return the bytes of "512m" or "2g" (Docker's notation, powers of 1024)."""
    return int(text[:-1]) * 1024 ** ("kmg".index(text[-1].lower()) + 1)
