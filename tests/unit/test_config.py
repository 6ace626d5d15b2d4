"""Presets, narrowing and order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab import config
from lab.config import Preset, check_host, memory_size, plan, read_preset
from lab.errors import ConfigError
from lab.runner import halved_limits
from lab.settings import TOGGLES, build, from_environment, host_defaults

THREE_BY_TWO = Preset(
    "p",
    "",
    {"WARMUP": 1, "WINDOW": 2},
    {"FRAMEWORK": ["fastapi", "django", "flask"], "ROUTE": ["direct", "pgbouncer"]},
)


def cell_ids(preset: Preset, **overrides: str) -> list[str]:
    """Return the ids of the cells, with overrides as from the command line."""
    given = {name: (value, "command line") for name, value in overrides.items()}
    return [cell.cell_id for cell in plan(preset, {}, given).cells]


def test_axes_multiply_and_every_repetition_has_each_cell_once() -> None:
    """Repetitions are interleaved: each one is a whole round in an order of its own."""
    ids = cell_ids(THREE_BY_TWO, REPETITIONS="3")
    assert len(ids) == len(set(ids)) == 18
    rounds = [ids[0:6], ids[6:12], ids[12:18]]
    for number, one in enumerate(rounds, 1):
        assert all(cell_id.endswith(f"-r{number}") for cell_id in one)
    orders = [[cell_id[:-3] for cell_id in one] for one in rounds]
    assert len({tuple(order) for order in orders}) > 1


def test_order_is_the_seeds() -> None:
    """One seed gives one order, another seed another."""
    assert cell_ids(THREE_BY_TWO) == cell_ids(THREE_BY_TWO)
    assert cell_ids(THREE_BY_TWO) != cell_ids(THREE_BY_TWO, SEED="7")


def test_an_override_narrows_an_axis_or_makes_one() -> None:
    """One value fixes, several values of an axis replace it, several of a setting make an axis."""
    assert sorted(cell_ids(THREE_BY_TWO, FRAMEWORK="flask")) == [
        "flask-direct-u100-r1",
        "flask-pgbouncer-u100-r1",
    ]
    assert len(cell_ids(THREE_BY_TWO, USERS="10,50", FRAMEWORK="flask,django")) == 8
    made = plan(THREE_BY_TWO, {}, {"DB_POOL_SIZE": ("2,4", "command line")})
    assert made.other_axes == ("DB_POOL_SIZE",)
    assert made.axes["DB_POOL_SIZE"] == [2, 4]
    assert {cell.settings.db_pool_size for cell in made.cells} == {2, 4}


def test_the_same_level_twice_is_one_level() -> None:
    """USERS=10,10 measures 10 users once."""
    assert len(cell_ids(THREE_BY_TWO, USERS="10,10")) == 6


def test_variants_couple_toggles_and_can_be_picked() -> None:
    """A variant is one combination; an override picks those that have it."""
    coupled = Preset(
        "p", "", {}, {"ROUTE": ["direct"]}, [{"WORKERS": 2, "THREADS": 8}, {"WORKERS": 8}]
    )
    assert len(cell_ids(coupled)) == 2
    assert len(cell_ids(coupled, WORKERS="8")) == 1
    with pytest.raises(ConfigError, match="in no variant of the preset; there: 2, 8"):
        cell_ids(coupled, WORKERS="3")


def test_exclusions_leave_out_what_matches_whole() -> None:
    """An exclusion removes the cells that have all of its values."""
    without = Preset(
        "p", "", {}, THREE_BY_TWO.axes, [], [{"FRAMEWORK": "flask", "ROUTE": "direct"}]
    )
    assert len(cell_ids(without)) == 5


def test_precedence_is_env_file_preset_command_line() -> None:
    """The later source wins."""
    env = {"THREADS": "3", "WINDOW": "9"}
    planned = plan(THREE_BY_TWO, env, {"WARMUP": ("7", "command line")})
    settings = planned.cells[0].settings
    assert (settings.threads, settings.window, settings.warmup) == (3, 2, 7)


def test_digest_changes_with_what_can_change_the_measurement() -> None:
    """Settings change it; ports, secrets and the number of repetitions do not."""

    def digest(**toggles: str) -> str:
        given = {name: (value, "command line") for name, value in toggles.items()}
        return plan(THREE_BY_TWO, {}, {**given, "FRAMEWORK": ("flask", "t")}).cells[0].digest

    assert digest() == digest(POSTGRES_PORT="5555") == digest(REPETITIONS="2")
    assert digest() == digest(WATCH_PAGE="off")
    assert digest() != digest(THREADS="3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axes = 3 =", "not valid TOML"),
        ("[axis]\nUSERS = [1]", "unknown table 'axis'"),
        ("[axes]\nUSRES = [1]", "unknown toggle USRES"),
        ("[axes]\nUSERS = 3", "axis USERS needs a list"),
        ("[axes]\nSTACK = ['native']", "cannot be an axis"),
        ("[settings]\nFRAMWORK = 'flask'", "did you mean FRAMEWORK"),
    ],
)
def test_a_wrong_preset_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    """The file and what is wrong in it are said."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_preset(path)


