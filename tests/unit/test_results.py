"""Records on disk: whole or not there, sealed, and of one schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import results
from lab.errors import ResultError
from lab.files import write_atomic

from .report_records import run_of


def test_write_atomic_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails leaves the old content and no temporary file."""
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ResultError, match="file cannot be written: disk full"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_run_and_latest_are_found(tmp_path: Path) -> None:
    """A run is found by its id and by `latest`, which is a link."""
    run = results.create(tmp_path, "one")
    results.create(tmp_path, "two")
    results.point_latest(tmp_path, "two")
    assert results.find(tmp_path, "latest").run_id == "two"
    results.point_latest(tmp_path, "one")
    assert results.find(tmp_path, "latest").folder == run.folder.resolve()


@pytest.mark.parametrize("name", ["three", "../one", "", "."])
def test_unknown_run_is_refused(tmp_path: Path, name: str) -> None:
    """An unknown id is refused with the newest ones; a path never leads out of the folder."""
    results.create(tmp_path, "one")
    with pytest.raises(ResultError, match=r"unknown run .* newest runs: one"):
        results.find(tmp_path, name)


def test_record_without_seal_was_interrupted(tmp_path: Path) -> None:
    """A record counts once its hash is there, and no longer when it was altered."""
    _, records = run_of({"FRAMEWORK": ["flask"]}, 1)
    run = results.create(tmp_path, records[0].run_id)
    run.write_record(records[0])
    assert run.record(records[0].cell_id) == records[0]
    folder = run.cell_folder(records[0].cell_id)
    (folder / "record.json").write_text("{}")
    with pytest.raises(ResultError, match="does not match its hash"):
        run.record(records[0].cell_id)
    (folder / "record.sha256").unlink()
    assert run.record(records[0].cell_id) is None


def test_another_schema_is_refused(tmp_path: Path) -> None:
    """Records of another version are named, not misread."""
    manifest, _ = run_of({"FRAMEWORK": ["flask"]}, 1)
    run = results.create(tmp_path, manifest.run_id)
    run.write_manifest(manifest)
    path = run.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(ResultError, match="has schema 99, this version reads 1"):
        run.manifest()


def test_manifest_has_the_hash_of_every_file(tmp_path: Path) -> None:
    """What is in the folder is in the manifest, hidden files apart."""
    manifest, _ = run_of({"FRAMEWORK": ["flask"]}, 1)
    run = results.create(tmp_path, manifest.run_id)
    write_atomic(run.folder / "cells" / "a" / "x.json", "{}")
    run.write_manifest(manifest)
    assert run.manifest().files.keys() == {"cells/a/x.json"}
