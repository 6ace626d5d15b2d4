"""What the dashboards keep of a ladder, and its ceiling's file, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab import runner
from lab.errors import ResultError, ServiceError
from lab.ladder import ceiling, records
from lab.ladder import runner as ladder_runner
from lab.prometheus import Prometheus
from lab.results import Run
from lab.snapshot import archive as archives
from lab.snapshot import command
from lab.snapshot.archive import Archive
from lab.snapshot.dashboards import Dashboard
from lab.snapshot.frames import DashboardData, PanelData, Series, Span

from .ladder_records import manifest, measured, record


def run_with(folder: Path, **changes: Any) -> Run:
    """Return a run of a rung and a ceiling."""
    run = Run(folder / "20261120-160000-ladder")
    times = {"window_start": 1010.0, "window_end": 1020.0, "started_at": 1000.0}
    warming = {"phases_s": {"warming": 4.0}}
    records.write(run, record("2-B", measured(), **(times | warming | changes)))
    records.write(run, record(records.COPY_CEILING, measured(), **times))
    run.write_manifest(manifest("2-B"))
    return run


@pytest.mark.parametrize(
    ("route", "names"),
    [
        ("direct", ["ladder", "database", "monitoring"]),
        ("pgbouncer", ["ladder", "database", "pgbouncer", "monitoring"]),
    ],
)
def test_a_ladder_keeps_the_dashboards_that_show_rungs(
    tmp_path: Path, route: str, names: list[str]
) -> None:
    """The ceilings are under no rung's name; a bench run keeps all but the ladder's."""
    run = run_with(tmp_path, route=route)
    found, pages = archives.measured(run)
    assert [r.cell_id for r in found] == ["2-B-r1"]
    assert [d.uid for d in pages] == [f"poolscope-{name}" for name in names]
    run.write_manifest(manifest("2-B", preset="quick"))
    found, pages = archives.measured(run)
    assert found == []
    assert len(pages) == 7
    assert "poolscope-ladder" not in [d.uid for d in pages]


def test_a_snapshot_of_one_rung_is_its_warm_up_and_window(tmp_path: Path, console: Any) -> None:
    """A ceiling is no rung, and that is one line with those there are."""
    run = run_with(tmp_path)
    panel = {"id": 1, "type": "timeseries", "gridPos": {"x": 0, "y": 0, "w": 8, "h": 8},
             "targets": [{"expr": "x"}]}  # fmt: skip
    board = Dashboard({"uid": "poolscope-ladder", "title": "Ladder", "panels": [panel]})
    over = Span(1000, 1030, 2)
    shown = PanelData((Series("A", "x", {}, tuple(map(float, range(over.points)))),))
    whole = Archive(over, (board,), {board.uid: DashboardData({1: shown})}, {})
    archives.write(run.folder / archives.NAME, whole)
    (rung,) = archives.measured(run)[0]
    assert whole.of_cell(rung).over == Span(1006, 1020, 2)
    made = command.make(run, command.Wanted(cell="2-B-r1", dashboard="ladder"), console)
    assert made[0] == run.folder / "snapshots" / "2-B-r1" / "poolscope-ladder.html"
    with pytest.raises(ResultError, match=r"unknown cell 'ceiling-r1' .*; cells: 2-B-r1"):
        command.make(run, command.Wanted(cell="ceiling-r1"), console)


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1"])
def test_a_ladder_is_not_lost_where_its_panels_cannot_be_kept(
    tmp_path: Path, url: str | None
) -> None:
    """A note says why."""
    (note,) = runner.keep_panels(run_with(tmp_path), url)
    assert note.startswith("the dashboards' panels were not kept: ")


def test_a_run_ends_once_prometheus_has_seen_its_last_rung_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither without Prometheus nor without an answer is anything waited for."""
    answers: list[Any] = [["a rung"], ["a rung"], [], ServiceError("gone")]

    def query(self: Prometheus, expr: str, at: float) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, ServiceError):
            raise answer
        return answer

    monkeypatch.setattr(Prometheus, "query", query)
    monkeypatch.setattr(ladder_runner, "POLL_S", 0.0)
    for left in (4, 1, 0):
        ladder_runner.wait_for_the_end(None if left == 4 else "http://127.0.0.1:1")
        assert len(answers) == left


class Stack:
    """Where pgbench and psql are; neither is started here."""

    def pgbench(self) -> Any:
        return type("Pgbench", (), {"command": ["/nowhere/pgbench"], "env": {}})


def test_a_ceiling_whose_rows_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the file cannot be made, or the disk is full halfway."""
    monkeypatch.setattr(ceiling.shutil, "which", lambda name: f"/nowhere/{name}")
    with pytest.raises(ServiceError, match=r"gone/ladder-rows.txt.*: No such file") as raised:
        ceiling.copy(Stack(), None, tmp_path / "gone", 42)
    assert "\n" not in str(raised.value)
    monkeypatch.setattr(ceiling, "FILE", "full")
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(ServiceError, match=r"was not written: .*No space left on device") as raised:
        ceiling.copy(Stack(), None, tmp_path, 42)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "full").is_symlink()