def test_a_sleep_beyond_the_statement_timeout_is_refused() -> None:
    """Every request of such a cell would fail."""
    toggles = {"SLOW_QUERY_MS": "600", "DB_STATEMENT_TIMEOUT": "500"}
    cell_ids(THREE_BY_TWO, **toggles)
    with pytest.raises(ConfigError, match="SLOW_QUERY_MS=600 never ends before"):
        cell_ids(THREE_BY_TWO, SCENARIO="slow-query", **toggles)
    cell_ids(THREE_BY_TWO, SCENARIO="slow-query", SLOW_QUERY_MS="600", DB_STATEMENT_TIMEOUT="0")


def test_every_preset_of_the_project_can_be_planned() -> None:
    """Each preset's cells are valid on any host."""
    for name in config.presets():
        assert plan(config.load_preset(name), {}, {}).cells, name


@pytest.mark.parametrize(
    ("toggles", "message"),
    [
        ({"DB_CPUS": 3}, "DB_CPUS=3 is above this host's 2 cores"),
        ({"APP_MEMORY": "2g"}, "APP_MEMORY=2g is above this host's 1024 MB"),
    ],
)
def test_limits_above_the_host_are_refused(toggles: dict[str, Any], message: str) -> None:
    """The limit and what the host has are said."""
    with pytest.raises(ConfigError, match=message):
        check_host(build(toggles), 2, 2**30)


def test_default_limits_are_halved_on_a_small_host() -> None:
    """Below four cores the default CPU limits are half, so that the generator has room."""
    assert host_defaults(2) == {"DB_CPUS": 0.25, "APP_CPUS": 0.5, "PGBOUNCER_CPUS": 0.25}
    assert host_defaults(4) == {}


def test_halved_limits_are_noted() -> None:
    """The manifest says that the limits are the halved ones, and not when they were chosen."""
    halved = host_defaults(2)
    assert "DB_CPUS=0.25" in halved_limits(build(halved), halved)[0]
    assert halved_limits(build({**halved, "DB_CPUS": 0.3}), halved) == []
    assert halved_limits(build({}), host_defaults(8)) == []


@pytest.mark.parametrize(
    ("cpus", "workers", "expected"), [(0.5, 0, 2), (1, 0, 3), (2, 0, 5), (8, 0, 8), (1, 6, 6)]
)
def test_workers_follow_the_limit(cpus: float, workers: int, expected: int) -> None:
    """Workers are 2*CPU+1 of the service's limit, at least 2, at most 8, or as set."""
    assert build({"APP_CPUS": cpus, "WORKERS": workers}).workers_effective == expected


def test_memory_size_is_in_powers_of_1024() -> None:
    """Memory is written as Docker does."""
    assert memory_size("512m") == 512 * 2**20
    assert memory_size("2G") == 2 * 2**30


