"""What the images are made of: locks, Dockerfiles, PgBouncer's entrypoint, the engine script."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from lab.paths import ROOT
from lab.settings import build

DOCKERFILES = [
    ROOT / "apps" / "Dockerfile",
    ROOT / "pgbouncer" / "Dockerfile",
    *sorted((ROOT / "lab" / "images" / "recipes").glob("*/Dockerfile")),
]


def pins(lock: Path) -> dict[str, tuple[str, set[str]]]:
    """Return version and hashes of each package of a lock."""
    parts = re.split(r"\n(?=\S)", lock.read_text().strip())
    found = {}
    for part in parts:
        name, version = re.findall(r"^(\S+?)==(\S+)", part)[0]
        found[name] = version, set(re.findall(r"--hash=(\S+)", part))
    return found


@pytest.fixture(scope="module")
def entrypoint() -> ModuleType:
    """PgBouncer's entrypoint: a program in the image, and no module of Poolscope's."""
    spec = importlib.util.spec_from_file_location("entrypoint", ROOT / "pgbouncer/entrypoint.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_image_has_the_versions_of_the_lock() -> None:
    """The image's lock is a part of requirements.lock, hashes included: `make lock` makes both."""
    whole = pins(ROOT / "requirements.lock")
    image = pins(ROOT / "apps" / "requirements.lock")
    assert {name: whole.get(name) for name in image} == image
    wanted = (ROOT / "apps" / "requirements.in").read_text().splitlines()
    names = {line.partition("[")[0] for line in wanted if not line.startswith("#")}
    assert names <= set(image)


def test_image_is_without_the_instrument() -> None:
    """What draws and checks is no part of a service's image."""
    image = pins(ROOT / "apps" / "requirements.lock")
    assert not {"matplotlib", "numpy", "playwright", "mypy", "ruff", "typer"} & set(image)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfile_needs_no_buildx_and_no_root(dockerfile: Path) -> None:
    """The classic builder knows no syntax line and no mounts; only the base of bases is root."""
    text = dockerfile.read_text()
    assert "# syntax" not in text
    assert "--mount" not in text
    assert "--chmod" not in text
    assert "://" not in text
    if dockerfile.parent.name != "python":
        user = re.findall(r"^USER (\S+)$", text, re.MULTILINE)[-1]
        assert int(user.partition(":")[0]) > 0


def test_no_secret_reaches_a_build() -> None:
    """The context is what is named, so that .env, results and history stay outside."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {line[1:] for line in rules if line.startswith("!")}
    assert let_in == {"apps", "database", "loadtest", "monitoring", "pgbouncer"}


def test_pgbouncer_starts_with_the_defaults_of_the_toggles(entrypoint: ModuleType) -> None:
    """Without an environment the image does what .env.example says."""
    settings = build({})
    assert {n: str(getattr(settings, n.lower())) for n in entrypoint.TOGGLES} == entrypoint.TOGGLES
    text = entrypoint.render(entrypoint.settings({}), (1, 24, 1))
    assert "pool_mode = transaction\n" in text
    assert "max_prepared_statements = 200\n" in text
    assert "host=postgres port=5432" in text


def test_pgbouncer_takes_a_toggle_and_an_empty_one_is_the_default(entrypoint: ModuleType) -> None:
    given = {"PGBOUNCER_POOL_MODE": "session", "PGBOUNCER_STATS_PERIOD": ""}
    text = entrypoint.render(entrypoint.settings(given), (1, 18))
    assert "pool_mode = session\n" in text
    assert "stats_period = 60\n" in text
    assert "max_prepared_statements" not in text


@pytest.mark.parametrize("value", ["session\nauth_type = any", "two words", "a;b"])
def test_pgbouncer_refuses_what_would_be_another_line(entrypoint: ModuleType, value: str) -> None:
    """An ini file has no way to quote it."""
    with pytest.raises(entrypoint.EntrypointError, match=r"PGBOUNCER_POOL_MODE=.* is not one word"):
        entrypoint.settings({"PGBOUNCER_POOL_MODE": value})


def test_pgbouncer_names_a_missing_user_list(entrypoint: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(entrypoint.EntrypointError, match="run the seed first"):
        entrypoint.check_readable(tmp_path / "userlist.txt")


def fake(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def engine(tmp_path: Path, verb: str, uid: int = 0) -> subprocess.CompletedProcess[str]:
    """Run .ci/engine with programs in place of docker, dockerd and id."""
    fake(tmp_path, "docker", "exit 1")
    fake(tmp_path, "dockerd", "echo level=info; echo failed to start daemon: no rights; exit 1")
    fake(tmp_path, "id", f"echo {uid}")
    fake(tmp_path, "apt-get", "exit 1")
    return subprocess.run(
        [str(ROOT / ".ci" / "engine"), verb],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "POOLSCOPE_ENGINE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_engine_says_in_a_line_why_it_cannot_start(tmp_path: Path) -> None:
    """The daemon's own last word, and where the rest is."""
    done = engine(tmp_path, "start")
    assert done.returncode == 2
    assert done.stderr.startswith("engine: dockerd ended: failed to start daemon: no rights; ")
    assert done.stderr.count("\n") == 1


def test_engine_needs_root_to_start_one(tmp_path: Path) -> None:
    done = engine(tmp_path, "start", uid=1000)
    assert done.returncode == 2
    assert "only root can change that" in done.stderr


def test_engine_ends_none_that_it_did_not_start(tmp_path: Path) -> None:
    """A pid that another program has got since is left alone."""
    (tmp_path / "home").mkdir()
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "home" / "dockerd.pid").write_text(str(other.pid))
        done = engine(tmp_path, "stop")
        assert done.returncode == 0
        assert "none that was started here" in done.stdout
        assert other.poll() is None
        other.terminate()
