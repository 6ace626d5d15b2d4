"""What gone workers counted stays counted, in a number of files that does not grow."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from apps.common.exposition import exposition
from apps.common.gone_workers import fold, reading
from tests.unit.scrapes import samples, taken

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
from prometheus_client import Counter, Gauge, Histogram
Counter("events", "c", ["kind"]).labels("a").inc(3)
Gauge("level", "g", multiprocess_mode="livesum").set(1)
seconds = Histogram("seconds", "h", buckets=(0.5, 1.0))
for value in (0.25, 0.75, 0.75, 8.0):
    seconds.observe(value)
import os
print(os.getpid())
"""
OF_ONE = {
    'events_total{kind="a"}': 3.0,
    'seconds_bucket{le="0.5"}': 1.0,
    'seconds_bucket{le="1.0"}': 3.0,
    'seconds_bucket{le="+Inf"}': 4.0,
    "seconds_count": 4.0,
    "seconds_sum": 9.75,
}


def live_and_die(folder: Path) -> int:
    """Let a process count something; return its pid."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER], env={"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


def names(folder: Path) -> list[str]:
    """Return the files of counters and histograms."""
    return sorted(path.name for path in folder.glob("*.db") if "livesum" not in path.name)


def counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Return the counters and histograms of a scrape."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    text = taken(exposition().decode())
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    values = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
    return {name: value for name, value in values.items() if name in OF_ONE}


def test_fold_keeps_the_sums_exact_and_the_files_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of several workers a scrape gives what it gave before the files were folded."""
    for died in range(1, 5):
        pid = live_and_die(tmp_path)
        expected = {name: value * died for name, value in OF_ONE.items()}
        assert counted(tmp_path, monkeypatch) == expected
        fold(tmp_path, {pid})
        assert (tmp_path / f"counter_{pid}.db").exists()
        fold(tmp_path, {})
        assert counted(tmp_path, monkeypatch) == expected
        assert names(tmp_path) == ["counter_gone.db", "histogram_gone.db"]


def test_fold_of_a_worker_that_was_killed_at_its_birth(tmp_path: Path) -> None:
    """It had made its file, and not yet given it a size."""
    (tmp_path / "counter_17.db").touch()
    fold(tmp_path, {})
    assert names(tmp_path) == ["counter_gone.db"]


def test_fold_leaves_the_files_to_a_scrape_under_way(tmp_path: Path) -> None:
    """It does not wait either: the worker that scrapes may be stuck. The next one takes them."""
    (tmp_path / "counter_17.db").touch()
    with reading(tmp_path), reading(tmp_path):
        fold(tmp_path, {})
        assert names(tmp_path) == ["counter_17.db"]
    fold(tmp_path, {})
    assert names(tmp_path) == ["counter_gone.db"]


def test_scrapes_during_folds_never_see_a_count_twice_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum that falls and rises again would be a rate that never was."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for pid in range(40):
        values = MmapedDict(str(tmp_path / f"counter_{pid}.db"))
        values.write_value(mmap_key("events", "events_total", [], [], "c"), 1.0, 0.0)
        values.close()
    ended = threading.Event()

    def fold_one_by_one() -> None:
        for pid in range(40):
            fold(tmp_path, range(pid + 1, 40))
        ended.set()

    def events() -> set[float]:
        found = samples(exposition().decode())
        return {value for (name, _), value in found.items() if name == "events_total"}

    folding = threading.Thread(target=fold_one_by_one)
    folding.start()
    seen: set[float] = set()
    while not ended.is_set():
        seen |= events()
    folding.join()
    assert seen | events() == {40.0}


def test_scrape_without_the_folder_fails_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one that succeeds says that there was one that did not."""

    def failed() -> float:
        found = {name: value for (name, _), value in samples(exposition().decode()).items()}
        return found["poolscope_scrape_errors_total"]

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    before = failed()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError):
        exposition()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert failed() == before + 1
