"""Programs: the host's where they are there, fetched ones else, and a message where neither."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.errors import ServiceError
from lab.stack import toolchain
from lab.stack.toolchain import NEEDS, Toolchain


def program(path: Path) -> Path:
    """Make a program that prints a version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\necho thing 1.22.3 built yesterday\n")
    path.chmod(0o755)
    return path


def test_fetched_programs_are_found_with_their_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was unpacked is found, and gets the folders of its libraries and nothing else does."""
    fetched = program(tmp_path / "usr/sbin/pgbouncer")
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(toolchain, "ADMIN_FOLDERS", ())
    assert toolchain.find(tmp_path)["pgbouncer"] == fetched
    tools = Toolchain({"pgbouncer": fetched, "sh": Path("/bin/sh")}, tmp_path)
    assert str(libraries) in tools.env("pgbouncer")["LD_LIBRARY_PATH"].split(":")
    assert "LD_LIBRARY_PATH" not in tools.env("sh")
    assert tools.version("pgbouncer") == "1.22.3"


def test_the_hosts_program_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program on the path is taken before a fetched one, under either of its names."""
    program(tmp_path / "root/usr/bin/prometheus-postgres-exporter")
    host = program(tmp_path / "host/postgres_exporter")
    monkeypatch.setenv("PATH", str(host.parent))
    assert toolchain.find(tmp_path / "root")["postgres_exporter"] == host


def test_without_apt_each_missing_program_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what is missing and where it comes from."""
    monkeypatch.setattr(toolchain, "find", lambda root: {})
    monkeypatch.setattr(shutil, "which", lambda *args, **more: None)
    with pytest.raises(ServiceError) as raised:
        toolchain.ensure(tmp_path)
    for need in NEEDS:
        assert f"{need.name} ({need.project})" in str(raised.value)
    assert "no apt" in str(raised.value)


def test_an_interrupted_unpacking_leaves_no_half_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there stays whole, and nothing of the new is there, until all of it is."""
    root = tmp_path / "toolchain"
    kept = program(root / "usr/sbin/pgbouncer")

    def run(args: list[str], cwd: Path, *, check: bool = True) -> str:
        if args[:2] == ["dpkg", "-x"]:
            program(Path(args[3]) / "usr/bin/prometheus")
            raise KeyboardInterrupt
        if args[-1] == "thing":
            (cwd / "thing.deb").write_text("")
        return "Inst thing" if "-s" in args else ""

    monkeypatch.setattr(toolchain, "_run", run)
    with pytest.raises(KeyboardInterrupt):
        toolchain.fetch({"thing"}, root)
    assert [path for path in root.rglob("*") if path.is_file()] == [kept]
    monkeypatch.setattr(toolchain, "_run", lambda args, cwd, *, check=True: (
        program(Path(args[3]) / "usr/bin/prometheus") and "" if args[0] == "dpkg"
        else run(args, cwd, check=check)))  # fmt: skip
    toolchain.fetch({"thing"}, root)
    assert {path.name for path in root.rglob("*") if path.is_file()} == {"pgbouncer", "prometheus"}
    assert [path.name for path in tmp_path.iterdir()] == ["toolchain"]


def test_a_source_without_the_package_is_said(tmp_path: Path) -> None:
    """A package that apt does not know is an error with apt's own words."""
    if shutil.which("apt-get") is None:
        return
    with pytest.raises(ServiceError, match=r"apt-get failed: .*no-such-package-here"):
        toolchain.fetch({"no-such-package-here"}, tmp_path / "toolchain")
