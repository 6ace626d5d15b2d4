"""A store of samples for each run: which are kept, which are removed, and what never is."""

from __future__ import annotations

import calendar
import sys
from pathlib import Path

import pytest

from lab.config import presets
from lab.paths import ROOT
from lab.runner import new_run_id
from lab.settings import build
from lab.stack import stores
from lab.stack.compose import ComposeStack
from lab.stack.docker import Engine
from lab.stack.home import Home
from lab.stack.images import Images
from lab.stack.monitoring import commands, looking_back
from lab.stack.toolchain import Toolchain
from monitoring.signals import SCRAPE_INTERVAL_S

#: What a Prometheus of an older version has in its one folder.
OLDER = ("wal", "chunks_head", "lock", "queries.active", "01KB2Y5H8ZJ6W3V4T5R6Q7P8N9")
RUNS = [f"20261101-1200{second:02d}-quick" for second in range(4)]
#: 30 days after the second of them.
NOW = calendar.timegm((2026, 12, 1, 12, 0, 1))

#: Runs what it is given in a folder in place of the volume.
DOCKER = """#!{python}
import subprocess, sys
words = [word.replace("/prometheus", "{folder}") for word in sys.argv[1:]]
if words[0] == "volume":
    print("lab_prometheus_data" if "{there}" else "other_lab_prometheus_data")
else:
    assert "lab_prometheus_data:{folder}" in words, words
    place = words.index("-c")
    sys.exit(subprocess.run(["sh", *words[place:]]).returncode)
"""


def make(folder: Path, *names: str) -> None:
    """Make stores with a file of samples each."""
    for name in names:
        (folder / name / "wal").mkdir(parents=True)
        (folder / name / "wal" / "00000000").touch()


def there(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_run_s_id_is_a_store(tmp_path):
    for name in (*presets(), "ladder", "ladder-crash", "confirm", "tune", "diagnosis-suite"):
        assert stores.is_store(new_run_id(name, tmp_path, 1.8e9))
    (tmp_path / new_run_id("quick", tmp_path, 1.8e9)).mkdir()
    assert stores.is_store(new_run_id("quick", tmp_path, 1.8e9))
    assert stores.is_store("up")
    assert not [name for name in (*OLDER, "..", ".", "", "20261101-quick") if stores.is_store(name)]


def test_stores_of_more_than_30_days_are_removed_and_nothing_else(tmp_path):
    make(tmp_path, *RUNS, "up", *OLDER, "my-own-notes", "20250101-my-notes")
    stores.begin(tmp_path, "20261127-120000-quick", NOW)
    assert there(tmp_path) == {*RUNS[1:], "up", *OLDER, "my-own-notes", "20250101-my-notes"}


def test_a_resumed_run_keeps_its_store_however_old_it_is(tmp_path):
    make(tmp_path, *RUNS)
    stores.begin(tmp_path, RUNS[0], NOW + 86_400)
    assert there(tmp_path) == {RUNS[0]}


def test_make_up_begins_with_an_empty_store(tmp_path):
    make(tmp_path, RUNS[1], "up")
    stores.begin(tmp_path, "up", NOW)
    assert there(tmp_path) == {RUNS[1]}
    stores.begin(tmp_path / "nothing", "up", NOW)


def test_a_link_is_no_store(tmp_path):
    """Nothing outside the folder is followed or removed."""
    make(tmp_path / "elsewhere", "samples")
    folder = tmp_path / "stores"
    folder.mkdir()
    (folder / "up").symlink_to(tmp_path / "elsewhere")
    stores.begin(folder, "up", NOW)
    assert there(folder) == {"up"}
    assert there(tmp_path / "elsewhere") == {"samples"}


def test_a_store_without_samples_holds_none(tmp_path):
    make(tmp_path, RUNS[0])
    (tmp_path / RUNS[1] / "wal").mkdir(parents=True)
    assert [stores.holds(tmp_path, name) for name in RUNS[:3]] == [True, False, False]


@pytest.fixture
def volume(tmp_path, monkeypatch):
    """Return a maker of a volume whose containers see a folder of this host."""
    folder = tmp_path / "volume"
    folder.mkdir()

    def of(*, there: bool = True) -> stores.Volume:
        program = tmp_path / "docker"
        text = DOCKER.format(python=sys.executable, folder=folder, there="yes" if there else "")
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return stores.Volume("lab", "prom/prometheus")

    return folder, of


def test_the_volume_s_stores_are_kept_by_the_same_rules(volume):
    folder, of = volume
    make(folder, *RUNS, "up", *OLDER)
    of().begin("up", NOW)
    assert there(folder) == {*RUNS[1:], *OLDER}
    assert of().holds(RUNS[-1])
    assert not of().holds(RUNS[0])


def test_a_volume_that_is_not_there_is_not_made(volume):
    folder, of = volume
    make(folder, *RUNS)
    of(there=False).begin("up", NOW)
    assert there(folder) == set(RUNS)
    assert not of(there=False).holds(RUNS[0])


def test_prometheus_writes_to_the_store_and_forgets_soon(tmp_path, programs: Toolchain):
    """What ended is gone after two scrapes of the slowest job, on both stacks."""
    home = Home(tmp_path)
    home.run.mkdir()
    started = {"postgres_exporter": 0.0}
    args = list(commands(programs, home, build({}), RUNS[0], "t", started))[-1][0].args
    assert f"--storage.tsdb.path={home.prometheus_data / RUNS[0]}" in args
    assert 2 * max(SCRAPE_INTERVAL_S.values()) < stores.LOOKBACK_S < 15
    option = f"--query.lookback-delta={stores.LOOKBACK_S}s"
    assert option in args
    compose = (ROOT / "docker-compose.yml").read_text()
    assert f"- {option}\n" in compose
    assert f"- --storage.tsdb.path={stores.MOUNTED}/${{PROMETHEUS_STORE:-{stores.UP}}}\n" in compose
    retention = f"- --storage.tsdb.retention.time=${{PROMETHEUS_RETENTION:-{stores.RETENTION}}}\n"
    assert retention in compose


def test_looking_back_scrapes_nothing_and_loses_nothing(tmp_path, programs: Toolchain):
    home = Home(tmp_path)
    args = looking_back(programs, home, build({}), RUNS[0]).args
    config = next(a for a in args if a.startswith("--config.file=")).partition("=")[2]
    words = [line for line in Path(config).read_text().splitlines() if not line.startswith("#")]
    assert words == ["global: {}"]
    assert f"--storage.tsdb.retention.time={stores.KEPT_RETENTION}" in args


def test_the_compose_file_is_told_which_store(volume, tmp_path):
    """So that containers write to the run's own folder of the volume."""
    volume[1]()
    home = Home(tmp_path / "home")
    engine = Engine("28.0", "2.30", 2, 2**30, "v2", cpu_limits=True, rootless=False)
    found = Images({"PROMETHEUS_IMAGE": "prom/prometheus"}, None)
    stack = ComposeStack(home, engine, found, {"grafana_port": 3000}, set())
    stack._use(build({}))
    assert stack.project.env["PROMETHEUS_STORE"] == "up"
    stack.keep(RUNS[0])
    stack._use(build({}))
    assert stack.project.env["PROMETHEUS_STORE"] == RUNS[0]
    assert "PROMETHEUS_CONFIG" not in stack.project.env
    assert stack.grafana_url is None
