"""Tests that need a Docker engine: asked for by POOLSCOPE_TEST_COMPOSE=1, `make test-compose`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ASKED_FOR = os.environ.get("POOLSCOPE_TEST_COMPOSE") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and skip them where they were not asked for."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.compose)
            if not ASKED_FOR:
                item.add_marker(pytest.mark.skip(reason="POOLSCOPE_TEST_COMPOSE=1 runs it"))
