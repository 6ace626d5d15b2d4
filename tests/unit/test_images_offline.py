"""How offline images are planned, what goes into a build, and what is said where it cannot be."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from lab.errors import ConfigError, ServiceError
from lab.images import base, offline
from lab.images.base import DEBIAN_12, DEBIAN_13
from lab.images.engine import Engine
from lab.stack.home import Home

IMAGE = "postgres:offline"


def docker(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Put a program in the place of the docker command, and open the engine behind it."""
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return Engine.open()


def test_each_image_is_built_over_one_that_is_there_by_then() -> None:
    """Bases first, and Python before what is built over it."""
    there = {DEBIAN_12.name, DEBIAN_13.name}
    for recipe in offline.RECIPES_IN_ORDER:
        assert recipe.base in there
        there.add(recipe.name)
        dockerfile, context = recipe.place
        assert f"ARG {recipe.argument}" in dockerfile.read_text()
        assert context.is_dir()


def test_every_variable_but_grafanas_has_an_image() -> None:
    assert offline.variables() == {
        "POSTGRES_IMAGE": "poolscope/postgres:offline",
        "PGBOUNCER_IMAGE": "poolscope/pgbouncer:offline",
        "PROMETHEUS_IMAGE": "poolscope/prometheus:offline",
        "POSTGRES_EXPORTER_IMAGE": "poolscope/postgres-exporter:offline",
        "PGBOUNCER_EXPORTER_IMAGE": "poolscope/pgbouncer-exporter:offline",
        "PYTHON_IMAGE": "poolscope/python:offline",
        "POOLSCOPE_IMAGE": "poolscope/app:offline",
    }


def test_lines_are_set_in_place_and_the_rest_is_left() -> None:
    """A name that is there keeps its place and its comment; a new one comes last."""
    text = "# mine\nUSERS=7\n# image\nPOSTGRES_IMAGE=postgres:17\n"
    lines = ["POSTGRES_IMAGE=a:offline", "PYTHON_IMAGE=b:offline"]
    set_once = offline.with_lines(text, lines)
    assert set_once == (
        "# mine\nUSERS=7\n# image\nPOSTGRES_IMAGE=a:offline\nPYTHON_IMAGE=b:offline\n"
    )
    assert offline.with_lines(set_once, lines) == set_once


def test_lines_are_written_with_the_files_own_mode(tmp_path: Path) -> None:
    """A file of secrets stays one."""
    path = tmp_path / "env"
    path.write_text("USERS=7\n")
    path.chmod(0o600)
    offline.tell(path, Console(file=StringIO()))
    assert "POOLSCOPE_IMAGE=poolscope/app:offline\n" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_missing_env_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"WRITE=nowhere: there is no .*make setup"):
        offline.env_file("nowhere")


def test_index_of_the_host_is_handed_in() -> None:
    """The environment wins over the files, and a folder of the host is of no use in a build."""
    config = (
        ":env:.index-url='https://own/simple'\n"
        "global.index-url='https://global/simple'\n"
        "global.extra-index-url='file:///opt/simple http://more/simple'\n"
        "download.index-url='https://other/simple'\n"
        "global.cert='/etc/ssl/cert.pem'\n"
    )
    assert offline.index_arguments(config) == {
        "PIP_INDEX_URL": "https://own/simple",
        "PIP_EXTRA_INDEX_URL": "http://more/simple",
    }
    assert offline.index_arguments("global.timeout='9'\n") == {}


def test_index_with_a_password_is_refused() -> None:
    """It would stay in the image's history, and is not in the message either."""
    with pytest.raises(ConfigError, match="user name or password") as raised:
        offline.index_arguments("global.index-url='https://me:word@own/simple'\n")
    assert "word@" not in str(raised.value)


def test_base_is_made_again_where_what_it_is_made_of_changed() -> None:
    one = base.fingerprint(DEBIAN_13, "http://mirror/debian", b"certificates")
    assert one == base.fingerprint(DEBIAN_13, "http://mirror/debian", b"certificates")
    others = {
        base.fingerprint(DEBIAN_12, "http://mirror/debian", b"certificates"),
        base.fingerprint(DEBIAN_13, "http://other/debian", b"certificates"),
        base.fingerprint(DEBIAN_13, "http://mirror/debian", b"renewed"),
    }
    assert len(others | {one}) == 4


def test_mirror_is_the_hosts_where_it_is_debian() -> None:
    """Of the sources of a host, the first that holds Debian's releases themselves."""
    lines = "main bookworm-security http://s/debian-security/\nmain bookworm http://m/debian/\n"
    assert base.choose_mirror("main nodistro https://node/\n" + lines) == "http://m/debian"
    with pytest.raises(ConfigError, match="POOLSCOPE_DEBIAN_MIRROR="):
        base.choose_mirror("main noble http://ubuntu/\n")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Cannot connect to the Docker daemon at unix:///x. Is it?", "no Docker engine answers"),
        ("permission denied while trying to connect to the socket", "refuses this account"),
        ("error during connect: no such host", "error during connect: no such host"),
    ],
)
def test_engine_that_does_not_answer_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, message: str
) -> None:
    """One line with the next step."""
    with pytest.raises(ServiceError, match=message) as raised:
        docker(tmp_path, f"echo '{said}' >&2; exit 1", monkeypatch)
    assert "\n" not in str(raised.value)


def test_no_docker_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match="no docker command; install Docker"):
        Engine.open()


def test_build_that_fails_ends_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message holds the build's last line and where the others are."""
    script = 'case $1 in build) echo step; echo "no package x"; echo; exit 1;; esac'
    engine = docker(tmp_path, script, monkeypatch)
    log_file = tmp_path / "build.log"
    with pytest.raises(ServiceError, match=r"was not built: no package x; see .*build.log"):
        engine.build(IMAGE, (tmp_path / "Dockerfile", tmp_path), {}, log_file)


def test_base_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root the message says how to have the base made once."""
    engine = docker(tmp_path, "case $1 in image) exit 1;; esac", monkeypatch)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ServiceError, match="needs root; run `sudo make images-offline` once"):
        base.ensure(engine, DEBIAN_13, tmp_path)


def test_base_without_debootstrap_or_apt_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = docker(tmp_path, "case $1 in image) exit 1;; esac", monkeypatch)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda *args, **more: None)
    monkeypatch.setenv(base.MIRROR_VARIABLE, "http://mirror/debian")
    with pytest.raises(ServiceError, match=r"has no debootstrap and no wget.*, and no apt-get"):
        base.ensure(engine, DEBIAN_13, tmp_path)


def test_refresh_without_the_images_says_what_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker(tmp_path, "case $1 in image) exit 1;; esac", monkeypatch)
    with pytest.raises(ServiceError, match="run `make images-offline` first"):
        offline.refresh(Home(tmp_path / "home"))
