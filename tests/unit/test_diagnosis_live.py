"""The mapping file of somebody's own Prometheus, and facts without data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.diagnosis import diagnose, live
from lab.errors import ConfigError
from lab.paths import ROOT
from lab.prometheus import Prometheus


class Answers(Prometheus):
    """Answers with set values by expression, and says what it was asked."""

    def __init__(self, values: dict[str, float]) -> None:
        super().__init__("http://nowhere")
        self.values = values
        self.asked: list[str] = []

    def query(self, expr: str, at: float) -> list[dict[str, Any]]:
        self.asked.append(expr)
        found = [value for name, value in self.values.items() if name in expr]
        return [{"metric": {}, "value": [at, str(found[0])]}] if found else []


def test_live_without_any_data_is_unclear() -> None:
    """Nothing is made up: every signal without data is said, and the verdict is unclear."""
    source = live.Source(Answers({}), {}, 0.0)
    found = diagnose(live.facts(source, {}, "live"))
    assert found.verdict == "unclear"
    assert "server_latency_mean_seconds" in found.missing


def test_live_knows_no_route_where_nobody_says() -> None:
    """A PgBouncer that is not watched is not ruled out; one that is down is not on the route."""
    source = live.Source(Answers({}), {}, 0.0)
    assert live.facts(source, {}, "live").route is None
    assert "say ROUTE" in source.missing["pgbouncer_up"]
    assert (
        live.facts(live.Source(Answers({"pgbouncer_up": 0.0}), {}, 0.0), {}, "").route == "direct"
    )
    assert (
        live.facts(live.Source(Answers({"pgbouncer_up": 1.0}), {}, 0.0), {}, "").route
        == "pgbouncer"
    )


def test_live_uses_the_expressions_of_the_mapping() -> None:
    """A mapped signal is asked by its own expression, any other by its recording rule."""
    answers = Answers({"my_rate": 50.0, "poolscope:server_latency_mean_seconds": 0.2})
    source = live.Source(answers, {"server_requests_per_second": "my_rate"}, 0.0)
    found = live.facts(source, {"FRAMEWORK": "flask", "ROUTE": "direct"}, "live")
    assert (found.rps, found.server_ms, found.framework) == (50.0, 200.0, "flask")
    assert "my_rate" in answers.asked


def test_mapping_of_the_documentation_is_valid() -> None:
    """The documented example is read, and names known signals only."""
    signals, settings = live.read_mapping(ROOT / "docs" / "diagnosis-mapping.toml")
    assert signals["db_cpu_limit_cores"] == "vector(4)"
    assert settings["ROUTE"] == "pgbouncer"


@pytest.mark.parametrize(
    ("text", "words"),
    [("[signals]\nx = 'y'", "x is no signal"), ("[settings]\nX = 1", "X is no setting"),
     ("[", "cannot be read")],
)  # fmt: skip
def test_mapping_with_a_mistake_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """One line says what is wrong in which file."""
    path = tmp_path / "map.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        live.read_mapping(path)


def test_live_names_the_cell_that_is_announced() -> None:
    """Our own stack says what runs; anybody else's Prometheus does not."""

    class Announced(Answers):
        def query(self, expr: str, at: float) -> list[dict[str, Any]]:
            return [{"metric": {"cell_id": "flask-direct-u5-1"}, "value": [at, "1"]}]

    assert live.subject(live.Source(Announced({}), {}, 0.0)) == "flask-direct-u5-1"
    assert live.subject(live.Source(Answers({}), {}, 0.0)) == "what runs now"
