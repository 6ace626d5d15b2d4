"""The house's rules: who may import whom, and what is generated."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import env_file
from lab.paths import ENV_EXAMPLE, ROOT
from lab.settings import GROUPS, Settings

#: What the instrument may take from what is under test: declarations, and no behaviour.
ALLOWED = {"apps.common.settings", "monitoring.signals"}
UNDER_TEST = ("apps", "database", "loadtest", "monitoring", "pgbouncer")


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_the_instrument_imports_declarations_only() -> None:
    """The lab reaches what is under test by process, HTTP and SQL."""
    for path in (ROOT / "lab").rglob("*.py"):
        for module in imports(path):
            if module.partition(".")[0] in UNDER_TEST:
                assert module in ALLOWED, f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("folder", UNDER_TEST)
def test_what_is_under_test_does_not_know_the_instrument(folder: str) -> None:
    """Apps, database, load and monitoring never import the lab."""
    for path in (ROOT / folder).rglob("*.py"):
        assert not [m for m in imports(path) if m.partition(".")[0] == "lab"], path


def test_records_are_read_without_a_running_service() -> None:
    """The report imports no part of the lab that talks to a server."""
    forbidden = {"lab.stack", "lab.prometheus", "lab.edges", "lab.cell", "lab.runner", "httpx"}
    for path in (ROOT / "lab" / "report").rglob("*.py"):
        assert not forbidden & set(imports(path)), path


def test_the_page_knows_nothing_of_the_lab() -> None:
    """The page toolkit draws what it is given: report, snapshot and live page are its users."""
    for path in (ROOT / "lab" / "page").rglob("*.py"):
        assert not [m for m in imports(path) if m.partition(".")[0] == "lab"], path


def test_the_diagnosis_is_pure() -> None:
    """Rules, budget, demand and prediction know no clock, no network, no server and no file."""
    forbidden = {"lab.stack", "lab.prometheus", "lab.edges", "lab.cell", "lab.runner", "httpx",
                 "time", "pathlib", "rich.console"}  # fmt: skip
    folder = ROOT / "lab" / "diagnosis"
    at_the_edge = {"command", "live", "show", "stored"}  # what calls them, shows and keeps
    pure = [p for p in folder.glob("*.py") if p.stem not in at_the_edge]
    for path in (*pure, *(folder / "verdicts").glob("*.py")):
        assert not forbidden & set(imports(path)), path


def test_env_example_is_what_the_settings_class_gives() -> None:
    """.env.example is made from the settings: `python -m lab.env_file`."""
    assert ENV_EXAMPLE.read_text() == env_file.render()


def test_every_toggle_is_in_one_group() -> None:
    """Each toggle stands in .env.example once."""
    names = [name for group in GROUPS.values() for name in group]
    assert sorted(names) == sorted(Settings.model_fields)


@pytest.mark.parametrize("lock", ["requirements.lock", "apps/requirements.lock"])
def test_no_address_of_an_index_in_the_lock_file(lock: str) -> None:
    """The lock file has hashes and no place to take packages from."""
    text = (ROOT / lock).read_text()
    assert "--hash=sha256:" in text
    assert "://" not in text
    assert "index-url" not in text