def test_environment_is_read_for_toggles_only() -> None:
    """Toggles are taken, a near miss of one is refused, and screen's WINDOW is left alone."""
    assert from_environment({"USERS": "5", "USER": "me", "HOME": "/"}) == {"USERS": "5"}
    assert from_environment({"WINDOW": "0", "STY": "1.screen"}) == {}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DB_POOLSIZE", "DB_POOL_SIZE"),
        ("POSTGRES_SHARED_BUFFER", "POSTGRES_SHARED_BUFFERS"),
        ("SCRAM_ITERATION", "SCRAM_ITERATIONS"),
        ("SEED_USER", "SEED_USERS"),
        ("APP_CPU", "APP_CPUS"),
        ("WORKER_TIMOUT", "WORKER_TIMEOUT"),
        ("PGBOUNCER_DEFAULT_POOLSIZE", "PGBOUNCER_DEFAULT_POOL_SIZE"),
    ],
)
def test_environment_refuses_a_slip_of_the_pen(name: str, meant: str) -> None:
    """A toggle that is not taken would be measured at its default."""
    with pytest.raises(ConfigError, match=f"unknown toggle {name} .* did you mean {meant}"):
        from_environment({name: "5"})


def test_environment_of_other_programs_is_left_alone() -> None:
    """The images of PostgreSQL and PgBouncer, and many a framework, have names of their own."""
    others = (
        *("POSTGRES_USER", "POSTGRES_DB", "POSTGRES_HOST", "POSTGRES_PASS", "POSTGRES_URL"),
        *("POSTGRES_PASSWORD_FILE", "POSTGRES_HOST_AUTH_METHOD", "POSTGRES_INITDB_ARGS"),
        *("DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD", "DB_URL", "DB_DATABASE"),
        *("PGBOUNCER_DATABASE", "PGBOUNCER_AUTH_FILE", "PGBOUNCER_LISTEN_PORT"),
        *("APP_ENV", "APP_NAME", "APP_PORT", "APP_KEY", "APP_MODULE", "WORKER_ID", "SEED_DATA"),
    )
    assert from_environment(dict.fromkeys(others, "x")) == {}


@pytest.mark.parametrize(
    ("name", "refused", "taken", "allowed"),
    [
        ("SEED", 2**63, 2**63 - 1, "at most 9223372036854775807"),
        ("POSTGRES_WORK_MEM", "63kB", "64kB", "at least 64kB"),
        ("POSTGRES_WORK_MEM", "2048GB", "2047GB", "at most 2047GB"),
        ("POSTGRES_SHARED_BUFFERS", "127kB", "1MB", "at least 128kB"),
        ("POSTGRES_SHARED_BUFFERS", "128", "128kB", "like 128MB"),
        ("DB_CPUS", 0.009, 0.01, "at least 0.01"),
        ("APP_CPUS", 0, 0.01, "at least 0.01"),
        ("PGBOUNCER_CPUS", 0.001, 0.01, "at least 0.01"),
        ("GENERATOR_CPUS", 0.009, 0.01, "at least 0.01 or 0"),
        ("GENERATOR_CPUS", 257, 0, "at most 256"),
        ("DB_CONNECT_TIMEOUT", 1, 2, "at least 2"),
    ],
)
def test_what_a_server_would_refuse_is_refused_before(
    name: str, refused: Any, taken: Any, allowed: str
) -> None:
    """Each would fail after start-up, or become another value; the range is said."""
    assert getattr(build({name: taken}), name.lower()) == taken
    with pytest.raises(ConfigError, match=f"{name}=.* is not allowed; allowed: .*{allowed}"):
        build({name: refused})


def test_worker_connections_without_effect_are_refused() -> None:
    """Gunicorn's asgi workers do not look at it."""
    for asgi in ({"FRAMEWORK": "fastapi"}, {"FRAMEWORK": "django", "DJANGO_MODE": "async"}):
        with pytest.raises(ConfigError, match="WORKER_CONNECTIONS=500 does nothing for FRAMEWORK"):
            cell_ids(THREE_BY_TWO, WORKER_CONNECTIONS="500", **asgi)
    cell_ids(THREE_BY_TWO, WORKER_CONNECTIONS="500", FRAMEWORK="flask,django")


def test_a_secret_is_not_in_a_message() -> None:
    """A wrong secret is not shown."""
    with pytest.raises(ConfigError) as raised:
        build({"POSTGRES_PASSWORD": ["hunter2"]})
    assert "hunter2" not in str(raised.value)
    assert "POSTGRES_PASSWORD" not in build({}).public()
    assert set(TOGGLES) >= set(build({}).public())
