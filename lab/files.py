"""Files that are whole or not there: written to a temporary name, synced and renamed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from lab.errors import ResultError


def write_atomic(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old or the new content and nothing between.

    A file that is there keeps its owner. Raises ResultError where it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        _write(path, data, mode)
    except OSError as error:
        raise ResultError(f"{path} cannot be written: {error.strerror or error}") from None


def _write(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if os.geteuid() == 0 and path.exists():
            os.chown(temporary, path.stat().st_uid, path.stat().st_gid)
        Path(temporary).chmod(mode)
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """Return a file's SHA-256 as hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
