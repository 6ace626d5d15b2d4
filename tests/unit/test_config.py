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
    with pytest.raises(ConfigError, match="did you mean DB_POOL_SIZE"):
        from_environment({"DB_POOLSIZE": "5"})


def test_a_secret_is_not_in_a_message() -> None:
    """A wrong secret is not shown."""
    with pytest.raises(ConfigError) as raised:
        build({"POSTGRES_PASSWORD": ["hunter2"]})
    assert "hunter2" not in str(raised.value)
    assert "POSTGRES_PASSWORD" not in build({}).public()
    assert set(TOGGLES) >= set(build({}).public())
