"""What is kept of a run's dashboards, by a real Prometheus that knows a run of two cells."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.errors import ServiceError
from lab.prometheus import Prometheus
from lab.results import Run
from lab.snapshot import archive as archives
from lab.snapshot import dashboards
from lab.snapshot.archive import Archive
from lab.snapshot.dashboards import Dashboard
from lab.snapshot.frames import Mark, PanelData
from lab.stack.ready import wait_until
from tests.unit.report_records import manifest, record

WARMUP_S, WINDOW_S = 4, 10
#: What a cell's load adds to its counter each second: ten times as much as the cell before it.
RATE = {"a": 10.0, "b": 100.0}
READY_S = 30


def panel(number: int, kind: str, expr: str, *, instant: bool) -> dict[str, object]:
    """Return a panel with one query."""
    target = {"refId": "A", "expr": expr, "instant": instant, "legendFormat": "{{cell_id}}"}
    place = {"x": 0, "y": number, "w": 12, "h": 8}
    return {"id": number, "type": kind, "title": expr, "gridPos": place, "targets": [target]}


BOARD = Dashboard(
    {
        "uid": "poolscope-x",
        "title": "X",
        "panels": [
            panel(1, "stat", "lab_cell_info", instant=True),
            panel(2, "stat", "rate(requests_total[$__rate_interval])", instant=True),
            panel(3, "timeseries", "lab_cell_info", instant=False),
        ],
        "annotations": {
            "list": [{"name": "Windows", "expr": "window", "textFormat": "{{cell_id}}"}]
        },
    }
)


@dataclass(frozen=True)
class Story:
    """Two cells, one after the other, from a moment on."""

    start: int

    def window(self, cell: str) -> tuple[int, int]:
        """Return a window's first and last second."""
        first = self.start + WARMUP_S + (0 if cell == "a" else WARMUP_S + WINDOW_S)
        return first, first + WINDOW_S

    def samples(self) -> Iterator[str]:
        """Yield every second's samples, as promtool reads them."""
        count, lines = 0.0, {"lab_cell_info": "", "window": "", "requests_total": ""}
        for cell in ("a", "b"):
            first, last = self.window(cell)
            for moment in range(first - WARMUP_S, last + 1):
                if cell == "b" and moment == first - WARMUP_S:
                    continue  # the last second of the cell before it
                count += RATE[cell]
                lines["requests_total"] += f"requests_total {count} {moment}\n"
                lines["lab_cell_info"] += f'lab_cell_info{{cell_id="{cell}"}} 1 {moment}\n'
                if moment >= first:
                    lines["window"] += f'window{{cell_id="{cell}"}} 1 {moment}\n'
        yield f"# TYPE lab_cell_info gauge\n{lines['lab_cell_info']}"
        yield f"# TYPE window gauge\n{lines['window']}"
        yield f"# TYPE requests counter\n{lines['requests_total']}# EOF\n"


@pytest.fixture(scope="module")
def story() -> Story:
    """A run of an hour ago, on an even second as the grid is."""
    return Story(int(time.time() - 3600) // 2 * 2)


@pytest.fixture(scope="module")
def url(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus with the story in its store; a sample that is a second old is gone."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "samples.txt").write_text("".join(story.samples()))
    (folder / "prometheus.yml").write_text("")
    subprocess.run(
        [os.environ["PROMTOOL"], "tsdb", "create-blocks-from", "openmetrics",
         str(folder / "samples.txt"), str(folder / "data")],
        check=True, capture_output=True,
    )  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    server = subprocess.Popen(
        [os.environ["PROMETHEUS"], f"--config.file={folder}/prometheus.yml",
         f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}",
         "--query.lookback-delta=999ms"],
        stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"),
    )  # fmt: skip
    try:
        wait_until(
            lambda: answers(f"http://{address}", story),
            "prometheus",
            READY_S,
            alive=lambda: server.poll() is None,
            tail=(folder / "log").read_text,
            errors=(ServiceError,),
        )
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(10)


def answers(url: str, story: Story) -> None:
    """Raise ServiceError while the store is not read yet."""
    if not Prometheus(url).query("lab_cell_info", story.start + WARMUP_S):
        raise ServiceError("no samples yet")


@pytest.fixture
def kept(
    url: str, story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Archive, Run]:
    """What was kept of the run, written and read again."""
    monkeypatch.setattr(dashboards, "load", lambda: [BOARD])
    run = Run(tmp_path / "20261120-160000-test")
    cells = []
    for name in RATE:
        first, last = story.window(name)
        cells.append(record(cell_id=name, started_at=float(first - WARMUP_S),
                            window_start=float(first), window_end=float(last),
                            settings={"WARMUP": WARMUP_S}))  # fmt: skip
        run.write_record(cells[-1])
    run.write_manifest(manifest(cells))
    archives.collect(run, url, settled=story.window("b")[1] + 5.0)
    return archives.read(run), run


def values(data: PanelData) -> dict[str, float | None]:
    return {series.name: series.values[-1] for series in data.series}


def test_instants_of_a_cell_are_its_own(kept: tuple[Archive, Run]) -> None:
    """They are asked at its last moment, and a rate looks back no further than its load."""
    archive, run = kept
    for one in run.records():
        panels = archive.of_cell(one).data[BOARD.uid].panels
        assert values(panels[1]) == {one.cell_id: 1.0}
        (rate,) = values(panels[2]).values()
        assert rate == pytest.approx(RATE[one.cell_id], rel=0.01)


def test_instants_of_a_run_see_its_last_cell(kept: tuple[Archive, Run]) -> None:
    archive, _ = kept
    assert values(archive.data[BOARD.uid].panels[1]) == {"b": 1.0}


def test_windows_of_a_run_are_regions_named_by_cell(
    kept: tuple[Archive, Run], story: Story
) -> None:
    archive, run = kept
    (a, b) = (tuple(map(float, story.window(name))) for name in RATE)
    assert archive.data[BOARD.uid].marks["Windows"] == (
        Mark(a[0], "a", a[1]), Mark(b[0], "b", b[1]),
    )  # fmt: skip
    (first, _) = run.records()
    of_cell = archive.of_cell(first)
    assert of_cell.data[BOARD.uid].marks["Windows"] == (Mark(a[0], "a", a[1]),)
    assert of_cell.over.start == a[0] - WARMUP_S
